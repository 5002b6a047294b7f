"""What is the noisy quadratic model, and how is a spectrum of any size made small?

Paper: Zhang et al., Which Algorithmic Choices Matter at Which Batch Sizes? (arXiv 1907.04164). Chapter: book/nqm.ipynb.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnlib.arguments import typed, whole, within
from nnlib.nqm.checks import MOST, Numbers, numbers

Array = NDArray[np.float64]
FULL = 2**14  # up to so many eigenvalues of a power law, each one is summed
LEAST = 1e-100  # of curvatures and variances, and one over the largest: products and squares of them are numbers
HEAD = 2**12  # above, these come first and Gauss-Legendre panels in log i stand for the tail


@dataclass(frozen=True)
class Spectrum:
    """Curvatures, and how much of the risk hangs on each: all that the closed forms need of a problem.

    Args:
        h: curvatures, (n,), descending.
        initial: 1/2 h E[theta_0²], the risk at the start, (n,).
        noise: c/2, half the variance of the gradient noise at batch size 1, (n,).
    """

    h: Array
    initial: Array
    noise: Array


@typed
class NoisyQuadratic:
    """A diagonal quadratic loss whose gradient carries Gaussian noise that shrinks with the batch.

    L(theta) = 1/2 sum_i h_i theta_i²,  g_B(theta) = h theta + xi,  Var xi_i = c_i / B,  E theta_i(0)² = s0_i,
    with h_i = i^(-curvature_exponent), c_i = h_i^noise_exponent and s0_i = init_variance.
    A diagonal H loses nothing: the methods of the paper commute with rotations of theta.

    Args:
        dim: number of eigenvalues, from 1 to 2^53. Above 16,384 the tail is integrated over log i, see below.
        curvature_exponent: >= 0; 1 gives the paper's condition number `dim`.
        noise_exponent: any finite number; 1 makes the noise covariance equal the Hessian, as in the paper.
        init_variance: > 0.

    Attributes:
        h, c, s0: curvature, noise variance at batch size 1 and initial variance, (n,) each.
        weight: how many eigenvalues each entry stands for, (n,): ones when n == dim.

    Raises:
        ValueError: an argument is out of range.

    Where the tail is integrated, the risk differs from the sum over every eigenvalue, measured for 20,000 to 10^6 of
    them, by less than 1e-8 of the whole for SGD, its average and schedules, and for the heavy ball as `steps_to_target`
    tunes it. Where the bias is almost nothing, its own relative error is larger. A heavy ball that has hardly forgotten
    its start after t steps (momentum^t not small) draws t sqrt(lr h) / 2 pi waves on the tail, which few nodes don't
    follow: its bias is then off by 1e-7 at 10^4 steps and by up to 3e-3 from 10^5 on. `from_spectrum` sums everything.

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb

    >>> NoisyQuadratic(dim=3).h.round(3).tolist()
    [1.0, 0.5, 0.333]
    >>> round(NoisyQuadratic().initial_risk, 6)
    4.893803
    """

    dim: int
    h: Array
    c: Array
    s0: Array
    weight: Array

    def __init__(
        self,
        dim: int = 10_000,
        curvature_exponent: float = 1.0,
        noise_exponent: float = 1.0,
        init_variance: float = 1.0,
    ):
        whole(1, MOST, dim=dim)
        within("[0, inf)", curvature_exponent=curvature_exponent)
        within("(-inf, inf)", noise_exponent=noise_exponent)
        within("(0, inf)", init_variance=init_variance)
        i, weight = _indices(int(dim))
        with np.errstate(over="ignore"):  # refused below, by name
            h = i ** -float(curvature_exponent)
            c = h ** float(noise_exponent)
        s0 = np.full_like(h, float(init_variance))
        made = {"h = i^-curvature_exponent": h, "c = h^noise_exponent": c, "s0 = init_variance": s0}
        self._set(int(dim), made, weight)

    @classmethod
    @typed
    def from_spectrum(cls, h: Numbers, c: Numbers | None = None, s0: Numbers = 1.0) -> "NoisyQuadratic":
        """A problem with given eigenvalues, for example those measured on a network.

        Args:
            h: curvatures, (d,), > 0, in any order.
            c: noise variances at batch size 1, (d,) or a scalar, > 0; None takes c = h.
            s0: initial variances, (d,) or a scalar, > 0.

        Raises:
            ValueError: a value is not positive and finite, from 1e-100 to 1e100, or the shapes differ.
            TypeError: what is given are no real numbers.

        Chapter: book/nqm.ipynb

        >>> NoisyQuadratic.from_spectrum([1.0, 4.0]).h.tolist()
        [4.0, 1.0]
        """
        h = numbers(h=h)
        if h.ndim != 1 or h.size == 0:
            raise ValueError(f"h must be a vector with at least one eigenvalue: got shape {h.shape}")
        order = np.argsort(-h, kind="stable")

        def column(name: str, value: Numbers) -> Array:
            value = numbers(**{name: value})
            if value.ndim and value.shape != h.shape:
                raise ValueError(f"{name} must be a scalar or have the shape of h, {h.shape}: got {value.shape}")
            return np.broadcast_to(value, h.shape)[order]  # a copy: what was given stays the caller's

        problem = cls.__new__(cls)
        made = {"h": h[order], "c": column("c", h if c is None else c), "s0": column("s0", s0)}
        problem._set(h.size, made, np.ones(h.size))
        return problem

    def _set(self, dim: int, made: dict[str, Array], weight: Array) -> None:
        """Take h, c and s0, in this order, by the names that a message shows."""
        for name, value in made.items():
            fine = (value >= LEAST) & (value <= 1 / LEAST)  # NaN is neither
            if not fine.all():
                raise ValueError(
                    f"every entry of {name} must be from {LEAST:g} to {1 / LEAST:g}: got {value[~fine][0]}"
                )
            value.flags.writeable = False
        weight.flags.writeable = False
        self.dim, self.weight = dim, weight
        self.h, self.c, self.s0 = made.values()

    def __repr__(self) -> str:
        return f"NoisyQuadratic(dim={self.dim}, h={self.h[0]:.3g}..{self.h[-1]:.3g})"

    @cached_property
    def spectrum(self) -> Spectrum:
        """The whole spectrum, with what each eigenvalue carries."""
        return Spectrum(self.h, 0.5 * self.weight * self.h * self.s0, 0.5 * self.weight * self.c)

    @cached_property
    def compressed(self) -> Spectrum:
        """Few eigenvalues, 272 for the default, with the same risk to 1e-5, down to 1e-4 of its start."""
        return compress(self.spectrum, head=64, density=21)

    @cached_property
    def reduced(self) -> Spectrum:
        """Fewer, 128 for the default, good to about 1e-4; for schedules and the first exact searches."""
        return compress(self.spectrum, head=32, density=8.4)

    @cached_property
    def sketch(self) -> Spectrum:
        """Fewest, 56 for the default, good to about 1e-2 and where nothing oscillates; for coarse tables."""
        return compress(self.spectrum, head=8, density=3.4)

    @property
    def initial_risk(self) -> float:
        """R(0) = 1/2 sum_i h_i s0_i."""
        return float(self.spectrum.initial.sum())

    @property
    def condition_number(self) -> float:
        """Largest over smallest curvature."""
        return float(self.h[0] / self.h[-1])


def compress(spectrum: Spectrum, head: int, density: float) -> Spectrum:
    """Few eigenvalues that carry the same risk: the largest stay, each bucket of the others becomes two.

    The two nodes of a bucket are its two-point Gauss rule: they keep the mean, variance and skewness of u = -log h.
    Their masses keep the sum and the mean of `initial` and of `noise` each. Every risk is a smooth function of u
    times these masses, so a bucket of width w leaves an error of order w⁴.

    Args:
        spectrum: what to compress, n eigenvalues, descending.
        head: how many of the largest stay as they are.
        density: how many buckets a factor e of curvature is cut into, on average; the first are narrowest, since
            the modes with large curvature oscillate fastest.

    Returns:
        A new Spectrum with at most head + 2 (density log(h_head / h_min) + 1) eigenvalues.
    """
    if spectrum.h.size <= head:
        return replace(spectrum)
    buckets = int(np.ceil(density * np.log(spectrum.h[head] / spectrum.h[-1]))) + 1
    if spectrum.h.size <= head + 2 * buckets:
        return replace(spectrum)
    u = -np.log(spectrum.h[head:])
    initial, noise = spectrum.initial[head:], spectrum.noise[head:]
    edges = u[0] + (u[-1] - u[0]) * np.expm1(np.linspace(0, 2, buckets + 1)) / np.expm1(2)  # e² wider at the end
    starts = np.unique(np.searchsorted(u, edges[:-1]))  # of the buckets that hold something
    sizes = np.diff(np.append(starts, u.size))

    def total(mass: Array) -> Array:
        return np.add.reduceat(mass, starts)

    share = initial / initial.sum() + noise / noise.sum()  # one measure for the nodes of both masses
    mean = total(share * u) / total(share)
    away = u - np.repeat(mean, sizes)
    spread = np.sqrt(total(share * away**2) / total(share))
    spread = np.maximum(spread, 1e-9)  # a bucket with a single curvature gets two equal nodes
    skew = total(share * away**3) / total(share) / spread**3
    left = spread * (skew - np.sqrt(skew**2 + 4)) / 2
    right = spread * (skew + np.sqrt(skew**2 + 4)) / 2

    def masses(mass: Array) -> tuple[Array, Array]:
        on_right = (total(mass * away) - left * total(mass)) / (right - left)
        return total(mass) - on_right, on_right

    h = np.exp(-np.stack([mean + left, mean + right], axis=-1).ravel())
    initial_nodes, noise_nodes = (np.stack(masses(mass), axis=-1).ravel() for mass in (initial, noise))
    return Spectrum(
        np.concatenate([spectrum.h[:head], h]),
        np.concatenate([spectrum.initial[:head], initial_nodes]),
        np.concatenate([spectrum.noise[:head], noise_nodes]),
    )


def _indices(dim: int) -> tuple[Array, Array]:
    """i = 1..dim with weights 1; for a large dim the tail as Gauss-Legendre panels in log i.

    sum_{i=a+1}^{b} f(i) = integral of f from a + 1/2 to b + 1/2, up to f'/24 at the ends (midpoint rule).
    """
    if dim <= FULL:
        return np.arange(1.0, dim + 1), np.ones(dim)
    start, end = np.log(HEAD + 0.5), np.log(dim + 0.5)
    edges = np.linspace(start, end, int(np.ceil((end - start) * 64)) + 1)
    x, w = np.polynomial.legendre.leggauss(4)
    half = np.diff(edges)[:, None] / 2
    i = np.exp(edges[:-1, None] + half * (1 + x)).ravel()  # (panels * 4,)
    weight = (half * w).ravel() * i  # di = i d(log i)
    return np.append(np.arange(1.0, HEAD + 1), i), np.append(np.ones(HEAD), weight)
