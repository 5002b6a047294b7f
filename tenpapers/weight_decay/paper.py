"""The paper's own runs: VGG16 and ResNet32 on CIFAR-10 with its learning rates, decays, damping and schedule.

Paper: arXiv 1810.12281, section 3 and appendix; hyperparameters from the authors' published configurations.
Chapter: ``book/weight_decay.ipynb``.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.models import VGG, ResNet
from nnlib.training import Dataset
from nnlib.weight_decay.optimizers import FISHER, make_optimizer
from tenpapers.data import load
from tenpapers.weight_decay.train import DIVERGED, MEASURED, final, standardise, train

CASES = ("plain", "BN", "BN + augmentation")


@dataclass(frozen=True)
class Recipe:
    """One cell of the paper's main table.

    Args:
        network: ``VGG16`` or ``ResNet32`` (the latter 4 times as wide as the original).
        method: A key of ``nnlib.weight_decay.METHODS``.
        case: One of ``CASES``: BatchNorm or not, augmentation or not.
        lr: Learning rate at the start.
        weight_decay: L2 for SGD, decoupled for the others.
        damping: Of K-FAC.
        kl_clip: Of K-FAC, without BatchNorm only.
    """

    network: str
    method: str
    case: str
    lr: float
    weight_decay: float
    damping: float = 1e-3
    kl_clip: float | None = None

    @property
    def epochs(self) -> int:
        """200, and 100 for K-FAC."""
        return 100 if self.method in FISHER else 200

    @property
    def drops(self) -> tuple[int, ...]:
        """Epochs after which the learning rate is divided by 10: every 60, and every 40 for K-FAC."""
        return (40, 80) if self.method in FISHER else (60, 120, 180)


# (lr, weight decay) without BatchNorm, with it, and with augmentation too.
_CHOSEN = {
    ("VGG16", "SGD"): [(0.03, 3e-4), (0.1, 1e-3), (0.1, 1e-3)],
    ("VGG16", "Adam"): [(3e-4, 0.3), (1e-3, 0.3), (3e-4, 1.0)],
    ("VGG16", "K-FAC-G"): [(0.03, 0.03), (0.03, 0.03), (0.03, 0.01)],
    ("VGG16", "K-FAC-F"): [(1e-3, 1.0), (3e-3, 1.0), (1e-3, 0.3)],
    ("ResNet32", "SGD"): [(3e-3, 1e-3), (0.03, 3e-3), (0.01, 3e-3)],
    ("ResNet32", "Adam"): [(3e-4, 1.0), (1e-3, 1.0), (1e-3, 0.3)],
    ("ResNet32", "K-FAC-G"): [(0.03, 0.03), (0.03, 0.01), (0.03, 0.03)],
    ("ResNet32", "K-FAC-F"): [(1e-3, 1.0), (1e-3, 1.0), (3e-4, 1.0)],
}
_PLAIN = {  # what K-FAC needs without BatchNorm: a limit on the step, and for one network more damping
    ("VGG16", "K-FAC-G"): {"damping": 1e-2, "kl_clip": 1e-3},
    ("VGG16", "K-FAC-F"): {"kl_clip": 1e-5},
    ("ResNet32", "K-FAC-G"): {"kl_clip": 1e-4},
    ("ResNet32", "K-FAC-F"): {"kl_clip": 1e-5},
}
PAPER = [
    Recipe(*key, case, lr, weight_decay, **(_PLAIN.get(key, {}) if case == "plain" else {}))
    for key, choices in _CHOSEN.items()
    for case, (lr, weight_decay) in zip(CASES, choices, strict=True)
]


class Augmented(nn.Module):
    """In training mode, images are shifted by up to ``pad`` pixels and mirrored at random before they enter the model.

    Each image is padded by zeros, cut out again at a place of its own, and flipped with probability 1/2: all on the
    tensors, on their device. The draws depend on ``seed`` and on the number of batches seen so far, which is part of
    the state: a resumed run sees the same images.

    Args:
        model: Maps (B, c, s, s) to logits.
        pad: Pixels on each side, not negative.
        seed: Of the draws.

    Raises:
        ValueError: for negative ``pad``.

    Source: arXiv 1810.12281, section 3. Chapter: ``book/weight_decay.ipynb``.

    >>> model = Augmented(nn.Flatten()).eval()
    >>> torch.equal(model(torch.ones(2, 1, 4, 4)), torch.ones(2, 16))
    True
    """

    def __init__(self, model: nn.Module, pad: int = 4, seed: int = 0):
        if pad < 0:
            raise ValueError(f"pad must not be negative: got {pad}")
        super().__init__()
        self.model, self.pad, self.seed, self.batches = model, pad, seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            generator = torch.Generator(x.device).manual_seed(self.seed * 1_000_003 + self.batches)
            self.batches += 1
            x = crop_and_flip(x, self.pad, generator)
        return self.model(x)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.batches, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.batches = int(state)


def crop_and_flip(x: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Each image of x, (B, c, s, s), shifted by at most ``pad`` pixels each way, and mirrored with probability 1/2.

    Args:
        x: Images; the rim that a shift uncovers is zero.
        pad: Not negative.
        generator: On the device of x.
    """
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (pad, pad, pad, pad))
    draw = {"generator": generator, "device": x.device}
    top, left = torch.randint(2 * pad + 1, (2, n), **draw)  # (B,) each
    rows = top[:, None] + torch.arange(height, device=x.device)  # (B, s)
    columns = left[:, None] + torch.arange(width, device=x.device)
    mirrored = torch.rand(n, **draw) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    example = torch.arange(n, device=x.device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]  # (B, s, s, c)
    return cut.permute(0, 3, 1, 2)


