"""What is the gradient of a log density of which only samples are known? The spectral Stein gradient estimator.

Paper: Shi, Sun, Zhu, A spectral approach to gradient estimation for implicit distributions (ICML 2018), as used by
Sun, Zhang, Shi, Grosse (arXiv 1903.05779), section 3. Chapter: book/functional_bnn.ipynb.
"""

import torch
from torch import Tensor

PAIRS = 600  # a median over more pairs of samples changes nothing that is seen, and is the slowest part
SAME = 1e-6  # a dimension in which samples differ by less than this has no width of its own


def median_widths(samples: Tensor, per_dimension: bool = True) -> Tensor:
    """Kernel widths by the median rule: σ_i = √d · median |x_i − x'_i|, or one σ = median ‖x − x'‖ for all dimensions.

    The median runs over pairs of different samples: all of them where there are at most 600, else the pairs
    (m, m + 1), (m, m + 2), ... round the circle until there are that many. A width below 10⁻⁶ has 1 added to it.

    Args:
        samples: (M, d) with M at least 2.
        per_dimension: One width a dimension (the fBNN's rule), or a single one (the estimator's own paper).

    Returns:
        (d,), positive.
    """
    n, d = samples.shape
    shifts = range(1, min(n - 1, -(-PAIRS // n)) + 1)
    columns = samples.mT.contiguous()  # (d, M): a median along the last, contiguous axis is several times faster
    differences = torch.cat([columns - columns.roll(k, 1) for k in shifts], 1)  # (d, pairs)
    if per_dimension:
        width = differences.abs().median(1).values * d**0.5
    else:
        width = differences.norm(dim=0).median().expand(d)
    return torch.where(width < SAME, width + 1, width)


class SpectralStein:
    """The spectral Stein estimator of ∇ log q, from samples x_1, ..., x_M of q.

    With the kernel k(x, x') = exp(−½ Σ_i (x_i − x'_i)²/σ_i²) and its Gram matrix K = U Λ Uᵀ on the samples, the
    eigenfunctions are ψ_j(y) = (√M/λ_j) Σ_m k(y, x_m) U_mj, and Stein's identity E[∇ψ_j + ψ_j ∇ log q] = 0 gives the
    coefficients of the score in them:

        ĝ(y) = Σ_{j≤J} β_j ψ_j(y),    β_j = −(1/M) Σ_m ∇ψ_j(x_m).

    Args:
        samples: (M, d), at least two; float64 is advised, since K is nearly singular.
        eigenfunctions: J. An integer keeps that many; a number in (0, 1) as many as hold that share of Σλ. In both
            cases at least 1, and none whose eigenvalue is rounding noise.
        width: Positive number or (d,) tensor; ``dimension`` or ``scalar`` for the two median rules.
        queries: (N, d), further points that count for the median rule (as where a prior's score is wanted at samples of
            the posterior).

    Attributes:
        eigenvalues: (M,), of K, descending.
        count: J, the number of eigenfunctions kept.

    Raises:
        ValueError: for samples that are not a finite (M, d) matrix with M ≥ 2, or another ``eigenfunctions`` or width.

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
        if samples.ndim != 2 or len(samples) < 2 or not samples.isfinite().all():
            raise ValueError(f"samples must be a finite (M, d) matrix with M ≥ 2: got shape {tuple(samples.shape)}")
        whole = isinstance(eigenfunctions, int) and not isinstance(eigenfunctions, bool)
        if not (whole and 1 <= eigenfunctions <= len(samples)) and not (not whole and 0 < eigenfunctions < 1):
            raise ValueError(
                f"eigenfunctions must be an integer from 1 to M = {len(samples)}, or a share of the eigenvalues in "
                f"(0, 1): got {eigenfunctions!r}"
            )
        self.samples = samples.detach()  # no gradient flows through an estimated score
        self.width = self._width(width, queries)
        gram = self._kernel(self.samples)  # (M, M)
        values, vectors = torch.linalg.eigh(gram)
        self.eigenvalues, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        self.count = self._count(eigenfunctions)
        # Σ_m ∂k(x_m, x_n)/∂x_m, over the first argument: −(Kᵀ X − diag(Kᵀ 1) X)/σ²
        slope = -(gram @ self.samples - gram.sum(0)[:, None] * self.samples) / self.width**2  # (M, d)
        self._vectors = vectors[:, : self.count]  # (M, J)
        self._kept = self.eigenvalues[: self.count]
        self._root = len(samples) ** 0.5
        self.coefficients = -(self._vectors.mT @ slope) / (self._root * self._kept[:, None])  # β, (J, d)

    def _width(self, width: str | float | Tensor, queries: Tensor | None) -> Tensor:
        if isinstance(width, str):
            if width not in ("dimension", "scalar"):
                raise ValueError(f"width must be 'dimension', 'scalar' or positive: got {width!r}")
            points = self.samples if queries is None else torch.cat([self.samples, queries.detach()])
            return median_widths(points, width == "dimension")
        width = torch.as_tensor(width, dtype=self.samples.dtype, device=self.samples.device)
        width = width.expand(self.samples.shape[1])
        if not bool((width > 0).all()):
            raise ValueError(f"width must be positive in every dimension: got {width.tolist()}")
        return width

    def _kernel(self, y: Tensor) -> Tensor:
        """k(y, x_m): (N, d) -> (N, M)."""
        a, b = y / self.width, self.samples / self.width
        square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
        return torch.exp(-0.5 * square.clamp_min(0))

    def _count(self, eigenfunctions: int | float) -> int:
        noise = len(self.samples) * torch.finfo(self.samples.dtype).eps * self.eigenvalues[0]
        usable = int((self.eigenvalues > noise).sum())
        if isinstance(eigenfunctions, int):
            return max(1, min(eigenfunctions, usable))
        share = self.eigenvalues.cumsum(0) / self.eigenvalues.sum()
        # Strictly below, as published, and never none: where the first eigenvalue holds the whole share, one is kept.
        return max(1, min(int((share < eigenfunctions).sum()), usable))

    def eigenfunctions(self, y: Tensor) -> Tensor:
        """ψ_j(y): (N, d) -> (N, J), by the Nyström extension; at the samples (1/M) ΨᵀΨ = I."""
        return self._root * self._kernel(y) @ self._vectors / self._kept

    def score(self, y: Tensor | None = None) -> Tensor:
        """The estimate of ∇ log q at y, (N, d) -> (N, d); at the samples themselves where y is None."""
        y = self.samples if y is None else y.detach()
        return self.eigenfunctions(y) @ self.coefficients
