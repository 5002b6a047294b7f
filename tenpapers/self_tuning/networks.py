"""Which networks are tuned in the chapter? An MLP, a small CNN, AlexNet and a language model, with named regularisers.

Papers: arXiv 1903.03088, section 4; arXiv 2010.13514, section 5. Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from nnlib.models import he_
from nnlib.self_tuning.augment import ColorJitter, Cutout, ScaleNoise
from nnlib.self_tuning.lstm import LSTM
from nnlib.self_tuning.regularizers import Dropout, EmbeddingDropout, InputNoise


def mlp(sizes: Sequence[int], *, seed: int = 0, **where) -> nn.Module:
    """A ReLU network with dropout before each linear map: ``input dropout``, then ``dropout 1``, ``dropout 2``, ...

    Args:
        sizes: Number of inputs, of units in each hidden layer, and of outputs.
        seed: Of the He initialisation.
        where: ``device`` and ``dtype``.

    >>> [layer.name for layer in mlp((64, 32, 32, 10)) if isinstance(layer, Dropout)]
    ['input dropout', 'dropout 1', 'dropout 2']
    """
    layers: list[nn.Module] = [nn.Flatten(), Dropout("input dropout")]
    for i, (n_in, n_out) in enumerate(pairwise(sizes[:-1]), start=1):
        layers += [nn.Linear(n_in, n_out, **where), nn.ReLU(), Dropout(f"dropout {i}")]
    return he_(nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], **where)), seed)


def small_cnn(*, seed: int = 0, **where) -> nn.Module:
    """Three 3 x 3 convolutions of 8, 16 and 16 channels, for small grey images, behind cutout and noise.

    >>> tuple(small_cnn().eval()(torch.zeros(5, 1, 8, 8)).shape)
    (5, 10)
    """
    layers = [
        Cutout("cutout length", "cutout holes"),
        InputNoise("input noise"),
        nn.Conv2d(1, 8, 3, padding=1, **where),
        nn.ReLU(),
        Dropout("dropout 1", "channel"),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, **where),
        nn.ReLU(),
        Dropout("dropout 2", "channel"),
        nn.Conv2d(16, 16, 3, padding=1, **where),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        Dropout("dropout 3"),
        nn.Linear(64, 10, **where),
    ]
    return he_(nn.Sequential(*layers), seed)


def alexnet(*, width: float = 1.0, seed: int = 0, **where) -> nn.Module:
    """The paper's network for 32 x 32 colour images: five convolutions, three linear maps, and its augmentations.

    Args:
        width: Factor of all numbers of channels and units.
        seed: Of the He initialisation.
        where: ``device`` and ``dtype``.

    Source: arXiv 1903.03088, section 4.1 and the authors' published code.

    >>> tuple(alexnet(width=1 / 16).eval()(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """
    channels = [3, *(max(1, round(width * c)) for c in (64, 192, 384, 256, 256))]
    units = [4 * channels[-1], *(max(1, round(width * 4096)) for _ in range(2))]
    layers: list[nn.Module] = [
        ColorJitter("brightness", "contrast", "saturation", "hue"),
        ScaleNoise("input scale"),
        Cutout("cutout length", "cutout holes"),
        Dropout("input dropout"),
    ]
    for i, (c_in, c_out) in enumerate(pairwise(channels), start=1):
        layers += [nn.Conv2d(c_in, c_out, 3, stride=2 if i == 1 else 1, padding=1, **where), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i in (1, 2, 5) else []
        layers += [Dropout(f"dropout {i}", "channel")]
    layers.append(nn.Flatten())
    for i, (n_in, n_out) in enumerate(pairwise(units), start=6):
        layers += [Dropout(f"dropout {i}"), nn.Linear(n_in, n_out, **where), nn.ReLU()]
    return he_(nn.Sequential(*layers, nn.Linear(units[-1], 10, **where)), seed)


class LanguageModel(nn.Module):
    """An LSTM of several layers that predicts the next token, with the paper's dropouts in five places.

    Every window starts from a state of zeros, so that a window is an example. The output map is the embedding,
    transposed (it holds the weight, and the output reads it: as an output map it does not answer).

    Args:
        vocabulary: Number of tokens.
        hidden: Width of the embedding and of every layer.
        layers: Number of LSTM layers, at least 1.
        seed: Of the initialisation.
        where: ``device`` and ``dtype``.

    Source: arXiv 1903.03088, section 4.2. Chapter: ``book/self_tuning.ipynb``.

    >>> logits, dropped, output = LanguageModel(30, 8).eval()(torch.zeros(7, 2, dtype=torch.int64))
    >>> tuple(logits.shape), tuple(dropped.shape), tuple(output.shape)
    ((7, 2, 30), (7, 2, 8), (7, 2, 8))
    """

    def __init__(self, vocabulary: int, hidden: int, layers: int = 2, *, seed: int = 0, **where):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden, **where)
        self.embedding_dropout = EmbeddingDropout("embedding dropout", vocabulary)
        self.lstms = nn.ModuleList(LSTM(hidden, hidden, "DropConnect", **where) for _ in range(layers))
        names = ["input dropout", *["dropout between"] * (layers - 1), "output dropout"]
        self.dropouts = nn.ModuleList(Dropout(name, "variational") for name in names)
        self.bias = nn.Parameter(torch.zeros(vocabulary, **where))
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if name != "bias":
                    bound = 0.1 if name.startswith("embedding") else hidden**-0.5
                    draw = torch.rand(p.shape, generator=generator, dtype=torch.float64, device="cpu")
                    p.copy_((2 * draw - 1) * bound)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (T, B) -> logits (T, B, vocabulary), the last layer's outputs after and before dropout (T, B, hidden)."""
        h = self.dropouts[0](self.embedding_dropout(ids, self.embedding(ids)))
        for lstm, dropout in zip(self.lstms, self.dropouts[1:], strict=True):
            output, _ = lstm(h)
            h = dropout(output)
        return linear(h, self.embedding.weight, self.bias), h, output