def run_paper(
    recipe: Recipe,
    data: Dataset,
    decay: str | None = None,
    *,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int = 128,
    depth: int | None = None,
    width: float | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    checkpoint: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """One run of the paper's main table; smaller where ``epochs``, ``depth`` or ``width`` say so.

    Args:
        recipe: One of ``PAPER``.
        data: CIFAR-10, pixels not yet standardised.
        decay: ``none``, ``l2`` or ``decoupled``; by default what the paper uses: L2 for SGD, else decoupled.
        seed: Of initialisation, order, augmentation and drawn targets.
        epochs: By default the recipe's; drops past the end are left out.
        batch_size: Images a step.
        depth: By default the network's own.
        width: Factor on the channels; by default 1 for VGG, 4 for ResNet.
        device: Where to train.
        dtype: Of parameters and data.
        checkpoint: File to go on from.

    Returns:
        As :func:`nnlib.weight_decay.measure`.

    Source: arXiv 1810.12281, section 3. Chapter: ``book/weight_decay.ipynb``.
    """
    where = {"batch_norm": recipe.case != "plain", "seed": seed, "device": device, "dtype": dtype}
    classes = len(data.info["classes"])
    if recipe.network == "VGG16":
        model: nn.Module = VGG(depth or 16, classes=classes, width=width or 1, **where)
    else:
        model = ResNet(depth or 32, classes=classes, width=int(width or 4), **where)
    if recipe.case == "BN + augmentation":
        model = Augmented(model, seed=seed)
    kfac = {"damping": recipe.damping, "kl_clip": recipe.kl_clip, "seed": seed} if recipe.method in FISHER else {}
    kind = decay or ("l2" if recipe.method == "SGD" else "decoupled")
    coefficient = 0.0 if kind == "none" else recipe.weight_decay
    optimizer = make_optimizer(model, recipe.method, recipe.lr, decay=kind, weight_decay=coefficient, **kfac)
    images, total = standardise(data.to(device, dtype)), epochs or recipe.epochs
    drops = [drop for drop in recipe.drops if drop < total]
    settings = {"epochs": total, "batch_size": batch_size, "drops": drops, "seed": seed, "checkpoint": checkpoint}
    try:
        train(model, images, optimizer, splits=["validation"], **settings)
    except DIVERGED:
        return {name: float("nan") for name in MEASURED} | {"diverged": True}
    return final(model, images, count=100) | {"diverged": False}


def paper_row(recipe: int, decay: str, seed: int, device: str = "cpu", **smaller: Any) -> dict[str, Any]:
    """One run for a sweep: loads CIFAR-10 (from ``$NNLIB_DATA``, or fetched) and says which cell of the table it is.

    Args:
        recipe: Index into ``PAPER``.
        decay: ``none``, ``l2`` or ``decoupled``.
        seed: As in :func:`run_paper`, and so are the rest.
        device: Where to train.
        smaller: ``epochs``, ``batch_size``, ``depth``, ``width``.

    Chapter: ``book/weight_decay.ipynb``.
    """
    chosen = PAPER[recipe]
    row = run_paper(chosen, load("cifar10", download=True), decay, seed=seed, device=device, **smaller)
    return {"network": chosen.network, "method": chosen.method, "case": chosen.case, "lr": chosen.lr} | row
