"""What if neighbouring layers are not independent? K-FAC's inverse with blocks beside the diagonal: block-tridiagonal.

Every block of the Fisher matrix, also one between two layers, is taken for a Kronecker product of two moments,
F_ij = E[ds_i ds_j'] (x) E[x_i x_j']. Of these only neighbours are kept, and the rest is what makes layers beyond a
neighbour independent of each other, given it: then the inverse is block-tridiagonal, and costs no more than some
products with the factors. Matrices in the place of vectors are those of :mod:`nnlib.curvature.kronecker`.
Paper: arXiv 1503.05671, section 4.3. Chapter: ``book/curvature.ipynb``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnlib.arguments import passing, real, seeded, typed, within
from nnlib.curvature.capture import Capture
from nnlib.curvature.dense import one_by_one
from nnlib.curvature.kronecker import Kronecker, NotPositiveDefinite
from nnlib.curvature.layers import chosen, shared
from nnlib.curvature.outputs import output_vectors, predictions
from nnlib.curvature.passes import measuring, ordinary


class Between(NamedTuple):
    """The block S (x) A between a layer i and the next: A = E[x_i x_{i+1}'], S = E[ds_i ds_{i+1}']; not square."""

    A: Tensor
    S: Tensor


@typed
@dataclass(frozen=True)
class Chain:
    """A Fisher matrix whose layers are a Markov chain: Kronecker blocks of each layer, and of each two neighbours.

    Args:
        names: Of the layers, in order.
        blocks: Of each layer.
        between: From each layer to the next, one fewer.

    Raises:
        ValueError: for other numbers of them.

    Source: arXiv 1503.05671, section 4.3. Chapter: ``book/curvature.ipynb``.
    """

    names: tuple[str, ...]
    blocks: tuple[Kronecker, ...]
    between: tuple[Between, ...]

    def __post_init__(self):
        if not len(self.names) == len(self.blocks) == len(self.between) + 1:
            counts = f"{len(self.names)}, {len(self.blocks)} and {len(self.between)}"
            raise ValueError(f"names, blocks and between must be n, n and n - 1 in number, n at least 1: got {counts}")

    def damped(self, damping: float) -> "Chain":
        """The same with factored damping of every layer's block (:meth:`Kronecker.damped`), also where blocks of
        neighbours are divided by it.

        Source: arXiv 1503.05671, section 6.3.
        """
        within("[0, inf)", damping=damping)
        return Chain(self.names, tuple(block.damped(damping) for block in self.blocks), self.between)

    def inverse(self) -> "Tridiagonal":
        """Xi' Lambda Xi, made once, to solve with often.

        Raises:
            NotPositiveDefinite: where the chain is singular.
        """
        gains, rests = [], []
        for block, between, after in zip(self.blocks, self.between, self.blocks[1:], strict=False):
            solver = after.cholesky()
            gain = Between(
                torch.cholesky_solve(between.A.mT, solver.L_A).mT,  # A_{i,i+1} A_{i+1}^-1
                torch.cholesky_solve(between.S.mT, solver.L_S).mT,  # S_{i,i+1} S_{i+1}^-1
            )
            gains.append(gain)
            rests.append(_Rest.of(block, Kronecker(gain.A @ between.A.mT, gain.S @ between.S.mT)))
        last = self.blocks[-1]
        nothing = Kronecker(torch.zeros_like(last.A), torch.zeros_like(last.S))
        return Tridiagonal(self.names, tuple(gains), (*rests, _Rest.of(last, nothing)))


@typed
def chain(
    model: nn.Module,
    x: Tensor,
    *,
    fisher: str = "exact",
    likelihood: str = "categorical",
    seed: int = 0,
    layers: Iterable[str] | None = None,
) -> Chain:
    """The moments of each layer and of each two neighbours, averaged over the examples.

    Args:
        model: Maps (B, ...) to (B, C); a chain of linear layers with anything between them that treats examples one by
            one. Left as it is.
        x: Inputs, (B, ...).
        fisher: As in :func:`nnlib.curvature.factors`, but for ``empirical``.
        likelihood: As there.
        seed: Of the sampled targets or vectors.
        layers: Names, in the order of the chain; by default all linear layers, as the model lists them.

    Raises:
        ValueError: for a convolution or a layer that sees several rows an example (whose gradients are sums), one that
            is frozen, not called or shares its weights, named; ``empirical``; a model with BatchNorm or dropout in
            training mode.

    Source: arXiv 1503.05671, section 4.3. Chapter: ``book/curvature.ipynb``.

    >>> from nnlib.models import MLP
    >>> found = chain(MLP([4, 8, 3], seed=0), torch.ones(5, 4))
    >>> found.names, [tuple(block.shape) for block in found.blocks], tuple(found.between[0].S.shape)
    (('layers.1', 'layers.3'), [(8, 5), (3, 9)], (8, 3))
    """
    real("batch ...", x=x)
    one_by_one(model)
    modules = dict(model.named_modules())
    watched, tied = chosen(modules, layers), shared(modules)
    for name, layer in watched.items():
        if not isinstance(layer, nn.Linear) or name in tied:
            why = f"it shares parameters with {tied[name]!r}" if name in tied else f"it is a {type(layer).__name__}"
            raise ValueError(f"layer {name!r} must be a linear layer of its own in a chain: {why}")
    with measuring(model), Capture(model, watched) as capture, torch.enable_grad():
        with passing(x=x):
            returned = model(ordinary(x))
        outputs = predictions(returned, None)
        vectors = output_vectors(outputs, fisher, likelihood, None, seeded(seed, outputs.device))  # (K, B, C)
        samples = capture.samples(outputs, vectors, rows=len(x))
    rows: list[tuple[Tensor, Tensor]] = []
    for name in watched:
        if name not in samples:
            raise ValueError(f"layer {name!r} must be called, trained and of influence on the output: leave it out")
        inputs, gradients = samples[name]  # (B, in), (K, B, out); an axis more where an example has several rows
        if inputs.ndim > 2:
            raise ValueError(f"layer {name!r} must see one row for each example: got {inputs.shape[1]}")
        rows.append((inputs, gradients.flatten(0, 1)))  # (B, in), (K B, out)
    B = len(x)
    blocks = tuple(Kronecker(a.T @ a / B, ds.T @ ds / B) for a, ds in rows)
    between = tuple(Between(a.T @ b / B, ds.T @ dt / B) for (a, ds), (b, dt) in pairwise(rows))
    return Chain(tuple(watched), blocks, between)


@dataclass(frozen=True)
class _Rest:
    """Sigma_{i|i+1} = S (x) A - C_S (x) C_A, what the next layer leaves open of layer i, ready to be solved with.

    With A = L L', L^-1 C_A L^-T = Q diag(a) Q' and K_A = L^-T Q, and likewise for S, its inverse is
    (K_S (x) K_A) diag(1 - s a')^-1 (K_S (x) K_A)'.
    """

    K_A: Tensor  # (in, in)
    K_S: Tensor  # (out, out)
    left: Tensor  # 1 - s a', (out, in)

    @classmethod
    def of(cls, block: Kronecker, explained: Kronecker) -> "_Rest":
        solver, parts = block.cholesky(), []
        for L, C in ((solver.L_A, explained.A), (solver.L_S, explained.S)):
            half = torch.linalg.solve_triangular(L, C, upper=False)
            values, Q = torch.linalg.eigh(torch.linalg.solve_triangular(L, half.mT, upper=False))
            parts.append((torch.linalg.solve_triangular(L.mT, Q, upper=True), values))
        (K_A, a), (K_S, s) = parts
        left = 1 - torch.outer(s, a)
        if not left.min() > len(left) * left.shape[1] * torch.finfo(left.dtype).eps:
            raise NotPositiveDefinite(
                f"the next layer leaves nothing open in a layer of {tuple(left.shape)} weights: raise the damping"
            )
        return cls(K_A, K_S, left)

    def solve(self, V: Tensor) -> Tensor:
        """Sigma^-1 vec(V), as (out, in)."""
        return self.K_S @ ((self.K_S.mT @ V @ self.K_A) / self.left) @ self.K_A.mT


@dataclass(frozen=True)
class Tridiagonal:
    """The inverse Xi' Lambda Xi of a :class:`Chain`; made by :meth:`Chain.inverse`.

    Xi has I on the diagonal and -Psi_i = -F_{i,i+1} F_{i+1}^-1 beside it; Lambda is block-diagonal, with
    (F_i - Psi_i F_{i+1} Psi_i')^-1, and F_l^-1 for the last layer.

    Source: arXiv 1503.05671, section 4.3 and appendix B. Chapter: ``book/curvature.ipynb``.
    """

    names: tuple[str, ...]
    gains: tuple[Between, ...]  # Psi_i = S (x) A with A = A_{i,i+1} A_{i+1}^-1, S = S_{i,i+1} S_{i+1}^-1
    rests: tuple[_Rest, ...]

    @typed
    def solve(self, V: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse times a vector, both as a matrix (out, in) for each layer, by name.

        Raises:
            ValueError: for other layers than the chain's.
        """
        if set(V) != set(self.names):
            raise ValueError(f"V must have the layers {', '.join(self.names)}: got {', '.join(map(str, V)) or 'none'}")
        v = [V[name] for name in self.names]
        for name, part, rest in zip(self.names, v, self.rests, strict=True):
            named: dict[str, Any] = {f"V[{name!r}]": part}
            real(" ".join(map(str, rest.left.shape)), **named)
        w = [v[i] - gain.S @ v[i + 1] @ gain.A.mT for i, gain in enumerate(self.gains)] + v[-1:]  # Xi v
        w = [rest.solve(part) for rest, part in zip(self.rests, w, strict=True)]  # Lambda Xi v
        u = w[:1] + [w[i + 1] - gain.S.mT @ w[i] @ gain.A for i, gain in enumerate(self.gains)]  # Xi' Lambda Xi v
        return dict(zip(self.names, u, strict=True))
