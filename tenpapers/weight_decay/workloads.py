"""What the chapter trains: images, networks, and the settings that were chosen for each optimiser.

Paper: arXiv 1810.12281, section 3 and appendix; its hyperparameters are those of the authors' published configurations.
Chapter: ``book/weight_decay.ipynb``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnlib.models import MLP, VGG, ResNet, SmallCNN
from nnlib.training import Dataset, Split
from nnlib.weight_decay.optimizers import FISHER
from tenpapers.data import load, remember
from tenpapers.data.augment import Augmented

NETWORKS = ("VGG16", "ResNet32")  # the paper's; the latter 4 times as wide as the original


class Choice(NamedTuple):
    """What was chosen for an optimiser: learning rate and the coefficient of each kind of decay."""

    lr: float
    decoupled: float
    l2: float


# By (method, BatchNorm). From trial runs on Fashion-MNIST, by the validation accuracy of one seed (10) that no record
# uses: without decay one of three learning rates, the best or one within 1 % of it; then, at that rate, the best of two
# to four coefficients for each kind of decay.
CHOSEN = {
    ("SGD", False): Choice(0.03, 0.3, 0.03),
    ("SGD", True): Choice(1.0, 0.1, 0.003),
    ("Adam", False): Choice(0.002, 0.1, 0.001),
    ("Adam", True): Choice(0.01, 0.3, 0.1),
    ("K-FAC-G", False): Choice(0.03, 0.3, 0.01),
    ("K-FAC-G", True): Choice(0.01, 3.0, 0.01),
    ("K-FAC-F", False): Choice(0.003, 3.0, 0.01),
    ("K-FAC-F", True): Choice(0.01, 1.0, 0.01),
}
SIZES: dict[str, Any] = {"examples": 1000, "epochs": 16, "batch_size": 50, "drops": (8, 12)}
KL_CLIP = 1e-3  # of K-FAC without BatchNorm


def settings(data: str, method: str, batch_norm: bool, decay: str) -> dict[str, Any]:
    """Keywords of a run of the small CNN: learning rate, decay and sizes.

    Other data sets take over what was chosen on Fashion-MNIST, but for SGD without BatchNorm, which does not train on
    MNIST at that rate and has a third of it there.

    >>> settings("mnist", "SGD", False, "none")["lr"], settings("mnist", "SGD", True, "l2")["weight_decay"]
    (0.01, 0.003)
    """
    choice = CHOSEN[method, batch_norm]
    lr = choice.lr / 3 if data != "fashion_mnist" and (method, batch_norm) == ("SGD", False) else choice.lr
    options = {"kl_clip": KL_CLIP} if method in FISHER and not batch_norm else {}
    weight_decay = {"none": 0.0, "l2": choice.l2, "decoupled": choice.decoupled}[decay]
    return {"lr": lr, "decay": decay, "weight_decay": weight_decay} | SIZES | options


@dataclass(frozen=True)
class Recipe:
    """One cell of the paper's main table, with and without decay.

    Args:
        network: One of ``NETWORKS``.
        method: A key of ``nnlib.weight_decay.METHODS``.
        case: One of ``CASES``: BatchNorm or not, augmentation or not.
        lr: Learning rate at the start, with decay.
        weight_decay: L2 for SGD, decoupled for the others.
        damping: Of K-FAC.
        kl_clip: Of K-FAC, without BatchNorm only.
        lr_without: Learning rate of the run without decay, which the authors chose for itself.
        kl_clip_without: Likewise.
    """

    network: str
    method: str
    case: str
    lr: float
    weight_decay: float
    damping: float = 1e-3
    kl_clip: float | None = None
    lr_without: float = 0.0
    kl_clip_without: float | None = None

    def settings(self, decays: bool) -> dict[str, Any]:
        """Keywords of a run: 200 epochs, and 100 for K-FAC, with a tenth of the rate every 60, and every 40 for K-FAC.

        >>> PAPER[0].settings(decays=False)["data"], PAPER[0].settings(decays=True)["decay"]
        ('cifar10, VGG16', 'l2')
        """
        kfac = self.method in FISHER
        found = {
            "data": f"cifar10, {self.network}" + (", augmented" if "augmentation" in self.case else ""),
            "batch_norm": self.case != "plain",
            "method": self.method,
            "lr": self.lr if decays else self.lr_without,
            "decay": ("l2" if self.method == "SGD" else "decoupled") if decays else "none",
            "weight_decay": self.weight_decay if decays else 0.0,
            "where": "all",
            "epochs": 100 if kfac else 200,
            "batch_size": 128,
            "drops": (40, 80) if kfac else (60, 120, 180),
            "norms_on": 100,
            "dtype": "float32",
            "device": "auto",
        }
        if kfac:
            found |= {"damping": self.damping, "kl_clip": self.kl_clip if decays else self.kl_clip_without}
            found |= {"update_factors_every": 10, "update_inverses_every": 100}
        return found


CASES = ("plain", "BN", "BN + augmentation")
# (lr, weight decay, lr of the run without decay) without BatchNorm, with it, and with augmentation too.
_CHOSEN = {
    ("VGG16", "SGD"): [(0.03, 3e-4, 0.03), (0.1, 1e-3, 0.03), (0.1, 1e-3, 0.01)],
    ("VGG16", "Adam"): [(3e-4, 0.3, 3e-4), (1e-3, 0.3, 1e-3), (3e-4, 1.0, 1e-3)],
    ("VGG16", "K-FAC-G"): [(0.03, 0.03, 0.03), (0.03, 0.03, 0.1), (0.03, 0.01, 0.03)],
    ("VGG16", "K-FAC-F"): [(1e-3, 1.0, 3e-4), (3e-3, 1.0, 1e-3), (1e-3, 0.3, 1e-3)],
    ("ResNet32", "SGD"): [(3e-3, 1e-3, 3e-3), (0.03, 3e-3, 0.03), (0.01, 3e-3, 0.03)],
    ("ResNet32", "Adam"): [(3e-4, 1.0, 3e-4), (1e-3, 1.0, 1e-3), (1e-3, 0.3, 1e-3)],
    ("ResNet32", "K-FAC-G"): [(0.03, 0.03, 0.01), (0.03, 0.01, 0.03), (0.03, 0.03, 0.01)],
    ("ResNet32", "K-FAC-F"): [(1e-3, 1.0, 3e-4), (1e-3, 1.0, 1e-3), (3e-4, 1.0, 1e-3)],
}
_PLAIN = {  # what K-FAC needs without BatchNorm: a limit on the step, and for one network more damping
    ("VGG16", "K-FAC-G"): {"damping": 1e-2, "kl_clip": 1e-3, "kl_clip_without": 1e-4},
    ("VGG16", "K-FAC-F"): {"kl_clip": 1e-5, "kl_clip_without": 1e-5},
    ("ResNet32", "K-FAC-G"): {"kl_clip": 1e-4, "kl_clip_without": 1e-4},
    ("ResNet32", "K-FAC-F"): {"kl_clip": 1e-5, "kl_clip_without": 1e-5},
}
PAPER = [
    Recipe(*key, case, lr, weight_decay, lr_without=without, **(_PLAIN.get(key, {}) if case == "plain" else {}))
    for key, choices in _CHOSEN.items()
    for case, (lr, weight_decay, without) in zip(CASES, choices, strict=True)
]


def build(
    images: Dataset,
    network: str = "",
    *,
    batch_norm: bool = True,
    hidden: Sequence[int] | None = None,
    width: float | None = None,
    bias: bool = True,
    augmented: bool = False,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A network for these images.

    Args:
        images: Say shape and classes.
        network: One of ``NETWORKS``; by default an MLP where ``hidden`` says so, else a small CNN.
        batch_norm: Whether hidden layers are followed by BatchNorm, without scale and shift.
        hidden: Units of the hidden layers of an MLP.
        width: Of the CNN, by default 4; of the paper's networks a factor, by default 1 for VGG16, 4 for ResNet32.
        bias: Whether an MLP has biases.
        augmented: Whether training images are shifted and mirrored.
        seed: Of initialisation and augmentation.
        dtype: Of the parameters.
        device: Where they live.

    Raises:
        ValueError: for another network.
    """
    shape, classes = images.info["shape"], len(images.info["classes"])
    where: dict[str, Any] = {"batch_norm": batch_norm, "seed": seed, "dtype": dtype, "device": device}
    if network == "VGG16":
        model: nn.Module = VGG(16, shape[0], classes, width=width or 1, **where)
    elif network == "ResNet32":
        model = ResNet(32, shape[0], classes, width=int(width or 4), **where)
    elif network:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}: got {network!r}")
    elif hidden is None:
        model = SmallCNN(shape[0], shape[1], classes, width=int(width or 4), **where)
    else:
        model = MLP([torch.Size(shape).numel(), *hidden, classes], bias=bias, **where)
    return Augmented(model, seed=seed) if augmented else model


