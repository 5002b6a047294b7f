"""What of a noisy optimiser must be saved, so that a resumed run is the same run, and whose state may be taken over?

Chapter: ``book/noisy_ekfac.ipynb``.
"""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from nnlib.noisy_ekfac.optimizer import NoisyOptimizer

RATES = ("lr", "damping", "momentum", "kl_clip")  # of a step; what a schedule may change


def saved(optimizer: "NoisyOptimizer") -> dict[str, Any]:
    """The state of an optimiser: see its ``state_dict``."""
    head = optimizer.likelihood
    return {
        "method": type(optimizer).__name__,
        "steps": optimizer.steps,
        "rates": {name: getattr(optimizer, name) for name in RATES},
        "settings": settings(optimizer),
        "generator": optimizer.generator.get_state(),
        "likelihood": {
            "kind": type(head).__name__,
            "state": {name: value.clone() for name, value in own(head).items()},  # theirs changes in place
        },
        "layers": {name: q.state() for name, q in optimizer.posteriors.items()},
    }


def settings(optimizer: "NoisyOptimizer") -> dict[str, Any]:
    """What says which posterior is learnt; the same in all layers."""
    q = next(iter(optimizer.posteriors.values()))
    return {"update_statistics_every": optimizer.update_statistics_every, **q.settings()}


def own(likelihood: Any) -> dict[str, Any]:
    """The state of a likelihood; none where it is no module."""
    return dict(likelihood.state_dict()) if isinstance(likelihood, nn.Module) else {}


def take_over(optimizer: "NoisyOptimizer", state: dict[str, Any]) -> None:
    """Put a state into an optimiser: see its ``load_state_dict``. Nothing changes where it does not fit."""
    if (why := misfit(optimizer, state)) is not None:
        raise ValueError(why)
    if isinstance(optimizer.likelihood, nn.Module):
        optimizer.likelihood.load_state_dict(state["likelihood"]["state"])
    for name, q in optimizer.posteriors.items():
        q.load(state["layers"][name])
    for name in RATES:
        setattr(optimizer, name, state["rates"][name])
    optimizer.steps = state["steps"]
    optimizer.generator.set_state(state["generator"].cpu())


def misfit(optimizer: "NoisyOptimizer", state: Any) -> str | None:
    """Why a state can't be taken over, in words; None where it can."""
    mine = saved(optimizer)
    if not isinstance(state, dict) or not set(mine) <= set(state):
        return f"this is no state of {mine['method']}: it must have {', '.join(mine)}"
    if state["method"] != mine["method"]:
        return f"the state is of {state['method']}, not of {mine['method']}"
    if list(state["layers"]) != list(mine["layers"]):
        return f"the state is of layers {list(state['layers'])}, not {list(mine['layers'])}"
    asked, given = mine["settings"], state["settings"]
    if differing := [name for name in asked if given.get(name) != asked[name]]:
        return "the state was made with " + ", ".join(f"{n} {given.get(n)!r}, not {asked[n]!r}" for n in differing)
    for name, q in optimizer.posteriors.items():
        if (found := q.differs(state["layers"][name])) is not None:
            return f"the state does not fit layer {name!r}: {found}"
    heads = state["likelihood"], mine["likelihood"]
    (theirs, ours) = ((h["kind"], {name: tuple(t.shape) for name, t in h["state"].items()}) for h in heads)
    return None if theirs == ours else f"the state is of a likelihood {theirs}, not {ours}"
