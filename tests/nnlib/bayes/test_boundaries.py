"""What is no noise, no prediction or no class is refused by name; and learnt noise comes back from its floor."""

import math

import pytest
import torch

from nnlib import bayes

NAN, INF = math.nan, math.inf
f64 = {"dtype": torch.float64}


def descend(head, residuals, steps, lr=0.05):
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(torch.zeros_like(residuals), residuals).backward()
        optimizer.step()


def sd(head):
    return float(head.precision.detach()) ** -0.5


@pytest.mark.parametrize("start", [0.01, 0.2, 0.5], ids=lambda v: f"from {v}")
def test_learnt_noise_leaves_its_floor_whenever_the_residuals_ask_for_it(start):
    """Down to the floor, up, and down again. Breaks with a clamp of the value: there is no gradient below it."""
    y = torch.randn(100, 1, generator=torch.Generator().manual_seed(0), **f64)
    y = y / y.square().mean().sqrt()
    head = bayes.Gaussian(start**2, learnt=True, floor=0.2, **f64)
    for scale, expected in ((1e-3, 0.2), (0.8, 0.8), (1e-3, 0.2)):
        descend(head, scale * y, 300)
        assert sd(head) == pytest.approx(expected, rel=0.02) and sd(head) >= 0.2 * (1 - 1e-12)


