"""How can a dense layer be kept from stretching its input? The alternatives to Björck's iteration, in three norms.

Each answers ``lipschitz_bound``, so that the same report and the same certificates read all of them.

Paper: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from nnlib.arguments import one_of, real, typed, whole, within
from nnlib.lipschitz import Constrained, bjorck, dense_norm, orthogonal_matrix, residual
from nnlib.lipschitz.layers import check_features, parameter, plain_linear
from nnlib.lipschitz.norms import DUAL, known_norm
from nnlib.lipschitz.values import readable

ONTO = ("ball", "sphere", "scaling")


@typed
class _Dense(Constrained):
    """What the dense layers share: y = weight x + b, with ``raw`` (out, in) drawn orthogonal and a zero bias."""

    raw: nn.Parameter

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        gain: float = 1.0,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, n_in=n_in, n_out=n_out)
        within("(0, inf)", gain=gain)
        self.gain = gain
        self.raw = parameter(orthogonal_matrix(n_out, n_in, seed), device, dtype)
        self.bias = parameter(torch.zeros(n_out, device="cpu"), device, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:  # (n, in) -> (n, out)
        check_features(x, self.raw.shape[1])
        return linear(x, self.weight, self.bias)

    def plain(self) -> nn.Linear:
        """``nn.Linear``."""
        assert self.norms is not None
        if self.norms[0] != self.norms[1]:
            raise ValueError(
                f"{type(self).__name__} is bounded from the {self.norms[0]}-norm to the {self.norms[1]}-norm, which "
                "nn.Linear can't say: its certificate would be another one"
            )
        return plain_linear(self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.raw.shape[1]}, {self.raw.shape[0]}, bias={self.bias is not None}, gain={self.gain:g}"

    def _measured(self) -> tuple[Tensor, float]:
        """The weight in use, in units of the gain, and its proven norm (with what rounding may hide)."""
        assert self.norms is not None
        weight = self.weight.detach().double()
        margin = 1 + 4 * weight.shape[1] * torch.finfo(torch.float64).eps
        return weight / self.gain, dense_norm(weight, self.norms).item() * margin


@typed
class SpectralLinear(_Dense):
    """Spectral normalisation: gain W / sigma, sigma = uᵀ W v from power iterations that go on from step to step.

    Only the largest singular value becomes 1, the others are smaller. sigma is a bound from below, so that the weight
    may be larger than it claims: ``lipschitz_bound`` measures it.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        iterations: Power iterations a training step, at least 1.
        options: ``bias``, ``gain``, ``seed``, ``device``, ``dtype`` as in :class:`nnlib.lipschitz.OrthogonalLinear`.

    Raises:
        ValueError: a number out of its range; in forward, another number of features.

    Source: Miyato et al., arXiv 1802.05957; baseline of arXiv 1811.05381. Chapter: book/groupsort.ipynb

    >>> bound, residual = SpectralLinear(6, 4, seed=0).lipschitz_bound()
    >>> round(bound, 3)
    1.0
    """

    u: Tensor

    def __init__(self, n_in: int, n_out: int, *, iterations: int = 1, **options: Any):
        super().__init__(n_in, n_out, **options)
        whole(1, iterations=iterations)
        self.iterations = iterations
        u = torch.ones(n_out, dtype=torch.float64, device="cpu") / math.sqrt(n_out)
        self.register_buffer("u", u.to(self.raw))  # a buffer: neither trained nor decayed
        self.settle_()

    def settle_(self) -> None:
        """Fifty power iterations, for a weight that was just set."""
        self._iterate(50)

    @torch.no_grad()
    def _iterate(self, times: int) -> None:
        for _ in range(times):
            v = normalize(self.raw.mT @ self.u, dim=0)
            self.u.copy_(normalize(self.raw @ v, dim=0))

    def compute_weight(self) -> Tensor:
        if self.training:
            self._iterate(self.iterations)
        u = self.u.clone()  # it changes in place at the next step, before this one's gradient may have been taken
        v = normalize(self.raw.detach().mT @ u, dim=0)
        return self.gain * self.raw / (u @ self.raw @ v)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The largest singular value, and by how much it exceeds the gain, relatively."""
        _, bound = self._measured()
        return bound, max(0.0, bound / self.gain - 1)


class ParsevalLinear(_Dense):
    """A plain weight that takes one Björck step after each of the optimiser's (:func:`nnlib.lipschitz.project_every`).

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        options: ``bias``, ``gain``, ``seed``, ``device``, ``dtype`` as in :class:`nnlib.lipschitz.OrthogonalLinear`.

    Raises:
        ValueError: a number out of its range; in forward, another number of features.

    Source: Cisse et al., arXiv 1704.08847; baseline of arXiv 1811.05381. Chapter: book/groupsort.ipynb

    >>> layer = ParsevalLinear(6, 4, seed=0)
    >>> layer.project_()
    >>> round(layer.lipschitz_bound()[0], 3)
    1.0
    """

    def compute_weight(self) -> Tensor:
        return self.gain * self.raw

    @torch.no_grad()
    def project_(self) -> None:
        """raw <- raw (3/2 I - 1/2 rawᵀ raw), without gradient."""
        self.raw.copy_(bjorck(self.raw, 1, steps=1, scale=1.0))

    def lipschitz_bound(self) -> tuple[float, float]:
        """The largest singular value, which may exceed the gain, and ‖I - W Wᵀ / gain²‖_F."""
        weight, bound = self._measured()
        return bound, residual(weight).item()


