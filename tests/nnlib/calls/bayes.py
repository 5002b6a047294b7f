"""Calls of ``nnlib.bayes``. Heads' losses and layers let NaN through, as torch does: ``test_boundaries`` has theirs."""

import math

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from nnlib.bayes import GammaGaussian, LinearGaussian, MeanFieldLinear, MeanFieldMLP

WHERE = {"device": torch.device("cpu"), "dtype": torch.float64}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(n, seed):
    root = numbers(n, n, seed=seed)
    return root @ root.mT + torch.eye(n, dtype=torch.float64)


def predictions(**others):
    """Of three networks at four points, two outputs each."""
    return {"outputs": numbers(3, 4, 2), "y": numbers(4, 2, seed=1)} | others


def precisions():
    return torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


def linear():
    return LinearGaussian(numbers(5, 2), numbers(5, seed=1), 0.3, 2.0)


CALLS = {
    "Gaussian": lambda: {"variance": 0.25, "learnt": True, "floor": 0.1, **WHERE},
    "GammaGaussian": lambda: {
        "n_data": 9, "shape": 6.0, "rate": 5.0, "outputs": 2, "copies": (3,), "decay": 0.9, **WHERE
    },
    "GammaGaussian.observe": lambda: {"self": GammaGaussian(9, outputs=2, dtype=torch.float64), **predictions()},
    "GammaGaussian.precisions": lambda: {
        "self": GammaGaussian(9, dtype=torch.float64), "particles": 3, "generator": torch.Generator().manual_seed(0)
    },
    "LinearGaussian": lambda: {
        "X": numbers(5, 2), "y": numbers(5, seed=1), "noise_variance": 0.3, "prior_variance": 2.0
    },
    "LinearGaussian.elbo": lambda: {"self": linear(), "mean": numbers(2), "covariance": spread(2, 1)},
    "LinearGaussian.predict": lambda: {"self": linear(), "x": numbers(3, 2)},
    "MeanFieldLinear": lambda: {"in_features": 3, "out_features": 2, "rho": -3.0, "seed": 1, **WHERE},
    "MeanFieldLinear.kl": lambda: {"self": MeanFieldLinear(3, 2, dtype=torch.float64), "prior_variance": 0.5},
    "MeanFieldMLP": lambda: {"sizes": [3, 2, 1], "activation": torch.tanh, "rho": -3.0, "seed": 1, **WHERE},
    "MeanFieldMLP.kl": lambda: {"self": MeanFieldMLP([3, 2], dtype=torch.float64), "prior_variance": 0.5},
    "calibration_error": lambda: predictions(precision=2.0, levels=(0.5, 0.9)),
    "classification_metrics": lambda: {"logits": numbers(3, 4, 3), "y": torch.tensor([0, 1, 2, 1])},
    "coverage": lambda: predictions(precision=precisions(), level=0.8),
    "expected_calibration_error": lambda: {
        "probabilities": numbers(4, 3).softmax(1), "y": torch.tensor([0, 1, 2, 1]), "bins": 3
    },
    "gaussian_kl": lambda: {
        "mean": numbers(3), "covariance": spread(3, 1), "prior_mean": numbers(3, seed=2),
        "prior_covariance": spread(3, 3),
    },
    "log_likelihood": lambda: predictions(precision=precisions(), scale=3.0),
    "mean_field_kl": lambda: {"mean": numbers(3), "variance": numbers(3, seed=1).square(), "prior_variance": 0.5},
    "probability_below": lambda: predictions(precision=2.0),
    "regression_metrics": lambda: predictions(precision=precisions(), scale=3.0),
    "rmse": lambda: predictions(scale=3.0),
}  # fmt: skip
ELSEWHERE = {"Categorical": "tests/nnlib/bayes/test_boundaries.py::test_what_a_formula_cannot_mean_is_refused_by_name"}


def deviations(outputs, precision):
    return torch.as_tensor(precision, dtype=torch.float64).view(-1, 1, 1).expand_as(outputs) ** -0.5


def below(outputs, y, precision):
    return Normal(outputs, deviations(outputs, precision)).cdf(y).mean(0)


def density(outputs, y, precision, scale):
    """In the data's own units from the start."""
    sd = scale * deviations(outputs, precision)
    z = (scale * y - scale * outputs) / sd
    each = (-0.5 * z**2 - sd.log() - 0.5 * math.log(2 * math.pi)).sum(-1)  # (P, n)
    return torch.stack([column.logsumexp(0) - math.log(len(column)) for column in each.T]).mean()


def share(outputs, y, precision, level):
    u = below(outputs, y, precision)
    return ((u >= 0.5 - level / 2) & (u <= 0.5 + level / 2)).double().mean()


def of_classes(logits, y):
    p = logits.softmax(-1).mean(0)  # (n, classes)
    labels, n = y.tolist(), len(y)
    return {
        "accuracy": sum(int(row.argmax()) == label for row, label in zip(p, labels, strict=True)) / n,
        "log_likelihood": sum(
            math.log(row[label])
            if row[label]
            else logits[:, i].log_softmax(-1)[:, label].logsumexp(0).item() - math.log(len(logits))
            for i, (row, label) in enumerate(zip(p, labels, strict=True))
        )
        / n,
        "calibration_error": binned(p, y, 15).item(),
        "brier": sum(
            float(((row - torch.eye(len(row)).double()[label]) ** 2).sum())
            for row, label in zip(p, labels, strict=True)
        )
        / n,
    }


def binned(probabilities, y, bins):
    """One bin after another: its share of the examples times the gap of its means."""
    found = torch.zeros((), dtype=torch.float64)
    confidence, guess = probabilities.max(1)
    for b in range(bins):
        last = b == bins - 1
        inside = (confidence * bins >= b) & ((confidence * bins < b + 1) | torch.tensor(last))
        if inside.any():
            gap = (guess[inside] == y[inside]).double().mean() - confidence[inside].mean()
            found += inside.double().mean() * gap.abs()
    return found


ORACLES = {
    "classification_metrics": of_classes,
    "expected_calibration_error": binned,
    "rmse": lambda outputs, y, scale: torch.tensor(
        math.hypot(*(scale * (outputs.mean(0) - y)).flatten()) / math.sqrt(len(y)), dtype=torch.float64
    ),
    "probability_below": below,
    "coverage": share,
    "log_likelihood": density,
    "calibration_error": lambda outputs, y, precision, levels: sum(
        abs(share(outputs, y, precision, level) - level) for level in levels
    ) / len(levels),
    "gaussian_kl": lambda mean, covariance, prior_mean, prior_covariance: kl_divergence(
        MultivariateNormal(mean, covariance), MultivariateNormal(prior_mean, prior_covariance)
    ),
    "mean_field_kl": lambda mean, variance, prior_variance: torch.stack(
        [0.5 * (v / prior_variance + m * m / prior_variance - 1 + math.log(prior_variance) - v.log())
         for m, v in zip(mean.flatten(), variance.flatten(), strict=True)]
    ).sum(),
    "LinearGaussian.predict": lambda self, x: (
        x @ torch.linalg.solve(self.precision, self.X.T @ self.y / self.noise_variance),
        (x @ torch.linalg.inv(self.precision) @ x.T).diagonal() + self.noise_variance,
    ),
}  # fmt: skip
