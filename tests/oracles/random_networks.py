"""Random small networks with every twist that users put into theirs, and the steepest slope that can be found in them.

A network is a chain of modules whose forward is plain torch, and slopes are measured: no bound is used in either.
"""

import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from nnlib.bcop import BCOPConv, L2NEConv, OSSNConv, RKOConv, SVCMConv
from nnlib.groupsort import ParsevalLinear, ReshapedConv, SpectralLinear
from nnlib.lipschitz import (
    Abs,
    FullSort,
    GroupSort,
    MaxMin,
    Maxout,
    Normalize,
    OrthogonalLinear,
    Upsample,
    lipschitz_constant,
)

F64 = torch.float64
Blocks = list[Callable[[], list[nn.Module]]]


class Does(nn.Module):
    """A module that computes a given function of its parts and its input."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module, **tensors: Tensor):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)
        for name, value in tensors.items():
            setattr(self, name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class FiveTimes(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * super().forward(x)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-3)
        return F.conv2d(x, weight, self.bias, padding=1)


class Doubled(OrthogonalLinear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Called(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return 3 * super().__call__(x)


def network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A random network in float64 and evaluation mode, and the shape of one input."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that tell what they are
        if draw.random() < 0.5:
            shape: tuple[int, ...] = (draw.randint(1, 3), draw.randint(3, 6), draw.randint(3, 6))
            blocks = _grown(draw, shape, _image_blocks, draw.randint(1, 4))
            blocks.append(nn.Flatten())
            features = _end(blocks, shape).numel() // 2
            if draw.random() < 0.5:
                blocks.append(_dense(draw, features, 2))
        else:
            shape = (draw.randint(2, 5),)
            blocks = _grown(draw, shape, _vector_blocks, draw.randint(1, 5))
        model = nn.Sequential(*blocks).double().eval()
        for parameter in model.parameters():
            if parameter.ndim > 1 and draw.random() < 0.3:
                parameter.data.mul_(draw.choice([0.3, 2.0])).add_(0.3 * torch.randn_like(parameter))
    return model, shape


def judge(seed: int) -> tuple[float | None, float]:
    """The proven bound of a random network, None where it was refused, and the steepest slope found."""
    model, shape = network(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bound = lipschitz_constant(model, shape=shape if seed % 8 else None)
        except ValueError:
            return None, 0.0
        return bound, steepest(model, shape, seed)


def _grown(draw: random.Random, shape: tuple[int, ...], kinds: Callable, count: int) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    x = torch.zeros(2, *shape, dtype=F64)
    for _ in range(count):
        bounded, other = kinds(draw, *x.shape[1:])
        chosen = draw.choice(bounded if draw.random() < 0.92 else other)()
        try:
            y = _end(chosen, x.shape[1:])
        except (RuntimeError, ValueError, IndexError):  # an image too small for what was drawn
            continue
        if 0 < y[0].numel() <= 120 and y.ndim == x.ndim:
            blocks, x = blocks + chosen, y
    return blocks


@torch.no_grad()
def _end(blocks: list[nn.Module], shape: tuple[int, ...]) -> Tensor:
    return nn.Sequential(*blocks).double().eval()(torch.zeros(2, *shape, dtype=F64))


def steepest(model: nn.Module, shape: tuple[int, ...], seed: int, points: int = 12, steps: int = 6) -> float:
    """The largest slope met from the 2-norm to the 2-norm: by pairs that climb, and by Jacobians where they end."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, *shape, dtype=F64, generator=generator)
    gap = 10 ** torch.empty(points, dtype=F64).uniform_(-3, 0.7, generator=generator)
    step = torch.randn(points, *shape, dtype=F64, generator=generator) * gap.view(-1, *[1] * len(shape))
    pair, largest = torch.stack([x, x + step]), 0.0
    for number in range(steps + 1):
        pair = pair.detach().requires_grad_()
        values = model(pair.flatten(0, 1) * 1.0).flatten(1).unflatten(0, (2, -1))
        rise = (values[0] - values[1]).norm(dim=1)
        run = (pair[0] - pair[1]).flatten(1).norm(dim=1)
        apart = run > 1e-4 * (1 + values.abs().max())  # closer, rounding would pass for a slope
        largest = max(largest, float((rise / run)[apart].max()) if apart.any() else 0.0)
        if number == steps:
            break
        (slope,) = torch.autograd.grad(((rise + 1e-12).log() - (run + 1e-12).log()).sum(), pair)
        size = slope.flatten(2).norm(dim=2).clamp(min=1e-12).view(2, -1, *[1] * len(shape))
        pair = pair + 0.5 * run.detach().view(1, -1, *[1] * len(shape)) * slope.nan_to_num(0, 0, 0) / size
    ends = pair.detach().flatten(0, 1)[: 2 * points].clone().requires_grad_()
    values = model(ends * 1.0).flatten(1)
    rows = [torch.autograd.grad(values[:, j].sum(), ends, retain_graph=True)[0] for j in range(values.shape[1])]
    jacobian = torch.stack([row.flatten(1) for row in rows], 1)
    return max(largest, torch.linalg.matrix_norm(jacobian, 2).max().item())


