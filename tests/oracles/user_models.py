"""Small networks as users write them: a transformer, a ResNet, an LSTM language model, a UNet. Each knows its data.

``data(n)`` gives inputs and targets, ``loss`` is what its user would write, and ``output`` takes what it returns to
(B, ..., C), where that is not (B, C) already.
"""

import torch
from torch import nn
from torch.nn import functional as F


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _tokens(words, *shape, seed=0):
    return torch.randint(words, shape, generator=torch.Generator().manual_seed(seed))


class Transformer(nn.Module):
    """A classifier of sequences: a block of its own with separate projections, and torch's block."""

    output, unseen = None, ("theirs.self_attn.out_proj",)

    def __init__(self, width=8, words=11, classes=3):
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Parameter(torch.zeros(1, 5, width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mix, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.theirs = nn.TransformerEncoderLayer(width, 2, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens):
        h = self.embed(tokens) + self.place
        q, k, v = (f(h).unflatten(2, (2, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        h = self.norm(h + self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.head(self.theirs(h).mean(1))

    def data(self, n):
        x = _tokens(11, n, 5)
        return x, x.sum(1) % 3

    loss = staticmethod(F.cross_entropy)


class ResNet(nn.Module):
    """Two residual blocks with BatchNorm, a strided shortcut and global pooling."""

    output, unseen = None, ()

    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1) for a, b, s in ((4, 4, 1), (4, 4, 1), (4, 6, 2), (6, 6, 1)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (4, 4, 4, 6, 6))
        self.same, self.short, self.head = nn.Identity(), nn.Conv2d(4, 6, 1, 2), nn.Linear(6, classes)

    def forward(self, x):
        h = self.norms[0](self.stem(x)).relu_()
        for i, short in ((0, self.same), (2, self.short)):
            r = self.norms[i + 1](self.convs[i](h)).relu_()
            h = (self.norms[i + 2](self.convs[i + 1](r)) + short(h)).relu()
        return self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))

    def data(self, n):
        y = torch.arange(n) % 3
        return _draw(n, 1, 6, 6) + y.view(-1, 1, 1, 1), y

    loss = staticmethod(F.cross_entropy)


class LanguageModel(nn.Module):
    """torch's example: nn.LSTM in its default layout, so that time comes first in inputs and outputs."""

    unseen = ()

    def __init__(self, words=7, width=6):
        super().__init__()
        self.embed, self.inner = nn.Embedding(words, width), nn.Linear(width, width)
        self.lstm, self.decoder = nn.LSTM(width, width), nn.Linear(width, words)

    def forward(self, tokens):  # (T, B) -> (T, B, words)
        return self.decoder(self.lstm(self.inner(self.embed(tokens)))[0])

    @staticmethod
    def output(returned):
        return returned.transpose(0, 1)

    def data(self, n):
        x = _tokens(7, 6, n)
        return x, (x + 1) % 7

    @staticmethod
    def loss(f, y):
        return F.cross_entropy(f.flatten(0, 1), y.flatten())


class UNet(nn.Module):
    """Segmentation: down, up by a transposed convolution, and a skip that is concatenated; returns a dict."""

    unseen = ()

    def __init__(self, classes=2):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Conv2d(6, classes, 1)

    def forward(self, x):
        skip = F.silu(self.down(x))
        return {"logits": self.last(torch.cat([F.silu(self.up(F.silu(self.deep(skip)))), skip], 1)), "skip": skip}

    @staticmethod
    def output(returned):
        return returned["logits"].movedim(1, -1)

    def data(self, n):
        x = _draw(n, 1, 4, 4)
        return x, (x[:, 0] > 0).long()

    @staticmethod
    def loss(returned, y):
        return F.cross_entropy(returned["logits"], y)


MODELS = {"transformer": Transformer, "ResNet": ResNet, "LSTM": LanguageModel, "UNet": UNet}


def build(name, seed=0):
    """The network with weights of this seed, which leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name]()


class Alone(nn.Module):
    """The network with examples along the first axis of its input and all numbers of an example as outputs (B, C)."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        returned = self.net(x.transpose(0, 1) if isinstance(self.net, LanguageModel) else x)
        return (returned if self.net.output is None else self.net.output(returned)).flatten(1)
