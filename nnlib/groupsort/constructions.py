"""What do the theorems build? Networks with explicit weights that do what the statements say.

Paper: arXiv 1811.05381, section 3 and appendix. Chapter: book/groupsort.ipynb.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnlib.arguments import real, typed, whole, within
from nnlib.lipschitz import FullSort, GroupSort, MaxMin, bjorck, residual
from nnlib.lipschitz.layers import finite_numbers
from nnlib.lipschitz.norms import known_norm

ROOT = math.sqrt(0.5)


@typed
def affine(weight: Tensor | Sequence[Sequence[float]], bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with this weight, shape (out, in), and bias, shape (out), in float64, where the weight is.

    Raises:
        TypeError: a weight that is no numbers, a bias that is no tensor of floating-point ones.
        ValueError: a weight or a bias of another shape, or not finite.

    >>> affine([[3.0, 4.0]])(torch.ones(1, 2, dtype=torch.float64)).item()
    7.0
    """
    weight = finite_numbers(weight=weight)
    out = real("out in", weight=weight)["out"]
    if bias is not None:
        real("out", bias=bias)
        if len(bias) != out:
            raise ValueError(f"bias must have an entry for each of the {out} rows of weight: got {len(bias)}")
    layer = nn.Linear(*weight.shape[::-1], bias=bias is not None, dtype=torch.float64, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def absolute_value() -> nn.Sequential:
    """|x| with two units and orthonormal weights: x -> (x, -x)/sqrt(2) -> sorted -> (max - min)/sqrt(2).

    Source: arXiv 1811.05381, section 3. Chapter: book/groupsort.ipynb

    >>> x = torch.tensor([[-2.0], [0.5]], dtype=torch.float64)
    >>> [round(y, 6) for y in absolute_value()(x)[:, 0].tolist()]
    [2.0, 0.5]
    """
    return nn.Sequential(affine([[ROOT], [-ROOT]]), MaxMin(), affine([[-ROOT, ROOT]]))


class _Half(nn.Module):
    """(a, b) -> (a, |b|)."""

    norms = None

    def forward(self, x: Tensor) -> Tensor:  # (n, 2)
        return torch.cat([x[:, :1], x[:, 1:].abs()], 1)

    def lipschitz_bound(self) -> tuple[float, float]:
        return 1.0, 0.0


def maxmin_from_abs() -> nn.Sequential:
    """(a, b) -> (max, min) = M (id, |.|) M (a, b), M the rotation-reflection ((1, 1), (1, -1))/sqrt(2).

    M is orthogonal, so that it costs nothing in the 2-norm. In the inf-norm each M costs a factor sqrt(2).

    Source: arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb

    >>> [round(y, 6) for y in maxmin_from_abs()(torch.tensor([[1.0, 3.0]], dtype=torch.float64))[0].tolist()]
    [3.0, 1.0]
    """
    turn = [[ROOT, ROOT], [ROOT, -ROOT]]
    return nn.Sequential(affine(turn), _Half(), affine(turn))


@typed
def abs_from_maxmin(n: int) -> nn.Sequential:
    """Entrywise |x| of n features in the 2-norm: each is doubled to (x, -x)/sqrt(2), sorted, and put together again.

    Raises:
        ValueError: n below 1.

    Source: arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb

    >>> abs_from_maxmin(2)(torch.tensor([[-1.0, 2.0]], dtype=torch.float64)).round(decimals=6).tolist()
    [[1.0, 2.0]]
    """
    whole(1, n=n)
    eye = torch.eye(n, dtype=torch.float64)
    pair = torch.tensor([[ROOT], [-ROOT]], dtype=torch.float64)
    return nn.Sequential(affine(torch.kron(eye, pair)), MaxMin(), affine(torch.kron(eye, -pair.T)))


@typed
def leaky_relu_from_maxmin(slope: float = 0.0) -> nn.Sequential:
    """max(x, slope x) under the inf-norm, where MaxMin is at least as strong as ReLU: (x, slope x) -> the larger.

    Args:
        slope: In [0, 1); 0 is ReLU, with a constant 0 as the partner.

    Raises:
        ValueError: another slope.

    Source: arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb

    >>> leaky_relu_from_maxmin()(torch.tensor([[-1.0], [2.0]], dtype=torch.float64))[:, 0].tolist()
    [0.0, 2.0]
    """
    within("[0, 1)", slope=slope)
    return nn.Sequential(affine([[1.0], [slope]]), MaxMin(), affine([[0.0, 1.0]]))


@typed
def full_sort_from_maxmin(n: int) -> nn.Sequential:
    """FullSort of n features by n rounds of MaxMin between neighbours: the odd-even transposition sorting network.

    Rounds start alternately at the first and at the second feature; those without a partner are compared with a copy
    of themselves, which changes nothing and needs no constant.

    Raises:
        ValueError: n below 1.

    Source: arXiv 1811.05381, appendix; Knuth, The Art of Computer Programming, vol. 3, 5.3.4.
    Chapter: book/groupsort.ipynb

    >>> full_sort_from_maxmin(4)(torch.tensor([[3.0, 1.0, 4.0, 2.0]], dtype=torch.float64)).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    whole(1, n=n)
    layers: list[nn.Module] = []
    for turn in range(n):
        # Which features stand in each comparator: (0,1)(2,3)... or (0,0)(1,2)(3,4)...
        pairs = [(0, 0)] if turn % 2 else []
        pairs += [(i, min(i + 1, n - 1)) for i in range(turn % 2, n, 2)]
        spread = torch.zeros(2 * len(pairs), n, dtype=torch.float64)
        gather = torch.zeros(n, 2 * len(pairs), dtype=torch.float64)
        for c, (i, j) in enumerate(pairs):
            spread[2 * c, i] = spread[2 * c + 1, j] = 1.0
            gather[i, 2 * c] = gather[j, 2 * c + 1] = 1.0
            if i == j:
                gather[i, 2 * c] = 0.0  # one of the two copies
        layers += [affine(spread), MaxMin(), affine(gather)]
    return nn.Sequential(*layers)


@typed
def maxmin_from_full_sort(n: int, radius: float) -> nn.Sequential:
    """MaxMin of n features by one FullSort, for inputs with |x| <= radius: pair k is first lifted by 3 radius k.

    Args:
        n: Even number of features.
        radius: Of the box of inputs, >= 0.

    Raises:
        ValueError: n odd or below 2, a radius below 0, or so large that the lift is not finite.

    Source: arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb

    >>> x = torch.tensor([[3.0, 1.0, 2.0, 5.0]], dtype=torch.float64)
    >>> maxmin_from_full_sort(4, radius=5.0)(x).tolist()
    [[1.0, 3.0, 2.0, 5.0]]
    """
    whole(2, n=n)
    if n % 2:
        raise ValueError(f"n must be even: got {n}")
    within("[0, inf)", radius=radius, **{"the largest lift, 1.5 n radius,": 1.5 * n * radius})
    eye = torch.eye(n, dtype=torch.float64)
    lift = 3 * radius * torch.arange(n // 2, dtype=torch.float64).repeat_interleave(2)
    return nn.Sequential(affine(eye, lift), FullSort(), affine(eye, -lift))


@typed
def lattice_interpolant(points: Tensor, values: Tensor, p: float = 2) -> nn.Sequential:
    """A network that is 1-Lipschitz in the p-norm and takes given values at given points: the proof as a program.

    Restricted Stone-Weierstrass: for each pair of points s, t a function f_st of the family meets both values; then

        f = max_s min_t f_st.

    At s all f_st have the value of s, so the minimum is that value; at any other point the minimum over t contains one
    that is exact there, so that no minimum is too high. Here f_st is affine with slope (v_t - v_s) / ‖t - s‖_p in the
    direction of t - s, minima and maxima are taken by GroupSort, and weights have rows with 1-norm 1 but for the first
    layer (dual norm of p).

    Args:
        points: Shape (n, d), n >= 2, all different.
        values: Shape (n), with |v_s - v_t| <= ‖s - t‖_p for all pairs.
        p: 1, 2 or inf.

    Returns:
        A network of two sorting layers with n² and n units, from (m, d) to (m, 1).

    Raises:
        TypeError: points or values that are no tensors of floating-point numbers.
        ValueError: where two values differ by more than their points; another p; points or values of another shape, or
            not finite.

    Source: arXiv 1811.05381, section 3 (theorems on lattices and on universality). Chapter: book/groupsort.ipynb

    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    >>> values = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    >>> lattice_interpolant(points, values)(points)[:, 0].round(decimals=6).tolist()
    [0.0, 1.0, -1.0]
    """
    known_norm(p=p)
    n = real("n d", points=points)["n"]
    if n < 2 or values.shape != (n,):
        raise ValueError(
            f"points must be at least two, with as many values: got shapes {tuple(points.shape)}, {tuple(values.shape)}"
        )
    real("n", values=values)
    points, values = points.double(), values.double()
    step = points[None] - points[:, None]  # (s, t, d): t - s
    distance = torch.linalg.vector_norm(step, p, dim=2)  # (s, t)
    rise = values[None] - values[:, None]
    if not (rise.abs() <= distance * (1 + 1e-12)).all():
        s, t = divmod(int((rise.abs() - distance).argmax()), n)
        raise ValueError(
            f"values must differ by no more than points: {rise[s, t].abs():.4g} against {distance[s, t]:.4g} "
            f"between {s} and {t}"
        )
    # A unit functional of the dual norm that attains ‖t - s‖ at t - s.
    if p == 1:
        functional = step.sign()
    elif p == 2:
        functional = step / distance.clamp(min=1e-300)[..., None]
    else:
        largest = step.abs().argmax(2, keepdim=True)
        functional = torch.zeros_like(step).scatter(2, largest, step.sign().gather(2, largest))
    slope = rise / torch.where(distance > 0, distance, 1.0)  # in [-1, 1]; 0 at s = t: the constant v_s
    weight = slope[..., None] * functional  # (s, t, d)
    offset = values[:, None] - (weight * points[:, None]).sum(2)
    eye = torch.eye(n, dtype=points.dtype, device=points.device)
    smallest, largest = torch.kron(eye, eye[:1]), eye[-1:]  # of each group of n the first; of all the last
    return nn.Sequential(
        affine(weight.flatten(0, 1), offset.flatten()), GroupSort(n), affine(smallest), FullSort(), affine(largest)
    )


@typed
def orthonormalised(model: nn.Sequential) -> nn.Sequential:
    """The same network with every singular value of every linear layer set to 1.

    If the network's output is a scalar, its gradient has norm 1 almost everywhere, and its weights have norm at most 1,
    then this does not change the function: the gradient already passes through singular values 1 only.

    Args:
        model: Of ``nn.Linear`` layers of full rank and activations.

    Raises:
        ValueError: naming a layer that is not of full rank, or not finite.

    Source: arXiv 1811.05381, section 3. Chapter: book/groupsort.ipynb
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear):
                full = bool(layer.weight.isfinite().all()) and bool(layer.weight.any())
                nearest = bjorck(layer.weight) if full else layer.weight
                if not full or residual(nearest) > 1e-3:
                    raise ValueError(f"model must have linear layers of full rank: layer {name} is not")
                layer.weight.copy_(nearest)
    return model


@typed
def relu_ceiling(hidden_layers: int) -> float:
    """The largest Wasserstein estimate of |x| that a norm-constrained ReLU network reaches, out of 1.

    For one hidden layer 1/2 is a theorem. For h = 2m - 1 the values m/(m + 1), and for h = 2m sqrt(m/(m + 2)), are
    observed in training, not proved here or in the paper.

    Args:
        hidden_layers: h >= 1.

    Raises:
        ValueError: h below 1.

    Chapter: book/groupsort.ipynb

    >>> [round(relu_ceiling(h), 4) for h in (1, 2, 3, 4, 5, 6)]
    [0.5, 0.5774, 0.6667, 0.7071, 0.75, 0.7746]
    """
    whole(1, hidden_layers=hidden_layers)
    m = (hidden_layers + 1) // 2
    return m / (m + 1) if hidden_layers % 2 else math.sqrt(m / (m + 2))