def _activation(draw: random.Random, features: int) -> nn.Module:
    kinds: list[Callable[[], nn.Module]] = [
        nn.ReLU,
        lambda: nn.Sequential(Does(lambda self, x: 0.9 * x), nn.ReLU(inplace=True)),
        nn.Tanh,
        lambda: nn.LeakyReLU(draw.choice([0.1, -1.5, 2.0])),
        nn.Sigmoid,
        Abs,
        FullSort,
        lambda: nn.Dropout(0.5),
        lambda: Does(lambda self, x: torch.sin(x)),
        lambda: Does(lambda self, x: x.clamp(-0.5, 1.0)),
        lambda: Does(lambda self, x: F.leaky_relu(x, 3.0)),
    ]
    if features % 2 == 0:
        kinds += [MaxMin, lambda: GroupSort(2)]
    return draw.choice(kinds)()


def _dense(draw: random.Random, n: int, m: int) -> nn.Module:
    seed = draw.randrange(1000)
    options: dict[str, Any] = {"seed": seed, "dtype": F64, "gain": draw.choice([1.0, 1.7])}
    kinds: list[Callable[[], nn.Module]] = [
        *[lambda: nn.Linear(n, m, bias=draw.random() < 0.5)] * 3,
        *[lambda: OrthogonalLinear(n, m, **options)] * 2,
        lambda: SpectralLinear(n, m, **options),
        lambda: ParsevalLinear(n, m, **options),
        lambda: FiveTimes(n, m),
        lambda: Called(n, m),
        lambda: Doubled(n, m, **options),
        lambda: parametrizations.spectral_norm(nn.Linear(n, m)),
        lambda: parametrizations.weight_norm(nn.Linear(n, m)),
        lambda: Does(lambda self, x: x @ self.a, a=torch.randn(n, m)),
        lambda: Does(
            lambda self, x: F.linear(x, self.a * torch.sigmoid(self.b)), a=torch.randn(m, n), b=torch.randn(m, n)
        ),
        lambda: Does(  # low-rank adaptation
            lambda self, x: self.parts[0](x) + (x @ self.a) @ self.b,
            nn.Linear(n, m),
            a=torch.randn(n, 1),
            b=torch.randn(1, m),
        ),
    ]
    return draw.choice(kinds)()


