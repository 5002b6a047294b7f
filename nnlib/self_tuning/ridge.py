"""Where can a tuner be checked exactly? Ridge regression, whose best response, Jacobian and optimum are formulas.

Training loss 1/2 mean (y - x'w)² + e^lambda/2 |w|², validation loss 1/2 mean (y - x'w)². The hyperparameter lambda is
the logarithm of the penalty. Paper: arXiv 1903.03088, section 3.1 and appendix. Chapter: ``book/self_tuning.ipynb``.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nnlib.arguments import real, typed, whole, within
from nnlib.cholesky import cholesky
from nnlib.training import Split


@typed
@dataclass(frozen=True)
class Ridge:
    """Ridge regression with a training and a validation set.

    Args:
        train: Inputs (n, d) and targets (n,).
        validation: Inputs (m, d) and targets (m,).

    Raises:
        TypeError: for what is no split of real numbers.
        ValueError: for other shapes or dtypes, or numbers that are not finite; in its methods for a penalty e^lambda or
            a scale sigma too large for the dtype, or so small that no single w is the best.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    >>> y = x[:, 0] + torch.randn(60, generator=generator, dtype=torch.float64)
    >>> problem = Ridge(Split(x[:20], y[:20]), Split(x[20:], y[20:]))
    >>> abs(problem.hypergradient(problem.optimum())) < 1e-9
    True
    """

    train: Split
    validation: Split

    def __post_init__(self):
        sizes: dict[str, int] = {}
        for role, split in (("train", self.train), ("validation", self.validation)):
            sizes = real("n d", {d: n for d, n in sizes.items() if d == "d"}, finite=True, **{f"{role}.x": split.x})
            real("n", sizes, finite=True, **{f"{role}.y": split.y})
        dtypes = {t.dtype for split in (self.train, self.validation) for t in split}
        if len(dtypes) > 1:
            raise TypeError(f"train and validation must have one dtype: got {', '.join(sorted(map(str, dtypes)))}")

    @cached_property
    def hessian(self) -> Tensor:
        """X'X/n of the training set, (d, d); its gradient at w is this times w minus ``moment``."""
        return self.train.x.T @ self.train.x / len(self.train.y)

    @cached_property
    def moment(self) -> Tensor:
        """X'y/n of the training set, (d,)."""
        return self.train.x.T @ self.train.y / len(self.train.y)

    def best_response(self, lam: float) -> Tensor:
        """w*(lambda) = (X'X/n + e^lambda I)^-1 X'y/n, (d,)."""
        return self._solve(lam, self.moment)

    def jacobian(self, lam: float) -> Tensor:
        """dw*/dlambda = -(X'X/n + e^lambda I)^-1 e^lambda w*, (d,), by the implicit function theorem."""
        return -self._solve(lam, self.penalty(lam) * self.best_response(lam))

    def validation_loss(self, w: Tensor) -> Tensor:
        """1/2 mean (y - x'w)² of the validation set, at w (d,)."""
        real("d", {"d": len(self.moment)}, w=w)
        return (self.validation.x @ w - self.validation.y).square().mean() / 2

    def hypergradient(self, lam: float) -> float:
        """d/dlambda of the validation loss at the best response: its gradient by w times the Jacobian."""
        w = self.best_response(lam)
        x, y = self.validation
        return float((x.T @ (x @ w - y) / len(y)) @ self.jacobian(lam))

    def unrolled_hypergradient(self, lam: float, steps: int, lr: float) -> float:
        """The same by differentiating ``steps`` steps of gradient descent from 0; exact only in the limit.

        Raises:
            ValueError: for numbers out of range, or steps of a rate ``lr`` with which it diverges.
        """
        self.penalty(lam)
        whole(1, steps=steps)
        within("(0, inf)", lr=lr)
        point = torch.tensor(lam, dtype=self.train.x.dtype, device=self.train.x.device, requires_grad=True)
        w = torch.zeros_like(self.moment)
        for _ in range(steps):
            w = w - lr * (self.hessian @ w - self.moment + point.exp() * w)
        if not bool(w.isfinite().all()):
            raise ValueError(f"lr must be so small that the {steps} steps do not diverge: got {lr}")
        return float(torch.autograd.grad(self.validation_loss(w), point)[0])

    def optimum(self) -> float:
        """The lambda in [-10, 10] whose best response has the lowest validation loss: a grid, then a bisection."""
        grid = torch.linspace(-10, 10, 201, dtype=torch.float64, device="cpu").tolist()
        losses = [float(self.validation_loss(self.best_response(lam))) for lam in grid]
        best = min(range(1, len(grid) - 1), key=losses.__getitem__)
        low, high = grid[best - 1], grid[best + 1]
        while high - low > 1e-10:
            middle = (low + high) / 2
            low, high = (middle, high) if self.hypergradient(middle) < 0 else (low, middle)
        return (low + high) / 2

    def linear_response(self, lam: float, sigma: float) -> tuple[Tensor, Tensor]:
        """The affine response w_0 + v eps of least expected training loss, eps ~ N(0, sigma²): w_0 and v, (d,) each.

        The loss is quadratic in (w_0, v), with s = e^(sigma²/2) and the moments E e^eps = s, E eps e^eps = sigma² s,
        E eps² e^eps = (sigma² + sigma⁴) s. As sigma -> 0, w_0 -> w* and v -> dw*/dlambda.

        Source: arXiv 1903.03088, section 3.2, theorem on the local objective.
        """
        within("(0, inf)", sigma=sigma)
        hessian = joint_hessian(self, lam, sigma, centred=True)
        otherwise = f"with lam {lam} and sigma {sigma} the slope is not determined: take another sigma or lam"
        if float(sigma) ** 2 < torch.finfo(hessian.dtype).tiny:  # the variance has lost its digits
            raise ValueError(otherwise)
        L = cholesky(hessian, otherwise)
        w_0, v = torch.cholesky_solve(self._right()[:, None], L)[:, 0].chunk(2)
        return w_0, v

    def gates(self, lam: float) -> tuple[Tensor, Tensor]:
        """Shrinkage of each principal component, (d,): sigmoid(2 ln d_i - lambda); and the components, rows of (d, d).

        d_i are the singular values of X / sqrt(n): this is d²/(d² + e^lambda), and the ridge solution is the
        least-squares solution with each of its coordinates times its gate.

        Source: arXiv 1903.03088, theorem 2.
        """
        within("(-inf, inf)", lam=lam)
        _, singular, components = torch.linalg.svd(self.train.x / len(self.train.y) ** 0.5, full_matrices=False)
        return (2 * singular.log() - lam).sigmoid(), components

    def regularised(self, lam: float) -> Tensor:
        """X'X/n + e^lambda I, (d, d): the Hessian of the training loss."""
        return self.hessian + self.penalty(lam) * eye_like(self.hessian)

    def penalty(self, lam: float) -> float:
        """e^lambda."""
        return exponential(self.hessian.dtype, lam=lam)

    def _solve(self, lam: float, right: Tensor) -> Tensor:
        """(X'X/n + e^lambda I)^-1 times a vector."""
        otherwise = f"lam must be larger for X'X/n + e^lambda I to be positive definite in its dtype: got {lam}"
        return torch.cholesky_solve(right[:, None], cholesky(self.regularised(lam), otherwise))[:, 0]

    def _right(self) -> Tensor:
        """Linear term of the expected training loss in (w_0, v), centred: the perturbation has mean 0."""
        return torch.cat([self.moment, torch.zeros_like(self.moment)])


