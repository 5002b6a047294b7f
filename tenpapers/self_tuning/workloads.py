"""What is tuned in the chapter? Networks, data, losses and hyperparameters; one joins with an entry in ``PROBLEMS``.

Papers: arXiv 1903.03088, section 4; arXiv 2010.13514, section 5. Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy
from torch.optim import SGD, Optimizer

from nnlib.self_tuning.batches import batches
from nnlib.self_tuning.hyperparameters import Hyperparameter
from nnlib.self_tuning.regularizers import activation_penalty, slowness_penalty
from nnlib.self_tuning.ridge import Ridge
from nnlib.training import Dataset, Split
from tenpapers.data import load, remember, windows
from tenpapers.data.uci import permutation
from tenpapers.self_tuning.networks import LanguageModel, alexnet, mlp, small_cnn

Box = tuple[float, float, bool]  # lowest and highest value that a search tries, and whether on a logarithmic scale


@dataclass(frozen=True)
class Problem:
    """A network, its data and what is tuned.

    Args:
        build: Network from ``seed``, ``dtype`` and ``device``.
        data: Loads the data.
        hypers: What is tuned, with the tuner's starts and ranges.
        lr: Learning rate of the weights, for the tuners and for ordinary training alike.
        steps: Of one ordinary training.
        batch_size: B.
        momentum: Of the weights' SGD.
        clip: Largest norm of the gradient, or None.
        window: Tokens in a window, of texts; 0 for images.
        hyper_lr: Of the tuners.
        sigma: Scale of the perturbations at the start.
        entropy: Its weight, or None for a fixed scale.
        warm_up: Training steps before the first validation step.
    """

    build: Callable[..., nn.Module]
    data: Callable[[], Dataset]
    hypers: tuple[Hyperparameter, ...]
    lr: float
    steps: int
    batch_size: int
    momentum: float = 0.9
    clip: float | None = None
    window: int = 0
    hyper_lr: float = 0.03
    sigma: float = 0.5
    entropy: float | None = 1e-3
    warm_up: int = 0

    @property
    def boxes(self) -> dict[str, Box]:
        """Where a search looks, by name."""
        return {hyper.name: box_of(hyper) for hyper in self.hypers}

    @property
    def optimizer(self) -> Callable[..., Optimizer]:
        """Of the weights, from parameters and ``lr``."""
        return partial(SGD, momentum=self.momentum, fused=True)  # one call for all parameters

    def training_loss(self, squared_norm: Callable[[], Tensor]) -> Callable[[Any, Tensor, Any], Tensor]:
        """Training loss of outputs, targets and values; ``squared_norm()`` is |w|² of the network being trained."""

        def loss(outputs: Any, y: Tensor, values: Any) -> Tensor:
            total = self.validation_loss(outputs, y)
            if "weight decay" in values:
                penalty = values["weight decay"] * squared_norm()
                total = total + (penalty.mean() if isinstance(penalty, Tensor) else penalty) / 2
            if "alpha" in values:
                total = total + values["alpha"] * activation_penalty(outputs[1])
            if "beta" in values:
                total = total + values["beta"] * slowness_penalty(outputs[2])
            return total

        return loss

    def validation_loss(self, outputs: Any, y: Tensor) -> Tensor:
        """Mean cross-entropy; of a language model the outputs begin with the logits (T, B, vocabulary)."""
        logits = outputs[0].flatten(0, 1) if self.window else outputs
        return cross_entropy(logits, y.flatten())

    def stream(self, split: Split, seed: int) -> Iterator[Split]:
        """Batches for ever: images in a fresh order each time, texts in the order of the text."""
        if not self.window:
            return batches(split, self.batch_size, torch.Generator("cpu").manual_seed(seed))
        return (batch for _ in count() for batch in self.whole(split))

    def whole(self, split: Split) -> list[Split]:
        """All of a split, in as few batches as it takes."""
        return list(windows(split, self.batch_size, self.window)) if self.window else [split]


def box_of(hyper: Hyperparameter) -> Box:
    """Where a search looks: the whole range, its ends left out; of an unbounded one three decades.

    >>> box_of(Hyperparameter("rate", (0, 0.9), 0.05)), box_of(Hyperparameter("decay", (0, None), 0.1))
    ((0.001, 0.899, False), (0.0001, 0.1, True))
    """
    low, high = hyper.range
    assert low is not None, f"no search looks for {hyper.name!r}, which has no lower end"
    return (1e-4, 0.1, True) if high is None else (low + 1e-3, high - 1e-3, False)


# What is tuned.


def rates(*names: str, high: float = 0.9, shared: bool = False) -> list[Hyperparameter]:
    """Dropout rates of these names, from 0.05."""
    return [Hyperparameter(name, (0, high), init=0.05, shared=shared) for name in names]


def cutout(longest: int, start: int) -> list[Hyperparameter]:
    """Length of the squares that are cut out, and their number: whole numbers."""
    return [
        Hyperparameter("cutout length", (0, longest), init=start, discrete=True),
        Hyperparameter("cutout holes", (0, 4), init=1, discrete=True),
    ]


DECAY = Hyperparameter("weight decay", (0, None), init=1e-4, shared=True)
OF_MLP = (*rates("input dropout", "dropout 1", "dropout 2"), DECAY)
OF_PAPERS_MLP = tuple(rates("input dropout", "dropout 1", "dropout 2", high=0.95))
OF_CNN = (
    *cutout(longest=4, start=1),
    Hyperparameter("input noise", (0, 1), init=0.05),
    *rates("dropout 1", "dropout 2", "dropout 3"),
    DECAY,
)
OF_LSTM = (  # the paper's seven
    *rates("input dropout", "dropout between", "output dropout"),
    *rates("embedding dropout", "DropConnect", shared=True),
    Hyperparameter("alpha", (0, None), init=0.05, shared=True),
    Hyperparameter("beta", (0, None), init=0.05, shared=True),
)
OF_ALEXNET = (  # the paper's fifteen
    *rates(*(f"dropout {i}" for i in range(1, 8))),
    *rates("input dropout", high=1.0),
    Hyperparameter("input scale", (0, 0.3), init=0.05),
    Hyperparameter("hue", (0, 0.5), init=0.05),
    Hyperparameter("contrast", (0, 1), init=0.05),
    Hyperparameter("saturation", (0, 1), init=0.05),
    Hyperparameter("brightness", (0, 1), init=0.05),
    *cutout(longest=24, start=4),
)


# On which data.


def digits() -> Dataset:
    """Few digits to train on, so that regularisation matters, and many to tune and to test on."""
    return some_images(load("digits"), (300, 600, 897), "digits of scikit-learn")


def mnist() -> Dataset:
    """The same of MNIST, at half the resolution."""
    return some_images(load("mnist", vendored=True), (1000, 1000, 2000), "MNIST (the package's)", shrink=2)


def some_images(data: Dataset, sizes: tuple[int, int, int], what: str, shrink: int = 1) -> Dataset:
    """The first images of a set for training, the next for validation, the last for the test, in its order.

    Args:
        data: All images.
        sizes: Of the three parts.
        what: Name of the set, for its source.
        shrink: Side of the squares over which pixels are averaged.
    """
    x, y = (torch.cat(tensors) for tensors in zip(*_parts(data).values(), strict=True))
    x = avg_pool2d(x, shrink)
    train, validation, test = sizes
    rows = {"train": slice(train), "validation": slice(train, train + validation), "test": slice(-test, None)}
    parts = {name: Split(x[part], y[part]) for name, part in rows.items()}
    small = f", pixels averaged over squares of {shrink}" if shrink > 1 else ""
    return replace(data, **parts, source=f"{what}, {train:,}/{validation:,}/{test:,} images{small}")


def novel(tokens: str, train: int, validation: int, vocabulary: int | None = None) -> Dataset:
    """The beginning of Pride and Prejudice to train on, and that of its validation and test parts."""
    data = load("pride_prejudice", tokens=tokens, vocabulary=vocabulary)
    sizes = {"train": train, "validation": validation, "test": validation}
    parts = {name: Split(*(t[: sizes[name]] for t in part)) for name, part in _parts(data).items()}
    known = len(data.info["vocabulary"])
    source = f"Pride and Prejudice, {train:,}/{validation:,}/{validation:,} {tokens}, vocabulary of {known:,}"
    return replace(data, **parts, source=source)


def diabetes() -> Ridge:
    """The diabetes set of scikit-learn, shuffled, standardised: 100 examples for training, 171 for validation.

    The other 171 stay aside. Means and scales of inputs and targets are those of the whole set. The chapter's ridge
    regression, on which a tuner can be checked exactly.
    """
    x, y = (torch.cat(tensors) for tensors in zip(*_parts(load("diabetes")).values(), strict=True))
    x, y = x.to(torch.float64), y.to(torch.float64).flatten()
    drawn = permutation(len(y), 0)  # the loader's order, undone; then shuffled once and for all
    order = drawn.argsort()[torch.from_numpy(np.random.default_rng(0).permutation(len(y)))]
    x, y = ((t - t.mean(0)) / t.std(0, correction=0) for t in (x[order], y[order]))
    return Ridge(Split(x[:100], y[:100]), Split(x[100:271], y[100:271]))


def _parts(data: Dataset) -> dict[str, Split]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


# The problems, the paper's own last. Rates of the small ones come from trial runs at one seed (10) that no record uses.

SMALL: dict[str, Any] = {"lr": 0.03, "steps": 600, "batch_size": 50}
SMALL_LSTM: dict[str, Any] = SMALL | {
    "lr": 1.0,
    "steps": 300,
    "batch_size": 20,
    "clip": 0.25,
    "sigma": 1.0,
    "entropy": None,
}
PROBLEMS = {
    "MLP, digits": Problem(build=partial(mlp, (64, 100, 100, 10)), data=digits, hypers=OF_MLP, **SMALL),
    "MLP, MNIST": Problem(build=partial(mlp, (196, 100, 100, 10)), data=mnist, hypers=OF_MLP, **SMALL),
    "CNN, digits": Problem(build=small_cnn, data=digits, hypers=OF_CNN, **SMALL),
    "LSTM, words": Problem(
        build=partial(LanguageModel, vocabulary=500, hidden=48),
        data=partial(novel, "words", train=8000, validation=4000, vocabulary=500),
        hypers=OF_LSTM,
        window=20,
        **SMALL_LSTM,
    ),
    "LSTM, characters": Problem(
        build=partial(LanguageModel, vocabulary=60, hidden=48),
        data=partial(novel, "characters", train=20_000, validation=8000, vocabulary=60),
        hypers=OF_LSTM,
        window=25,
        **SMALL_LSTM,
    ),
    "MLP, MNIST (paper)": Problem(
        build=partial(mlp, (784, 1200, 1200, 10)),
        data=partial(load, "mnist", download=True),
        hypers=OF_PAPERS_MLP,
        lr=0.01,
        steps=100_000,
        batch_size=128,
        sigma=1.0,
        warm_up=2000,
    ),
    "AlexNet, CIFAR-10": Problem(
        build=alexnet,
        data=partial(load, "cifar10", download=True),
        hypers=OF_ALEXNET,
        lr=0.01,
        steps=60_000,
        batch_size=128,
        hyper_lr=3e-3,
        warm_up=1600,
    ),
    "LSTM, words (paper)": Problem(  # the paper's network and optimiser, on a novel
        build=partial(LanguageModel, vocabulary=10_000, hidden=650),
        data=partial(load, "pride_prejudice", tokens="words", vocabulary=10_000),
        hypers=OF_LSTM,
        lr=30.0,
        momentum=0.0,
        steps=20_000,
        batch_size=40,
        clip=0.25,
        window=70,
        hyper_lr=0.01,
        sigma=1.0,
        entropy=None,
        warm_up=331,
    ),
}


def problem_of(name: str) -> Problem:
    """The problem of this name.

    Raises:
        ValueError: for a name that ``PROBLEMS`` has not.
    """
    if name not in PROBLEMS:
        raise ValueError(f"problem must be one of {', '.join(PROBLEMS)}: got {name!r}")
    return PROBLEMS[name]


@remember(maxsize=16)
def data_of(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Dataset:
    """A problem's data; every caller gets the same, and must not change it."""
    return problem_of(name).data().to(device, dtype)