def _vector_blocks(draw: random.Random, n: int) -> tuple[Blocks, Blocks]:
    m = draw.randint(1, 5)
    inner = [_dense(draw, n, n), _activation(draw, n), _dense(draw, n, n)]
    square = nn.Sequential(*draw.sample(inner, draw.randint(1, 3)))
    twice = _dense(draw, n, n)
    bounded: Blocks = [
        lambda: [_dense(draw, n, m)],
        lambda: [_activation(draw, n)],
        lambda: [Residual(*square)],
        lambda: [twice, nn.Tanh(), twice],
        lambda: [square, square],
        lambda: [Does(lambda self, x: x - 0.5 * self.parts[0](x), square)],
        lambda: [Does(lambda self, x: torch.cat([x, self.parts[0](x)], 1), square), _dense(draw, 2 * n, m)],
        lambda: [Does(lambda self, x: torch.cat((self.parts[0](x), x, x), dim=-1), square), _dense(draw, 3 * n, m)],
        lambda: [
            Does(lambda self, x: torch.stack([x, self.parts[0](x)], 2).flatten(1), square),
            _dense(draw, 2 * n, m),
        ],
        lambda: [Does(lambda self, x: torch.maximum(x, self.parts[0](x)), square)],
        lambda: [Does(lambda self, x: self.a * x + self.b, a=torch.randn(n), b=torch.randn(n))],
        lambda: [Does(lambda self, x: x * self.a, a=torch.randn(())), Does(lambda self, x: -x / 0.3)],
        lambda: [Does(_in_place_sum, square)],
        lambda: [Does(lambda self, x: torch.cat([x[:, :1], self.parts[0](x)[:, 1:]], 1), square)],
        lambda: [Does(lambda self, x: x.view(x.size(0), 1, -1).transpose(1, 2).reshape(x.shape[0], -1))],
    ]
    if n % 2 == 0:
        bounded.append(lambda: [Maxout(2), _dense(draw, n // 2, m)])
        bounded.append(lambda: [Does(_coupling, _dense(draw, n // 2, n // 2))])
    other: Blocks = [
        lambda: [Does(lambda self, x: x + self.parts[0](x), nn.Linear(n, 1))],  # broadcast
        lambda: [Does(lambda self, x: self.parts[0](x) * self.a, nn.Linear(n, 1), a=torch.randn(4))],  # broadcast
        lambda: [Does(_in_place_alias, square)],
        lambda: [Does(lambda self, x: F.relu(x.clone(), inplace=True) + x, square)],
        lambda: [Does(lambda self, x: torch.cat(list(reversed(x.split([1, n - 1], 1))), 1), square)],
        lambda: [Does(lambda self, x: x.unsqueeze(1).expand(-1, 3, -1).flatten(1)), _dense(draw, 3 * n, m)],
        lambda: [Does(lambda self, x: x * x)],
        lambda: [Does(lambda self, x: x - x.mean(0))],
        lambda: [Does(lambda self, x: x[:, [0, 0, 0]]), _dense(draw, 3, m)],
        lambda: [nn.LayerNorm(n)],
        lambda: [nn.Softmax(1)],
        lambda: [_hooked(draw, n)],
        lambda: [_replaced(draw, n)],
    ]
    return bounded, other


def _in_place_sum(self: Does, x: Tensor) -> Tensor:
    out = 0.9 * x
    out += self.parts[0](x)
    return out


def _in_place_alias(self: Does, x: Tensor) -> Tensor:
    out = 0.9 * x
    same = out.view(x.size(0), -1)
    out *= 3
    return same + self.parts[0](x)


def _coupling(self: Does, x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([first, second + torch.tanh(self.parts[0](first))], 1)


def _hooked(draw: random.Random, n: int) -> nn.Module:
    layer = nn.Linear(n, n)
    kind = draw.randrange(6)
    if kind == 0:
        layer.register_forward_hook(lambda module, args, out: 10 * out)
    elif kind == 1:
        layer.register_forward_pre_hook(lambda module, args: (10 * args[0],))
    elif kind == 2:
        weight_norm(layer)
    elif kind == 3:
        prune.random_unstructured(layer, "weight", 0.5)
    elif kind == 4:
        spectral_norm(layer)
    else:
        outer = nn.Sequential(layer)
        outer.register_forward_hook(lambda module, args, out: 10 * out)
        return outer
    return layer


def _replaced(draw: random.Random, n: int) -> nn.Module:
    layer = nn.Linear(n, n)
    kept = layer.forward
    layer.forward = lambda x: 7 * kept(x)
    return layer


def _conv(draw: random.Random, c: int, h: int, w: int) -> nn.Module:
    seed, k = draw.randrange(1000), draw.randint(1, 3)
    out, stride = draw.randint(1, 4), draw.choice([1, 1, 2, 3])
    size: dict[str, Any] = {"size": (h, w), "seed": seed, "dtype": F64}

    def plain() -> nn.Module:
        groups = draw.choice([g for g in (1, c) if out % g == 0])
        mode = draw.choice(["zeros", "circular"])
        padding = draw.randint(0, min(h, w, 4))
        kernel = (k, draw.randint(1, 3))
        dilation = draw.choice([1, 1, 2])
        if mode == "zeros" and draw.random() < 0.2:
            return nn.Conv2d(c, out, kernel, padding="same", groups=groups, dilation=dilation)
        return nn.Conv2d(
            c, out, kernel, stride=stride, padding=padding, groups=groups, dilation=dilation, padding_mode=mode
        )

    kinds: list[Callable[[], nn.Module]] = [
        *[plain] * 5,
        lambda: BCOPConv(c, out, k, **size),
        lambda: BCOPConv(c, 2 * c, 3, groups=c, dilation=2, seed=seed, dtype=F64),
        lambda: RKOConv(c, out, k, **size),
        lambda: OSSNConv(c, out, k, **size),
        lambda: SVCMConv(c, out, min(k, h, w), **size),
        lambda: L2NEConv(c, out, k, **size),
        lambda: ReshapedConv(c, out, 3, draw.randint(1, 3), seed=seed, dtype=F64),
        lambda: Standardised(c, out, 3, padding=1),
        lambda: Does(lambda self, x: F.conv2d(x, self.a, stride=2, padding=1), a=torch.randn(out, c, 3, 3)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(c, out, 3, padding=1)),
    ]
    return draw.choice(kinds)()


def _image_blocks(draw: random.Random, c: int, h: int, w: int) -> tuple[Blocks, Blocks]:
    same = nn.Conv2d(c, c, 3, padding=1, padding_mode=draw.choice(["zeros", "circular"]))
    bounded: Blocks = [
        *[lambda: [_conv(draw, c, h, w)]] * 4,
        lambda: [_activation(draw, c)],
        lambda: [Residual(same, _activation(draw, c))],
        lambda: [same, same],
        lambda: [Does(lambda self, x: torch.cat([x, self.parts[0](x)], 1), same)],
        lambda: [Does(lambda self, x: F.pad(x, (1, 1, 0, 0, 0, 1)) * 0.7)],
        lambda: [Normalize(torch.randn(c), torch.rand(c) + 0.3)],
        lambda: [Normalize(0.2, 0.5)],
        lambda: [Upsample(2)],
        lambda: [Does(lambda self, x: x.permute(0, 2, 3, 1).tanh().permute(0, 3, 1, 2))],
        lambda: [Does(lambda self, x: x * self.a, a=torch.randn(c, 1, 1))],
    ]
    if h % 2 == w % 2 == 0:
        bounded.append(lambda: [nn.PixelUnshuffle(2)])
    other: Blocks = [
        lambda: [nn.Upsample(scale_factor=2)],
        lambda: [nn.MaxPool2d(2)],
        lambda: [nn.AvgPool2d(2, stride=1)],
        lambda: [nn.BatchNorm2d(c)],
        lambda: [Does(lambda self, x: x * torch.sigmoid(self.parts[0](x)), same)],
        lambda: [Does(lambda self, x: x + self.parts[0](x), nn.Conv2d(c, 1, 1))],  # broadcast, for c > 1
    ]
    return bounded, other