@typed
class RowLinear(_Dense):
    """A dense layer whose rows are bounded: from the p-norm of the inputs, each output is ``gain``-Lipschitz.

    The bound on a row is in the norm dual to p: its 1-norm for p = inf (inner layers of an inf-norm network), its
    2-norm for p = 2 and its inf-norm for p = 1 (first layers, the mixed norm). So ``norms`` is (p, inf).

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        p: 1, 2 or inf.
        onto: "ball" (rows at most 1), "sphere" (the nearest row of norm 1; published code does this), or "scaling"
            (rows divided by their norm).
        when: "forward": project in each forward pass, with the gradient through what is kept. "step": project the
            stored weight after each step of the optimiser (see :func:`nnlib.lipschitz.project_every`).
        options: ``bias``, ``gain``, ``seed``, ``device``, ``dtype`` as in :class:`nnlib.lipschitz.OrthogonalLinear`.

    Raises:
        ValueError: for other values of ``p``, ``onto`` or ``when``, or a number out of its range; in forward, another
            number of features.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> layer = RowLinear(6, 4, onto="sphere", seed=0)
    >>> [round(total, 5) for total in layer.weight.abs().sum(1).tolist()]
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, n_in: int, n_out: int, *, p: float = math.inf, onto: str = "ball", when: str = "forward", **options: Any
    ):
        super().__init__(n_in, n_out, **options)
        known_norm(p=p)
        one_of(ONTO, onto=onto)
        one_of(("forward", "step"), when=when)
        self.p, self.onto, self.when, self.norms = p, onto, when, (p, math.inf)
        with torch.no_grad():  # a ball too is started at its surface: inside, the layer would give gain away
            self.raw.copy_(_projected(self.raw, DUAL[p], onto if onto == "scaling" else "sphere"))

    def compute_weight(self) -> Tensor:
        rows = _projected(self.raw, DUAL[self.p], self.onto) if self.when == "forward" else self.raw
        return self.gain * rows

    @torch.no_grad()
    def project_(self) -> None:
        """Put the stored rows where they belong."""
        self.raw.copy_(_projected(self.raw, DUAL[self.p], self.onto))

    def lipschitz_bound(self) -> tuple[float, float]:
        """The largest row in the dual norm, and by how much the rows miss the ball or sphere, relatively."""
        weight, bound = self._measured()
        sizes = torch.linalg.vector_norm(weight, DUAL[self.p], dim=1)
        away = (sizes - 1).clamp(min=0) if self.onto == "ball" else (sizes - 1).abs()
        return bound, away.max().item()


@typed
def project_rows(weight: Tensor, norm: float, onto: str = "ball") -> Tensor:
    """The rows nearest to those of W within the unit ball, or on the unit sphere, of the 1-, 2- or inf-norm.

    For the 1-norm, with |w| sorted descending as u and c_k = u_1 + ... + u_k,

        rho = max {k : k u_k > c_k - 1},   theta = (c_rho - 1) / rho,   w <- sign(w) max(|w| - theta, 0).

    The same holds for |w|, u and theta less u_1, so that 1 is not lost beside large entries.
    A row inside the ball stays for "ball"; for "sphere" its theta is negative and it grows.
    Gradients flow through the entries that are kept; theta and the signs are constants.

    Args:
        weight: Shape (out, in).
        norm: 1, 2 or inf.
        onto: "ball", "sphere" or "scaling". On the spheres of the 2- and inf-norm, rows are divided by their norm.

    Returns:
        Shape (out, in).

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: for other arguments, a row whose norm is not finite, or a zero row that should lie on a sphere.

    Source: Duchi et al. 2008; arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> row = torch.tensor([[0.1, 0.2, -0.1]])
    >>> [[round(x, 3) for x in project_rows(row, 1, onto)[0].tolist()] for onto in ("ball", "sphere", "scaling")]
    [[0.1, 0.2, -0.1], [0.3, 0.4, -0.3], [0.25, 0.5, -0.25]]
    """
    one_of(ONTO, onto=onto)
    known_norm(norm=norm)
    real("out in", finite=False, weight=weight)
    return _projected(weight, norm, onto)


def _projected(weight: Tensor, norm: float, onto: str) -> Tensor:
    size = torch.linalg.vector_norm(weight.detach(), norm, dim=1, keepdim=True)  # (out, 1)
    looked = readable(weight)
    if looked and not size.isfinite().all():
        raise ValueError(f"weight must be finite: row {int((~size.isfinite()).flatten().int().argmax())} is not")
    if onto != "ball" and looked and not (size > 0).all():
        raise ValueError(f"weight must have no row of zeros to find a nearest point on the sphere: row {size.argmin()}")
    if norm == 1 and onto != "scaling":
        own, sign = weight.detach().abs(), weight.detach().sign()
        largest = own.amax(1, keepdim=True)  # u_1
        gap = own - largest
        theta = _threshold(gap)
        nearest = torch.where(gap > theta, (weight - sign * largest) - sign * theta, 0.0)
        return torch.where(size > 1, nearest, weight) if onto == "ball" else nearest
    if norm == math.inf and onto == "ball":
        return weight.clamp(-1, 1)
    return weight / (size.clamp(min=1) if onto == "ball" else size)


def _threshold(gap: Tensor) -> Tensor:
    """theta - u_1 for each row of |w| - u_1, whose largest entry is 0: (out, in) -> (out, 1), from -1 to 0."""
    u = gap.sort(dim=1, descending=True).values
    k = torch.arange(1, u.shape[1] + 1, dtype=u.dtype, device=u.device)
    excess = u.cumsum(1) - 1
    rho = (k * u > excess).sum(1, keepdim=True)  # for a prefix, at least one
    return excess.gather(1, rho - 1) / rho