@remember(maxsize=4)
def prepared(name: str, examples: int | None = None, dtype: torch.dtype = torch.float32) -> Dataset:
    """The first ``examples`` training images of a set, all splits standardised by channel.

    MNIST and Fashion-MNIST are the small files of the package; CIFAR-10 comes from ``$NNLIB_DATA``, or is fetched.
    """
    small = name in ("mnist", "fashion_mnist")
    data = load(name, **({"vendored": True} if small else {"download": True} if name == "cifar10" else {}))
    n = len(data.train.y)
    if examples is not None:
        if not 1 <= examples <= n:
            raise ValueError(f"examples must be from 1 to {n}, as many as {name} has: got {examples}")
        data = replace(data, train=Split(data.train.x[:examples], data.train.y[:examples]))
        data = replace(data, source=f"{data.source}; trained on the first {examples:,}")
    return standardise(data.to(dtype=dtype))


def standardise(data: Dataset) -> Dataset:
    """Each channel minus its mean over its standard deviation, both over all pixels of the training images."""
    deviation, mean = torch.std_mean(data.train.x, dim=(0, 2, 3), keepdim=True)  # (1, channels, 1, 1)

    def scaled(split: Split) -> Split:
        return Split((split.x - mean) / deviation, split.y)

    parts: dict[str, Split | Tensor] = {name: scaled(getattr(data, name)) for name in ("train", "validation", "test")}
    return replace(data, **parts, info={**data.info, "scaling": "mean 0 and variance 1 in each channel"})