def test_learnt_noise_leaves_its_floor_within_one_optimiser():
    """300 steps at the floor do not sum up to a way back: the parameter waits on the floor, not below it.

    The slope at the floor is 400 times that near the end, so that Adam is slow there: it is on its way, not at 1.
    """
    head = bayes.Gaussian(0.25, learnt=True, floor=0.05, **f64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for scale in (1e-3, 1.0):
        for _ in range(300):
            optimizer.zero_grad()
            head.loss(torch.zeros(2, 1, **f64), scale * torch.tensor([[-1.0], [1.0]], **f64)).backward()
            optimizer.step()
    assert 0.6 < sd(head) < 1.0


def test_a_graph_outlives_the_projection_and_two_losses_have_one_gradient():
    """Breaks if the parameter is put back in place while a graph still needs what it was."""
    y = torch.ones(3, 1, **f64)
    head = bayes.Gaussian(1e-4, learnt=True, floor=0.5, **f64)
    first = head.loss(torch.zeros_like(y), y)
    with torch.no_grad():
        head.raw.sub_(5.0)
    second = head.loss(torch.zeros_like(y), y)  # projects
    (first + second).backward()
    once = bayes.Gaussian(0.25, learnt=True, **f64)
    once.loss(torch.zeros_like(y), y).backward()
    torch.testing.assert_close(head.raw.grad, 2 * once.raw.grad)


@pytest.mark.parametrize("variance", [1e-30, 1e-12, 1e-4, 1.0, 400.0, 6e5, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_variance_of_any_size_is_kept(variance, dtype):
    """Breaks with log(expm1(x)): it overflows from a standard deviation of 710 on."""
    found = float(bayes.Gaussian(variance, dtype=dtype).precision)
    assert found == pytest.approx(1 / variance, rel=1e-4 if dtype == torch.float32 else 1e-12)


two = torch.zeros(2, 2, 1)
ONE = torch.full((1, 3, 1), 0.5)
NANS = torch.full((1, 3, 1), NAN)
logits = torch.zeros(2, 3, 4)
classes = torch.tensor([0, 1, 3])
eye = torch.eye(2)
REFUSED = {
    "variance -1": (lambda: bayes.Gaussian(-1.0), "variance must be a number in .0, inf"),
    "variance 0": (lambda: bayes.Gaussian(0.0), "variance must be a number in .0, inf"),
    "variance nan": (lambda: bayes.Gaussian(NAN), "variance must be a number in .0, inf"),
    "variance inf": (lambda: bayes.Gaussian(INF), "variance must be a number in .0, inf"),
    "variance tiny": (lambda: bayes.Gaussian(1e-60, dtype=torch.float32), "finite inverse in torch.float32"),
    "floor -1": (lambda: bayes.Gaussian(1.0, learnt=True, floor=-1.0), "floor must be a number in .0, inf"),
    "floor nan": (lambda: bayes.Gaussian(1.0, learnt=True, floor=NAN), "floor must be a number in .0, inf"),
    "floor of fixed noise": (lambda: bayes.Gaussian(1.0, floor=0.1), "floor is of learnt noise"),
    "no data": (lambda: bayes.GammaGaussian(0), "n_data must be a whole number"),
    "half an example": (lambda: bayes.GammaGaussian(2.5), "n_data must be int: got 2.5"),
    "shape": (lambda: bayes.GammaGaussian(5, shape=-1.0), "shape must be a number in .0, inf"),
    "rate": (lambda: bayes.GammaGaussian(5, rate=INF), "rate must be a number in .0, inf"),
    "decay 1": (lambda: bayes.GammaGaussian(5, decay=1.0), r"decay must be a number in \[0, 1\)"),
    "columns": (lambda: bayes.GammaGaussian(5).observe(torch.zeros(5, 3), torch.zeros(5, 3)), "outputs=1"),
    "columns of a loss": (lambda: bayes.GammaGaussian(5).loss(torch.zeros(5, 3), torch.zeros(5, 3)), "outputs=1"),
    "no particles": (lambda: bayes.GammaGaussian(5).precisions(0), "particles must be a whole number"),
    "observe nan": (lambda: bayes.GammaGaussian(5).observe(NANS, ONE[0]), "outputs must hold finite numbers"),
    "observe no example": (lambda: bayes.GammaGaussian(5).observe(ONE[:, :0], ONE[0, :0]), "outputs must have shape"),
    "class 4 of 4": (lambda: bayes.Categorical().loss(logits, classes + 1), "y must hold labels from 0 to 3: got 4"),
    "class -1": (lambda: bayes.Categorical().loss(logits, classes - 1), "from 0 to 3: got -1"),
    "bool classes": (lambda: bayes.Categorical().loss(logits, classes > 0), "y must be a tensor of whole numbers: got"),
    "float classes": (
        lambda: bayes.Categorical().loss(logits, classes / 1),
        "y must be a tensor of whole numbers: got",
    ),
    "coverage of nan": (lambda: bayes.coverage(NANS, ONE[0], 1.0), "outputs must hold finite numbers"),
    "calibration of nan": (lambda: bayes.calibration_error(NANS, ONE[0], 1.0), "outputs must hold finite numbers"),
    "rmse of inf": (lambda: bayes.rmse(ONE * INF, ONE[0]), "outputs must hold finite numbers"),
    "targets nan": (lambda: bayes.log_likelihood(ONE, NANS[0], 1.0), "y must hold finite numbers"),
    "0 particles": (lambda: bayes.log_likelihood(ONE[:0], ONE[0], 1.0), r"outputs must have shape .* \(0, 3, 1\)"),
    "0 points": (lambda: bayes.rmse(ONE[:, :0], ONE[0, :0]), "outputs must have shape"),
    "precision -1": (lambda: bayes.coverage(ONE, ONE[0], -1.0), "precision must be a number in .0, inf"),
    "precision inf": (lambda: bayes.coverage(ONE, ONE[0], INF), "precision must be a number in .0, inf"),
    "precision of an overflow": (
        lambda: bayes.coverage(ONE, ONE[0], 1e300),
        "precision must be positive and finite: got inf",
    ),
    "scale 0": (lambda: bayes.rmse(ONE, ONE[0], 0.0), "scale must be a number in .0, inf"),
    "scale inf": (lambda: bayes.log_likelihood(ONE, ONE[0], 1.0, INF), "scale must be a number in .0, inf"),
    "scale a string": (lambda: bayes.rmse(ONE, ONE[0], "2"), "scale must be float: got '2'"),
    "level 90": (lambda: bayes.coverage(ONE, ONE[0], 1.0, 90), r"level must be a number in .0, 1\): got 90"),
    "no level": (lambda: bayes.calibration_error(ONE, ONE[0], 1.0, []), "levels must be one number or more"),
    "ece of logits": (lambda: bayes.expected_calibration_error(torch.randn(3, 4) * 5, classes), "are these logits"),
    "ece of nan": (
        lambda: bayes.expected_calibration_error(logits[0] * NAN, classes),
        "probabilities must hold finite numbers",
    ),
    "ece, class 4 of 4": (lambda: bayes.expected_calibration_error(logits[0] + 0.25, classes + 1), "from 0 to 3"),
    "ece of none": (
        lambda: bayes.expected_calibration_error(logits[0, :0], classes[:0]),
        "probabilities must have shape",
    ),
    "ece, half a bin": (lambda: bayes.expected_calibration_error(logits[0] + 0.25, classes, 0.5), "bins must be int"),
    "classes nan": (lambda: bayes.classification_metrics(logits * NAN, classes), "logits must hold finite numbers"),
    "classes inf": (lambda: bayes.classification_metrics(logits + INF, classes), "logits must hold finite numbers"),
    "classes -1": (lambda: bayes.classification_metrics(logits, classes - 1), "from 0 to 3: got -1"),
    "classes of no network": (lambda: bayes.classification_metrics(logits[:0], classes), "logits must have shape"),
    "noise variance": (
        lambda: bayes.LinearGaussian(eye, eye[0], -1.0, 1.0),
        "noise_variance must be a number in .0, inf",
    ),
    "prior variance": (
        lambda: bayes.LinearGaussian(eye, eye[0], 1.0, NAN),
        "prior_variance must be a number in .0, inf",
    ),
    "linear nan": (lambda: bayes.LinearGaussian(eye * NAN, eye[0], 1.0, 1.0), "X must hold finite numbers"),
    "linear, too large": (lambda: bayes.LinearGaussian(1e30 * eye, eye[0], 1.0, 1.0).mean, "X and the variances"),
    "singular": (lambda: bayes.gaussian_kl(eye[0], 0 * eye, eye[0], eye), "covariance must be positive definite"),
    "indefinite": (lambda: bayes.gaussian_kl(eye[0], eye, eye[0], -eye), "prior_covariance must be positive definite"),
    "kl of nan": (lambda: bayes.gaussian_kl(eye[0], NAN * eye, eye[0], eye), "covariance must hold finite numbers"),
    "kl of shapes": (
        lambda: bayes.gaussian_kl(eye[0], torch.eye(3), eye[0], eye),
        r"covariances \(n, n\), all of one n: got mean",
    ),
    "weights' variance": (lambda: bayes.mean_field_kl(eye, -eye, 1.0), "variance must not be negative: got -1"),
    "weights' prior": (lambda: bayes.mean_field_kl(eye, eye, -1.0), "prior_variance must be a number in .0, inf"),
    "layer without inputs": (lambda: bayes.MeanFieldLinear(0, 2), "in_features must be a whole number"),
    "no function": (lambda: bayes.MeanFieldLinear(2, 2)(eye, 0), "samples must be a whole number"),
}


HEADS = {
    "Gaussian": (lambda: bayes.Gaussian(), ONE, ONE[0]),
    "GammaGaussian": (lambda: bayes.GammaGaussian(5), ONE, ONE[0]),
    "Categorical": (lambda: bayes.Categorical(), logits, classes),
}
SHAPES = {
    "y of another length": lambda outputs, y: (outputs, y[:2]),
    "an axis less": lambda outputs, y: (outputs[0, 0], y[0]),
    "y a vector or a column": lambda outputs, y: (outputs, y[:, 0] if y.ndim == 2 else y[:, None]),
    "no example": lambda outputs, y: (outputs[:, :0], y[:0]),
    "no output": lambda outputs, y: (outputs[..., :0], y[..., :0]),
    "whole outputs": lambda outputs, y: (outputs.long(), y),
    "a list": lambda outputs, y: (outputs, y.tolist()),
    "complex targets": lambda outputs, y: (outputs, y.to(torch.complex64)),
    "no targets": lambda outputs, y: (outputs, None),
}


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_what_has_no_loss_is_refused_by_name(head, case):
    """Values pass, as NaN of a diverging network must; shapes and types do not: they would be broadcast."""
    make, outputs, y = HEADS[head]
    for ask in (make().loss, make().log_prob):
        with pytest.raises((ValueError, TypeError), match=r"\b(outputs|y) .*must have|\b(outputs|y) must be"):
            ask(*SHAPES[case](outputs, y))
        assert ask(outputs * NAN, y).isnan().all()


@pytest.mark.parametrize("whole", [torch.uint8, torch.int16, torch.int32])
def test_classes_may_be_of_any_whole_type(whole):
    """Breaks where a narrow type is taken for a mask, or gather and one_hot are handed one."""
    y = classes.to(whole)
    assert torch.equal(bayes.Categorical().loss(logits, y), bayes.Categorical().loss(logits, classes))
    assert bayes.classification_metrics(logits, y) == bayes.classification_metrics(logits, classes)


@pytest.mark.parametrize(
    "x", [eye[0], eye[:, :1], torch.zeros(3, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(()), None]
)
@pytest.mark.parametrize("layer", [bayes.MeanFieldLinear(2, 3), bayes.MeanFieldMLP([2, 3])])
def test_inputs_of_another_shape_are_refused_by_layers(layer, x):
    """Two samples. Breaks where three inputs for each of other samples are broadcast, or torch speaks of mat1."""
    with pytest.raises((ValueError, TypeError), match=r"x must (have shape \(n, 2\)|be Tensor)"):
        layer(x, 2)


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_formula_cannot_mean_is_refused_by_name(case):
    """Squares hide a sign, sums hide a NaN, and a mean over nothing is NaN."""
    ask, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask()


def test_a_refused_batch_leaves_the_noise_as_it_was():
    """Breaks if the rate is moved before the batch is looked at: it would be NaN for ever."""
    head = bayes.GammaGaussian(30, **f64)
    before = head.rate.clone()
    for outputs, y in ((NAN, 0.0), (0.0, NAN), (INF, 0.0)):
        with pytest.raises(ValueError, match="must hold finite numbers"):
            head.observe(torch.full((5, 1), outputs).double(), torch.full((5, 1), y).double())
    assert torch.equal(head.rate, before)
