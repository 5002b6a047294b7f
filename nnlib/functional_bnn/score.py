"""What is the gradient of a log density of which only samples are known? The spectral Stein gradient estimator.

Paper: Shi, Sun, Zhu, A spectral approach to gradient estimation for implicit distributions (ICML 2018), as used by
Sun, Zhang, Shi, Grosse (arXiv 1903.05779), section 3. Chapter: book/functional_bnn.ipynb.
"""

from numbers import Integral

import torch
from torch import Tensor

from nnlib.arguments import one_of, typed, whole, within

ALL = 46  # up to so many samples every pair of a dimension counts, 1,035 pairs
RANKS = 32  # above, 32 x 32 of them: more change the width by less than 2 %, and are the slowest part
POINTS = 1000  # the same for distances in several dimensions, which cost less than the eigenvectors of as many samples
SAME = 1e-6  # a dimension in which samples differ by less than this has no width of its own


@typed
def median_widths(samples: Tensor, per_dimension: bool = True) -> Tensor:
    """Kernel widths by the median rule: σ_i = √d · median |x_i − x'_i|, or one σ = median ‖x − x'‖ for all dimensions.

    The median runs over all pairs of different samples where these are few. Otherwise, in one dimension, over all pairs
    of two sets of 32 quantiles, which lie at the odd quarters of 32 equal parts: within 3 % of the median over all
    pairs of a smooth density. In several dimensions it then runs over the pairs of 1,000 samples drawn by a seed of its
    own. So the order of the samples does not count. Nor does their origin: only differences are looked at.

    As published, a width below 10⁻⁶ has 1 added to it: samples belong in units in which they differ by more.

    Args:
        samples: (M, d), finite, with M at least 2.
        per_dimension: One width a dimension (the fBNN's rule), or a single one (the estimator's own paper).

    Returns:
        (d,), positive.

    Raises:
        TypeError: for what is no tensor or boolean.
        ValueError: for samples that are not such a matrix.
    """
    samples = _points("samples", samples, least=2)
    d = samples.shape[1]
    if per_dimension or d == 1:
        width = _median_difference(samples.mT.sort(1).values) * d**0.5
    else:
        width = torch.pdist(_some(samples)).median().expand(d)
    return torch.where(width < SAME, width + 1, width)


