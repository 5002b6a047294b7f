"""What is tuned in the chapter? Networks, data, losses and hyperparameters; one joins with a line in ``PROBLEMS``.

Papers: arXiv 1903.03088, section 4; arXiv 2010.13514, section 5. Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from nnlib.self_tuning.hyperparameters import Hyperparameter
from nnlib.self_tuning.regularizers import activation_penalty, slowness_penalty
from nnlib.self_tuning.train import batches
from nnlib.training import Dataset, Split
from tenpapers.data import load
from tenpapers.data.text import windows
from tenpapers.self_tuning.networks import LanguageModel, alexnet, mlp, small_cnn

Box = tuple[float, float, bool]  # lowest and highest value that a search tries, and whether on a logarithmic scale


@dataclass(frozen=True)
class Problem:
    """A network, its data and what is tuned.

    Args:
        build: Network from ``seed``, ``dtype`` and ``device``.
        data: Loads the data.
        hypers: What is tuned, with the tuner's starts and ranges.
        boxes: By name, where a search looks.
        lr: Learning rate of the weights, for the tuners and for ordinary training alike.
        steps: Of one ordinary training.
        batch_size: B.
        hyper_lr: Of the tuners.
        window: Tokens in a window, of texts; 0 for images.
        clip: Largest norm of the gradient, or None.
        sigma: Scale of the perturbations at the start.
        entropy: Its weight, or None for a fixed scale.
        warm_up: Training steps before the first validation step.
    """

    build: Callable[..., nn.Module]
    data: Callable[[], Dataset]
    hypers: tuple[Hyperparameter, ...]
    boxes: dict[str, Box]
    lr: float
    steps: int
    batch_size: int
    hyper_lr: float = 0.03
    window: int = 0
    clip: float | None = None
    sigma: float = 0.5
    entropy: float | None = 1e-3
    warm_up: int = 0

    def __post_init__(self):
        if set(self.boxes) != {hyper.name for hyper in self.hypers}:
            raise ValueError(f"a box is needed for each hyperparameter: got {sorted(self.boxes)}")

    def training_loss(self, squared_norm: Callable[[], Tensor]) -> Callable[..., Tensor]:
        """Training loss of outputs, targets and values; ``squared_norm()`` is |w|² of the network being trained."""

        def loss(outputs, y, values):
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

    def validation_loss(self, outputs, y: Tensor) -> Tensor:
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


def dropouts(*names: str, high: float = 0.9, init: float = 0.05, shared: bool = False) -> list[Hyperparameter]:
    """Dropout rates of these names."""
    return [Hyperparameter(name, (0, high), init, shared=shared) for name in names]


DECAY = Hyperparameter("weight decay", (0, None), 1e-4, shared=True)
CUTOUT = [
    Hyperparameter("cutout length", (0, 4), 1, discrete=True),
    Hyperparameter("cutout holes", (0, 4), 1, discrete=True),
]
NOISE = Hyperparameter("input noise", (0, 1), 0.05)
SHARED = dropouts("embedding dropout", "DropConnect", shared=True)
PENALTIES = [Hyperparameter(name, (0, None), 0.05, shared=True) for name in ("alpha", "beta")]
SEVEN = (*dropouts("input dropout", "dropout between", "output dropout"), *SHARED, *PENALTIES)
COLOURS = [
    Hyperparameter("hue", (0, 0.5), 0.05),
    *(Hyperparameter(name, (0, 1), 0.05) for name in ("contrast", "saturation", "brightness")),
]
FIFTEEN = (
    *dropouts(*(f"dropout {i}" for i in range(1, 8))),
    *dropouts("input dropout", high=1.0),
    Hyperparameter("input scale", (0, 0.3), 0.05),
    *COLOURS,
    Hyperparameter("cutout length", (0, 24), 4, discrete=True),
    Hyperparameter("cutout holes", (0, 4), 1, discrete=True),
)


def _boxes(hypers) -> dict[str, Box]:
    """Where a search looks: the whole range, its ends left out; of an unbounded one three decades."""
    found = {}
    for hyper in hypers:
        low, high = hyper.range
        found[hyper.name] = (1e-4, 0.1, True) if high is None else (low + 1e-3, high - 1e-3, False)
    return found


def _first(data: Dataset, train: int, validation: int, test: int, what: str, shrink: int = 1) -> Dataset:
    """Three parts of all images of a set, in its order; pixels averaged over squares."""
    x, y = (torch.cat(parts) for parts in zip(data.train, data.validation, data.test, strict=True))
    x = avg_pool2d(x, shrink)
    small = f", pixels averaged over squares of {shrink}" if shrink > 1 else ""
    ends = {"train": slice(train), "validation": slice(train, train + validation), "test": slice(-test, None)}
    parts = {name: Split(x[rows], y[rows]) for name, rows in ends.items()}
    return replace(data, **parts, source=f"{what}, {train:,}/{validation:,}/{test:,} images{small}")


def digits() -> Dataset:
    """Few digits to train on, so that regularisation matters, and many to tune and to test on."""
    return _first(load("digits"), 300, 600, 897, "digits of scikit-learn")


def mnist() -> Dataset:
    """The same of MNIST."""
    return _first(load("mnist", vendored=True), 1000, 1000, 2000, "MNIST (the package's)", shrink=2)


def novel(tokens: str, train: int, validation: int, vocabulary: int | None = None) -> Dataset:
    """The beginning of Pride and Prejudice to train on, and that of its validation and test parts."""
    data = load("pride_prejudice", tokens=tokens, vocabulary=vocabulary)
    sizes = {"train": train, "validation": validation, "test": validation}
    parts = {name: Split(*(t[:n] for t in getattr(data, name))) for name, n in sizes.items()}
    known = len(data.info["vocabulary"])
    source = f"Pride and Prejudice, {train:,}/{validation:,}/{validation:,} {tokens}, vocabulary of {known:,}"
    return replace(data, **parts, source=source)


MLP_HYPERS = (*dropouts("input dropout", "dropout 1", "dropout 2"), DECAY)
CNN_HYPERS = (*CUTOUT, NOISE, *dropouts("dropout 1", "dropout 2", "dropout 3"), DECAY)
LSTM = {"lr": 1.0, "hyper_lr": 0.03, "clip": 0.25, "entropy": None, "sigma": 1.0}

PROBLEMS = {
    "MLP, digits": Problem(partial(mlp, (64, 100, 100, 10)), digits, MLP_HYPERS, _boxes(MLP_HYPERS), 0.03, 600, 50),
    "MLP, MNIST": Problem(partial(mlp, (196, 100, 100, 10)), mnist, MLP_HYPERS, _boxes(MLP_HYPERS), 0.03, 600, 50),
    "CNN, digits": Problem(small_cnn, digits, CNN_HYPERS, _boxes(CNN_HYPERS), 0.03, 600, 50),
    "LSTM, words": Problem(
        partial(LanguageModel, 500, 48),
        lambda: novel("words", 8000, 4000, 500),
        *(SEVEN, _boxes(SEVEN)),
        steps=300,
        batch_size=20,
        window=20,
        **LSTM,
    ),
    "LSTM, characters": Problem(
        partial(LanguageModel, 60, 48),
        lambda: novel("characters", 20_000, 8000, 60),
        *(SEVEN, _boxes(SEVEN)),
        steps=300,
        batch_size=20,
        window=25,
        **LSTM,
    ),
    "MLP, MNIST (paper)": Problem(
        partial(mlp, (784, 1200, 1200, 10)),
        lambda: load("mnist"),
        *(tuple(dropouts("input dropout", "dropout 1", "dropout 2", high=0.95)),),
        _boxes(dropouts("input dropout", "dropout 1", "dropout 2", high=0.95)),
        *(0.01, 100_000, 128),
        sigma=1.0,
        warm_up=2000,
    ),
    "AlexNet, CIFAR-10": Problem(
        alexnet, lambda: load("cifar10"), FIFTEEN, _boxes(FIFTEEN), 0.01, 60_000, 128, 3e-3, warm_up=1600
    ),
    "LSTM, words (paper)": Problem(
        partial(LanguageModel, 10_000, 650),
        lambda: load("pride_prejudice", tokens="words", vocabulary=10_000),
        *(SEVEN, _boxes(SEVEN)),
        lr=30.0,
        steps=20_000,
        batch_size=40,
        hyper_lr=0.01,
        window=70,
        clip=0.25,
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


@lru_cache(maxsize=16)
def data_of(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Dataset:
    """A problem's data; every caller gets the same, and must not change it."""
    return problem_of(name).data().to(device, dtype)
