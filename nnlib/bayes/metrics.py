"""How good is a predictive distribution that is made of P sampled networks? Error, log likelihood, calibration.

The scaling contract. Networks see standardised targets, (y - mean) / scale with the training set's mean and standard
deviation. Every function here takes outputs and targets *in those units* and ``scale``; what comes back is in the
data's own units: root mean squared errors are multiplied by ``scale``, and ``log(scale)`` is subtracted from log
densities for each output, by the change of variables. Probabilities (coverage, calibration) need no scale. The log
likelihood is, for each point, the log of the *mean of densities* over particles; then the mean over points. Predictions
or targets that are not finite are refused by name (ValueError), as are shapes that do not fit, no examples at all, and
(TypeError) what is no tensor of floating-point numbers; classes may be of any whole type.
Papers: arXiv 1811.12565, 1903.05779. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nnlib.arguments import real, typed, whole, within
from nnlib.bayes.likelihoods import LOG_TWO_PI
from nnlib.bayes.shapes import check_classes, same_shape

LEVELS = tuple(i / 10 for i in range(1, 10))


@typed
def rmse(outputs: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """Root mean squared error of the mean over particles, a scalar.

    Args:
        outputs: (P, n, C), standardised.
        y: (n, C), standardised.
        scale: Standard deviation of the training targets, positive.

    >>> float(rmse(torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[3.0]]), scale=10))
    20.0
    """
    _check(outputs, y, scale)
    return scale * (outputs.mean(0) - y).square().sum(-1).mean().sqrt()


@typed
def log_likelihood(outputs: Tensor, y: Tensor, precision: Tensor | float, scale: float = 1.0) -> Tensor:
    """Mean over points of log (1/P) sum_p N(y; f_p, 1 / precision_p), as a density in the data's own units.

    Args:
        outputs: (P, n, C), standardised.
        y: (n, C), standardised.
        precision: Of the noise, one number or (P,).
        scale: Standard deviation of the training targets.

    >>> one = torch.zeros(1, 1, 1)
    >>> float(log_likelihood(one, one[0], 1.0) - log_likelihood(one, one[0], 1.0, scale=math.e))
    1.0
    """
    _check(outputs, y, scale)
    p = _precision(outputs, precision)
    C = y.shape[-1]
    logs = 0.5 * (C * (p.log() - LOG_TWO_PI) - p * (outputs - y).square().sum(-1))  # (P, n)
    return (logs.logsumexp(0) - math.log(len(outputs))).mean() - C * math.log(scale)


@typed
def probability_below(outputs: Tensor, y: Tensor, precision: Tensor | float) -> Tensor:
    """Where in its predictive distribution does each target lie? P(Y <= y), (n, C): uniform where calibrated.

    Args:
        outputs: (P, n, C).
        y: (n, C).
        precision: One number or (P,).
    """
    _check(outputs, y, 1.0)
    z = (y - outputs) * _precision(outputs, precision).sqrt()[..., None]
    return torch.special.ndtr(z).mean(0)


@typed
def coverage(outputs: Tensor, y: Tensor, precision: Tensor | float, level: float = 0.9) -> Tensor:
    """Share of targets within the central interval that should hold ``level`` of them, a scalar.

    Raises:
        ValueError: for a level outside (0, 1).

    >>> float(coverage(torch.zeros(1, 3, 1), torch.tensor([[0.0], [1.6], [1.7]]), 1.0))  # the interval ends at 1.645
    0.6666666865348816
    """
    within("(0, 1)", level=level)
    u = probability_below(outputs, y, precision)
    return ((u - 0.5).abs() <= level / 2).to(u.dtype).mean()


@typed
def calibration_error(
    outputs: Tensor, y: Tensor, precision: Tensor | float, levels: Sequence[float] = LEVELS
) -> Tensor:
    """Mean over levels of |coverage - level|, a scalar in [0, 1].

    Args:
        outputs: (P, n, C).
        y: (n, C).
        precision: One number or (P,).
        levels: At least one, each in (0, 1).
    """
    if not len(levels):
        raise ValueError("levels must be one number or more in (0, 1): got none")
    for level in levels:
        within("(0, 1)", levels=level)
    gaps = [(coverage(outputs, y, precision, level) - level).abs() for level in levels]
    return torch.stack(gaps).mean()


@typed
def regression_metrics(outputs: Tensor, y: Tensor, precision: Tensor | float, scale: float = 1.0) -> dict[str, float]:
    """``rmse``, ``log_likelihood``, ``coverage`` of the 90 % interval and ``calibration_error``, by name."""
    return {
        "rmse": float(rmse(outputs, y, scale)),
        "log_likelihood": float(log_likelihood(outputs, y, precision, scale)),
        "coverage": float(coverage(outputs, y, precision)),
        "calibration_error": float(calibration_error(outputs, y, precision)),
    }


@typed
def expected_calibration_error(probabilities: Tensor, y: Tensor, bins: int = 15) -> Tensor:
    """Mean over examples of |accuracy - confidence| within equal bins of the confidence, a scalar.

    Args:
        probabilities: (n, classes), of the predictive distribution.
        y: (n,), classes.
        bins: At least 1.

    Raises:
        ValueError: for logits in place of probabilities, labels that are no classes, or no bins.

    Source: Guo et al., arXiv 1706.04599, section 2.

    >>> float(expected_calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])))
    0.0
    """
    whole(1, bins=bins)
    real("n classes", probabilities=probabilities)
    check_classes(probabilities, y, "probabilities")
    off = (probabilities.sum(1) - 1).abs().max().item()
    if probabilities.min() < 0 or off > 8 * probabilities.shape[1] * torch.finfo(probabilities.dtype).eps + 1e-6:
        raise ValueError(
            f"probabilities must be in [0, 1] with sums of 1: a sum is off by {off:.3g}: are these logits?"
        )
    confidence, guess = probabilities.max(1)
    which = (confidence * bins).long().clamp(max=bins - 1)
    gap = (guess == y).to(confidence.dtype) - confidence  # (n,)
    sums = torch.zeros(bins, dtype=gap.dtype, device=gap.device).index_add(0, which, gap)
    return sums.abs().sum() / len(y)


@typed
def classification_metrics(logits: Tensor, y: Tensor) -> dict[str, float]:
    """``accuracy``, ``log_likelihood``, ``calibration_error``, ``brier`` of the mean of *probabilities* over particles.

    Args:
        logits: (P, n, classes).
        y: (n,), classes.

    The mean of logits, which the released code of arXiv 1811.12565 takes, is another prediction.

    >>> classification_metrics(torch.zeros(2, 3, 2), torch.tensor([0, 0, 1]))["brier"]
    0.5
    """
    real("P n classes", logits=logits)
    check_classes(logits, y, "logits")
    y = y.long()
    # By logarithms: the probability of a class that every network thinks impossible may be zero in single precision.
    logs = logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))  # (n, classes)
    p = logs.exp()
    truth = torch.nn.functional.one_hot(y, p.shape[1]).to(p.dtype)
    return {
        "accuracy": float((p.argmax(1) == y).to(p.dtype).mean()),
        "log_likelihood": float(logs.gather(1, y[:, None]).mean()),
        "calibration_error": float(expected_calibration_error(p, y)),
        "brier": float((p - truth).square().sum(1).mean()),
    }


def _precision(outputs: Tensor, precision: Tensor | float) -> Tensor:
    """As (P, 1) or (1, 1)."""
    if isinstance(precision, Tensor) and precision.numel() != 1:
        real("P", precision=precision)
        if len(precision) != len(outputs):
            wanted = f"one number, or one for each of the {len(outputs)} particles of outputs"
            raise ValueError(f"precision must be {wanted}: got {len(precision)}")
    else:
        within("(0, inf)", precision=precision)
    p = torch.as_tensor(precision, dtype=outputs.dtype, device=outputs.device).reshape(-1, 1)
    if not ((p > 0) & p.isfinite()).all():
        raise ValueError(f"precision must be positive and finite: got {p.min().item():g} to {p.max().item():g}")
    return p


def _check(outputs: Tensor, y: Tensor, scale: float) -> None:
    real("P n C", outputs=outputs)
    same_shape(outputs, y)
    real("...", y=y)
    within("(0, inf)", scale=scale)