def _median_difference(columns: Tensor) -> Tensor:
    """Median distance within each row of sorted numbers: (d, M) -> (d,)."""
    n = columns.shape[1]
    if n <= ALL:
        return torch.cat([columns[:, k:] - columns[:, :-k] for k in range(1, n)], 1).median(1).values
    parts = torch.arange(RANKS, device=columns.device)
    low, high = (columns[:, ((4 * parts + quarter) * n) // (4 * RANKS)] for quarter in (1, 3))
    return (low[:, :, None] - high[:, None]).abs().flatten(1).median(1).values


def _some(samples: Tensor) -> Tensor:
    """All samples or, of many, 1,000, drawn from an order of their own, so that that of the caller does not count."""
    if len(samples) <= POINTS:
        return samples
    order = samples.unique(dim=0, return_inverse=True)[1].argsort()
    draws = torch.randperm(len(samples), generator=torch.Generator("cpu").manual_seed(0), device="cpu")[:POINTS]
    return samples[order[draws.to(order.device)]]


def _points(name: str, points: Tensor, least: int = 0, d: int | None = None) -> Tensor:
    """As a matrix in float64, which K needs, for it is nearly singular; refused where it is none."""
    fits = points.ndim == 2 and points.is_floating_point() and len(points) >= least
    if not fits or points.shape[1] != (d or points.shape[1] or -1) or not bool(points.isfinite().all()):
        asked = f"a finite (M, {d or 'd'}) matrix" + (f" with M ≥ {least}" if least else "")
        found = f"{points.dtype} of shape {tuple(points.shape)}" + (f", beside samples (M, {d})" if d else "")
        raise ValueError(f"{name} must be {asked}: got {found}")
    return points.double()


def check_eigenfunctions(eigenfunctions: int | float, most: int | None = None) -> None:
    """Refuse what is neither a number of eigenfunctions, up to ``most``, nor a share of their eigenvalues."""
    if isinstance(eigenfunctions, Integral):
        whole(1, most, eigenfunctions=eigenfunctions)
    else:
        within("(0, 1)", eigenfunctions=eigenfunctions)


@typed
class SpectralStein:
    """The spectral Stein estimator of ∇ log q, from samples x_1, ..., x_M of q.

    With the kernel k(x, x') = exp(−½ Σ_i (x_i − x'_i)²/σ_i²) and its Gram matrix K = U Λ Uᵀ on the samples, the
    eigenfunctions are ψ_j(y) = (√M/λ_j) Σ_m k(y, x_m) U_mj, and Stein's identity E[∇ψ_j + ψ_j ∇ log q] = 0 gives the
    coefficients of the score in them:

        ĝ(y) = Σ_{j≤J} β_j ψ_j(y),    β_j = −(1/M) Σ_m ∇ψ_j(x_m).

    Args:
        samples: (M, d), at least two, in any floating type and order, around any point: all is computed in float64 on
            what is left after the median of each dimension is taken off.
        eigenfunctions: J. An integer keeps that many; a number in (0, 1) as many as hold that share of Σλ. In both
            cases at least 1, and none whose eigenvalue is rounding noise.
        width: Positive number or (d,) tensor; ``dimension`` or ``scalar`` for the two median rules.
        queries: (N, d), further points that count for the median rule (as where a prior's score is wanted at samples of
            the posterior).

    Attributes:
        eigenvalues: (M,), of K, descending, float64.
        count: J, the number of eigenfunctions kept.

    Raises:
        TypeError: for what is no tensor, number or text.
        ValueError: for samples that are not a finite (M, d) matrix with M ≥ 2, queries that are not (N, d), another
            ``eigenfunctions`` or width, or samples too far apart for the squares of their distances.

    Source: Shi, Sun, Zhu 2018, equations 10 to 15; arXiv 1903.05779, section 3.1. Chapter: book/functional_bnn.ipynb.

    >>> x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> estimator = SpectralStein(x, eigenfunctions=6, width="scalar")
    >>> bool((estimator.score(x) + x).square().mean() < 0.1)  # the score of N(0, 1) is -x
    True
    """

    def __init__(
        self,
        samples: Tensor,
        eigenfunctions: int | float = 0.99,
        width: str | float | Tensor = "dimension",
        queries: Tensor | None = None,
    ):
        self.samples = samples.detach()  # no gradient flows through an estimated score
        points = _points("samples", self.samples, least=2)
        check_eigenfunctions(eigenfunctions, len(samples))
        # The kernel sees differences alone. Far from the origin they would be lost in the squares that it is made from.
        self._origin = points.median(0).values
        self._points = points - self._origin  # (M, d)
        self.width = self._width(width, points, queries)
        gram = self._kernel(self._points)  # (M, M)
        if not bool(gram.isfinite().all()):
            raise ValueError(
                "samples over width must have squares in float64: the samples are too large or it is too small"
            )
        values, vectors = torch.linalg.eigh(gram)
        self.eigenvalues, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        self.count = self._count(eigenfunctions)
        # Σ_m ∂k(x_m, x_n)/∂x_m, over the first argument: −(Kᵀ X − diag(Kᵀ 1) X)/σ²
        slope = -(gram @ self._points - gram.sum(0)[:, None] * self._points) / self.width**2  # (M, d)
        self._vectors = vectors[:, : self.count]  # (M, J)
        self._kept = self.eigenvalues[: self.count]
        self._root = len(samples) ** 0.5
        self.coefficients = -(self._vectors.mT @ slope) / (self._root * self._kept[:, None])  # β, (J, d)

    def _width(self, width: str | float | Tensor, points: Tensor, queries: Tensor | None) -> Tensor:
        if isinstance(width, str):
            one_of(("dimension", "scalar"), width=width)
            if queries is not None:
                points = torch.cat([points, _points("queries", queries.detach(), d=points.shape[1])])
            return median_widths(points, width == "dimension")
        if queries is not None:
            raise ValueError(f"queries count for the median rules alone: got width {width!r}")
        if not isinstance(width, Tensor):
            within("(0, inf)", width=width)
        width = torch.as_tensor(width, dtype=points.dtype, device=points.device)
        d = points.shape[1]
        if width.shape not in ((), (d,)) or not bool(((width > 0) & width.isfinite()).all()):
            raise ValueError(f"width must be positive, one number or {d}: got {width.tolist()}")
        return width.expand(d)

    def _kernel(self, y: Tensor) -> Tensor:
        """k(y, x_m), both without the origin: (N, d) -> (N, M)."""
        a, b = y / self.width, self._points / self.width
        square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
        return torch.exp(-0.5 * square.clamp_min(0))

    def _count(self, eigenfunctions: int | float) -> int:
        noise = len(self.samples) * torch.finfo(self.eigenvalues.dtype).eps * self.eigenvalues[0]
        usable = int((self.eigenvalues > noise).sum())
        if isinstance(eigenfunctions, Integral):
            return max(1, min(int(eigenfunctions), usable))
        share = self.eigenvalues.cumsum(0) / self.eigenvalues.sum()
        # Strictly below, as published, and never none: where the first eigenvalue holds the whole share, one is kept.
        return max(1, min(int((share < eigenfunctions).sum()), usable))

    def _eigenfunctions(self, y: Tensor) -> Tensor:
        y = _points("y", y, d=len(self.width))
        return self._root * self._kernel(y - self._origin) @ self._vectors / self._kept

    @typed
    def eigenfunctions(self, y: Tensor) -> Tensor:
        """ψ_j(y): (N, d) -> (N, J), by the Nyström extension; at the samples (1/M) ΨᵀΨ = I."""
        return self._eigenfunctions(y).to(self.samples.dtype)

    @typed
    def score(self, y: Tensor | None = None) -> Tensor:
        """The estimate of ∇ log q at y, (N, d) -> (N, d); at the samples themselves where y is None."""
        y = self.samples if y is None else y.detach()
        return (self._eigenfunctions(y) @ self.coefficients).to(self.samples.dtype)
