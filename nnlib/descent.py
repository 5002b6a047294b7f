"""How does a loss go down, step by step, whatever it is? One loop, which resumes where it was interrupted.

``descend`` takes a loss and an optimiser; ``nnlib.training.fit`` is the same on minibatches of a data set.
"""

import os
from collections.abc import Callable, Container
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol
from zipfile import BadZipFile

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from nnlib.arguments import function, shown, typed, whole, within
from nnlib.modes import NonFiniteLoss

# Steps between two looks at the loss: free on the CPU, elsewhere each look makes the program wait for the device.
LOOK_EVERY = {"cpu": 1}


class Part(Protocol):
    """Something that changes during training and can be saved."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@typed
class Checkpoint:
    """A file that holds everything that changes during a descent, so that a resumed one is the same one.

    The state of torch's global generators is saved too: dropout and whatever else draws from them goes on as it would.

    Args:
        path: The file; its folder is made.
        every: Steps between two saves.
        asked: What the run was asked for; a file that was made for anything else is refused.
        parts: By name, networks, optimisers, schedules, generators, and whatever has ``state_dict`` and
            ``load_state_dict``.

    Raises:
        TypeError: for a part whose state can't be saved and loaded, by its name.
        ValueError: for a path that is a folder, or fewer than one step between two saves.
    """

    def __init__(
        self, path: str | os.PathLike, *, every: int = 1000, asked: Any = None, **parts: Part | torch.Generator
    ):
        whole(1, every=every)
        if Path(path).is_dir():
            raise ValueError(f"path must be that of a file: got the folder {str(path)!r}")
        for name, part in parts.items():
            methods = [getattr(part, method, None) for method in ("state_dict", "load_state_dict")]
            if isinstance(part, type) or not (isinstance(part, torch.Generator) or all(map(callable, methods))):
                raise TypeError(
                    f"{name} must be a generator, or have state_dict and load_state_dict: got {shown(part)}"
                )
        self.path, self.every, self.asked, self.parts = Path(path), every, asked, parts

    def save(self, step: int, stopped: bool = False) -> None:
        """Write the file in one step: an interruption leaves the old one whole."""
        state = {
            "step": step,
            "stopped": stopped,
            "asked": self.asked,
            "random": torch.get_rng_state(),
            "random on devices": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "parts": {
                name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
                for name, part in self.parts.items()
            },
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f"{self.path.name}.part")
        torch.save(state, unfinished)
        os.replace(unfinished, self.path)

    def load(self) -> tuple[int, bool]:
        """Put everything back as it was; the step it was saved at (0 where there is no file), and whether it had ended.

        Raises:
            ValueError: where the file was made by a run that was asked for something else, has other parts, or is no
                whole checkpoint.
        """
        if not self.path.exists():
            return 0, False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            whole = {"step", "stopped", "asked", "random", "parts"} <= set(state)
        except (RuntimeError, EOFError, OSError, TypeError, UnpicklingError, BadZipFile):
            whole = False
        if not whole:
            raise ValueError(f"{self.path} is no whole checkpoint: delete it, or choose another file")
        if state["asked"] != self.asked:
            raise ValueError(
                f"checkpoint {self.path} was made with {state['asked']}, not {self.asked}: choose another file"
            )
        if set(state["parts"]) != set(self.parts):
            names = ", ".join(sorted(state["parts"]))
            raise ValueError(f"checkpoint {self.path} holds {names}, not {', '.join(sorted(self.parts))}")
        for name, part in self.parts.items():
            if isinstance(part, torch.Generator):
                part.set_state(state["parts"][name])
            else:
                part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["random"])
        if state["random on devices"]:
            torch.cuda.set_rng_state_all(state["random on devices"])
        return state["step"], state["stopped"]


@typed
def descend(
    loss: Callable[[], Tensor],
    optimizer: Optimizer,
    steps: int,
    *,
    clip: float | None = None,
    schedule: LRScheduler | None = None,
    after: Callable[[int, Tensor], bool | None] | None = None,
    look_at: Container[int] = (),
    checkpoint: Checkpoint | None = None,
    progress: bool | None = False,
) -> int:
    """Take optimiser steps down a loss.

    Args:
        loss: Computes a fresh loss, a tensor of one number; draws its own batch.
        optimizer: Any torch optimiser.
        steps: Total number of steps, those of a checkpoint included.
        clip: Largest norm of the gradient over all of the optimiser's parameters, positive, or None.
        schedule: Its ``step`` is called after each step.
        after: Called after each step with its number, from 1, and its loss, detached; training ends where it returns
            True.
        look_at: Steps at which the loss is looked at before ``after`` is called; on a GPU it is not looked at always.
        checkpoint: Saved now and then and at the end, and resumed where its file exists.
        progress: Show a bar; None: on a terminal and not in a notebook.

    Returns:
        The number of steps taken, those of the checkpoint included.

    Raises:
        NonFiniteLoss: at the first step whose loss is infinite or not a number, naming it.
        TypeError: for a loss that is no function, or that does not return a tensor of one number.
        ValueError: for a negative number of steps, a clip that is not positive, or a checkpoint that has already taken
            more.

    Chapter: all.

    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> descend(lambda: x.square().sum(), torch.optim.SGD([x], lr=0.25), 3), x.item()
    (3, 0.25)
    """
    function(loss=loss, after=after)
    whole(0, steps=steps)
    if clip is not None:
        within("(0, inf)", clip=clip)
    step, stopped = checkpoint.load() if checkpoint is not None else (0, False)
    if checkpoint is not None and step > steps:
        raise ValueError(f"checkpoint {checkpoint.path} has taken {step} steps, more than the {steps} asked for")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    unseen: list[Tensor] = []  # losses not yet looked at
    bar = tqdm(initial=step, total=steps, disable=None if progress is None else not progress)
    while step < steps and not stopped:
        value = one_number(loss())
        unseen.append(value.detach())
        if len(unseen) == LOOK_EVERY.get(value.device.type, 100):  # before it spoils the weights
            _refuse_non_finite(unseen, step + 1)
            unseen.clear()
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        step += 1
        bar.update()
        saving = checkpoint is not None and (step % checkpoint.every == 0 or step == steps)
        if unseen and (saving or step in look_at or step == steps):
            _refuse_non_finite(unseen, step)
            unseen.clear()
        if after is not None:
            stopped = bool(after(step, value.detach()))
        if checkpoint is not None and (saving or stopped):
            checkpoint.save(step, stopped)
    bar.close()
    return step


def one_number(loss: Any) -> Tensor:
    """What a loss has returned; refused where it is no tensor of one number."""
    if not (isinstance(loss, Tensor) and loss.numel() == 1):
        raise TypeError(f"loss must return a tensor of one number, as a mean over the batch: got {shown(loss)}")
    return loss


def _refuse_non_finite(losses: list[Tensor], last_step: int) -> None:
    """Raise at the first of these losses that is not finite; they end with that of ``last_step``."""
    values = torch.stack(losses).cpu()
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        first = int(bad[0])
        raise NonFiniteLoss(last_step - len(losses) + 1 + first, values[first].item())