def exponential(dtype: torch.dtype, **named: float) -> float:
    """The exponential of a number, where it is one of that dtype."""
    within(f"(-inf, {math.floor(math.log(torch.finfo(dtype).max))})", **named)
    return math.exp(*named.values())


@typed
def joint_hessian(problem: Ridge, lam: float, sigma: float, *, centred: bool) -> Tensor:
    """Hessian (2d, 2d) of the expected training loss in (w_0, v): how hard the response is to learn.

    The response is w_0 + v r, with r = eps where it is centred (Delta-STN) and r = lambda + eps where not (STN).

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    >>> y = x[:, 0] + torch.randn(60, generator=generator, dtype=torch.float64)
    >>> problem = Ridge(Split(x[:20], y[:20]), Split(x[20:], y[20:]))
    >>> condition = lambda centred: float(torch.linalg.cond(joint_hessian(problem, -6, 0.5, centred=centred)))
    >>> condition(False) > 100 * condition(True)
    True
    """
    within("(-inf, inf)", lam=lam, sigma=sigma)
    H = problem.hessian
    lift = exponential(H.dtype, **{"lam + sigma * sigma / 2": lam + sigma * sigma / 2})
    eye = eye_like(H)
    mean = 0.0 if centred else lam
    # E r, E r²; under the density tilted by e^eps the mean of eps is sigma² and its variance sigma² again.
    plain = mean, mean**2 + sigma**2
    tilted = mean + sigma**2, (mean + sigma**2) ** 2 + sigma**2
    cross, square = (p * H + t * lift * eye for p, t in zip(plain, tilted, strict=True))
    return torch.cat([torch.cat([H + lift * eye, cross], 1), torch.cat([cross, square], 1)])


def eye_like(matrix: Tensor) -> Tensor:
    """The identity of the size, device and dtype of a square matrix."""
    return torch.eye(len(matrix), device=matrix.device, dtype=matrix.dtype)
