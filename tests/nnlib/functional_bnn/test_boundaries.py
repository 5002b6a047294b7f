"""What no process, no data and no penalty can be is refused by name, in place of a number, a hang or a bare error."""

import math

import pytest
import torch
from gpytorch.kernels import MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel

from nnlib import functional_bnn as fbnn
from nnlib.bayes import Gaussian
from nnlib.functional_bnn.gp import gram

NAN, INF = math.nan, math.inf
X = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
Y = X[:, 0].sin()
LOW, HIGH = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
BAD_DATA = {
    "NaN in x": (X * NAN, Y, "x must hold finite numbers"),
    "infinity in y": (X, Y + INF, "y must hold finite numbers"),
    "no points": (X[:0], Y[:0], "not empty"),
    "y a column": (X, Y[:, None], r"y \(n,\)"),
    "x a vector": (X[:, 0], Y, r"x must be \(n, d\)"),
    "more targets": (X[:3], Y, r"y \(n,\)"),
    "two types": (X, Y.float(), "of one floating type"),
    "whole numbers": (X.long(), Y.long(), "of one floating type"),
}


def kernel():
    return RBFKernel().double()


def network(outputs=1, inputs=1):
    return fbnn.StochasticMLP([inputs, 4, outputs], dtype=torch.float64)


def generator():
    return torch.Generator().manual_seed(0)


def space(**options):
    return fbnn.FunctionSpace(fbnn.GaussianProcess(kernel()), LOW, HIGH, **options)


def fit(x=X, y=Y, net=None, penalty=None, **options):
    penalty = fbnn.WeightSpace() if penalty is None else penalty
    noise, usual = Gaussian(0.1, dtype=torch.float64), {"steps": 1, "samples": 3}
    return fbnn.fit(net or network(), x, y, penalty, noise, **usual | options)


TAKES_DATA = {
    "log_evidence": lambda x, y: fbnn.log_evidence(kernel(), x, y, 0.1),
    "posterior": lambda x, y: fbnn.posterior(kernel(), x, y, X, 0.1),
    "fit_evidence": lambda x, y: fbnn.fit_evidence(kernel(), x, y, 0.1),
    "fit_on_subsets": lambda x, y: fbnn.fit_on_subsets(kernel(), x, y, 0.1),
    "process_belief": lambda x, y: fbnn.process_belief(kernel(), x, y, X, 0.1, generator=generator()),
    "fit, weights": lambda x, y: fit(x, y),
    "fit, functions": lambda x, y: fit(x, y, penalty=space()),
}


@pytest.mark.parametrize("data", BAD_DATA)
@pytest.mark.parametrize("function", TAKES_DATA)
def test_data_that_are_none_are_refused_by_all_that_take_data(function, data):
    """Breaks where NaN is told to lower the learning rate, or where a shape is broadcast."""
    x, y, message = BAD_DATA[data]
    with pytest.raises(ValueError, match=message):
        TAKES_DATA[function](x, y)


@pytest.mark.parametrize("noise", [-0.3, 0.0, NAN, INF, 1e300, torch.tensor(-0.3)])
@pytest.mark.parametrize("function", ["log_evidence", "posterior", "fit_evidence", "fit_on_subsets", "process_belief"])
def test_noise_that_is_squared_must_be_positive(function, noise):
    """Breaks where a sign is lost in a square."""
    call = {
        "log_evidence": lambda: fbnn.log_evidence(kernel(), X, Y, noise),
        "posterior": lambda: fbnn.posterior(kernel(), X, Y, X, noise),
        "fit_evidence": lambda: fbnn.fit_evidence(kernel(), X, Y, noise),
        "fit_on_subsets": lambda: fbnn.fit_on_subsets(kernel(), X, Y, noise),
        "process_belief": lambda: fbnn.process_belief(kernel(), X, Y, X, noise, generator=generator()),
    }[function]
    with pytest.raises(ValueError, match=r"noise_sd must be a number in .0, 1e18"):
        call()


f = torch.zeros(4, 6).double()
prior = fbnn.GaussianProcess(kernel())
eye = torch.eye(2).double()
INJECTED = {
    "kl_surrogate": lambda g: fbnn.kl_surrogate(f, X, prior, injected_noise=g, generator=generator()),
    "FunctionSpace": lambda g: space(injected_noise=g),
    "process_kl": lambda g: fbnn.process_kl(kernel(), kernel(), X, g),
    "feature_kl": lambda g: fbnn.feature_kl(eye, eye[0], eye, eye, g),
    "log_density": lambda g: prior.log_density(f, X, g),
    "adversarial_points": lambda g: fbnn.adversarial_points(
        network(), prior, X, X, LOW, HIGH, injected_noise=g, samples=3, generator=generator()
    ),
}


@pytest.mark.parametrize("noise", [-0.5, NAN, INF, 1e300])
@pytest.mark.parametrize("function", INJECTED)
def test_injected_noise_must_not_be_negative(function, noise):
    with pytest.raises(ValueError, match=r"injected_noise must be a number in .0, 1e18"):
        INJECTED[function](noise)


def of_nan():
    k = ScaleKernel(kernel()).double()
    with torch.no_grad():
        k.raw_outputscale.fill_(NAN)
    return k


REFUSED = {
    "as many outputs as points": (lambda: fit(net=network(6)), r"one output, values \(S, 6\)"),
    "two outputs": (lambda: fit(net=network(2), penalty=space()), "one output"),
    "a batch of -3": (lambda: fit(batch_size=-3), "batch_size must be a whole number"),
    "a batch of 0": (lambda: fit(batch_size=0), "batch_size must be a whole number"),
    "a batch of 7 of 6": (lambda: fit(batch_size=7), "batch_size must be a whole number from 1 to 6: got 7"),
    "half a step": (lambda: fit(steps=1.5), "steps must be int: got 1.5"),
    "lr -1": (lambda: fit(lr=-1.0), "lr must be a number in .0, inf"),
    "lr inf": (lambda: fit(lr=INF), "lr must be a number in .0, inf"),
    "no function": (lambda: fit(samples=0), "samples must be a whole number of at least 1"),
    "one function": (lambda: fit(samples=1, penalty=space()), "samples must be a whole number of at least 2"),
    "weights' prior -1": (lambda: fbnn.WeightSpace(-1.0), "prior_sd must be a number in .1e-18, 1e18"),
    "weights' prior of a KL": (lambda: network().weight_kl(-1.0), "prior_sd must be a number in .1e-18, 1e18"),
    "strategy": (lambda: space(strategy="some"), "strategy must be one of training, random, mixed, adversarial"),
    "-1 random points": (lambda: space(n_random=-1), "n_random must be a whole number"),
    "boxes of two sizes": (lambda: fbnn.FunctionSpace(prior, LOW, HIGH.repeat(2)), "low < high"),
    "NaN for a box": (lambda: fbnn.FunctionSpace(prior, LOW * NAN, HIGH), "low must hold finite numbers"),
    "adversary of samples": (
        lambda: fbnn.FunctionSpace(fbnn.PiecewiseLinear(), LOW, HIGH, strategy="adversarial"),
        "need a prior with a density",
    ),
    "a subset of 0": (lambda: fbnn.fit_on_subsets(kernel(), X, Y, 0.1, subset=0), "subset must be a whole number"),
    "lr of a kernel": (lambda: fbnn.fit_on_subsets(kernel(), X, Y, 0.1, lr=-1.0), "lr must be a number in .0, inf"),
    "no L-BFGS": (lambda: fbnn.fit_evidence(kernel(), X, Y, 0.1, steps=0), "steps must be a whole number"),
    "new of 2 columns": (lambda: fbnn.posterior(kernel(), X, Y, X.repeat(1, 2), 0.1), r"new must be \(m, d\)"),
    "new NaN": (lambda: fbnn.posterior(kernel(), X, Y, X * NAN, 0.1), "new must hold finite numbers"),
    "penalty None": (lambda: fit(penalty="KL"), "penalty must be Penalty: got 'KL'"),
    "network of another type": (lambda: fit(net=fbnn.StochasticMLP([1, 1])), "x must be of the type of the network's"),
    "network of other inputs": (lambda: fit(net=network(inputs=2)), r"x must be a tensor of shape \(n, 2\)"),
    "look a class": (lambda: fit(look=dict), "look must be a function, not a class"),
    "look_at 3": (lambda: fit(look_at=3), "look_at must be Sequence: got 3"),
    "seed -1": (lambda: fit(seed=-1), "seed must be a whole number from 0"),
    "likelihood": (lambda: fbnn.fit(network(), X, Y, fbnn.WeightSpace(), None, steps=1), "likelihood must be Gaussian"),
    "a prior that is none": (lambda: fbnn.FunctionSpace(kernel, LOW, HIGH), "prior must be Prior"),
    "no adversary": (lambda: space(strategy="adversarial", n_random=0), "n_random must be a whole number"),
    "share of all": (lambda: space(eigenfunctions=1.0), r"eigenfunctions must be a number in \(0, 1\): got 1.0"),
    "kernel a text": (lambda: fbnn.fit_on_subsets("RBF", X, Y, 0.1), "kernel must be Kernel: got 'RBF'"),
    "kernel that fled": (lambda: fbnn.fit_on_subsets(kernel(), X, Y, 0.1, lr=1e300, steps=1), "lr must be smaller"),
    "seed of a kernel": (lambda: fbnn.fit_on_subsets(kernel(), X, Y, 0.1, seed=2.5), "seed must be int: got 2.5"),
    "belief of a network of 2": (lambda: fbnn.network_belief(network(2), X, 3), "one output"),
    "belief of 1": (lambda: fbnn.network_belief(network(), X, 1), "samples must be a whole number of at least 2"),
    "inputs a list": (lambda: network().draw(2, generator())([[0.1]]), r"x must be a tensor of shape \(n, 1\)"),
    "inputs a vector": (lambda: network()(X[:, 0]), r"x must be a tensor of shape \(n, 1\)"),
    "frequencies backwards": (lambda: fbnn.StochasticMLP([1, 1], frequency_range=(2, 1)), "frequency_range must be"),
    "frequencies of three": (lambda: fbnn.StochasticMLP([1, 1], frequency_range=(1, 2, 3)), "frequency_range must be"),
    "lengths of 3 of 2": (lambda: fbnn.NeuralKernelNetwork(2, torch.ones(3)), "lengthscale must have shape"),
    "draw 0": (lambda: network().draw(0, generator()), "samples must be a whole number"),
    "predict 0": (lambda: fbnn.predict(network(), X, 0), "samples must be a whole number"),
    "belief of 0": (lambda: fbnn.network_belief(network(), X, 0), "samples must be a whole number"),
    "frequencies": (lambda: fbnn.StochasticMLP([1, 1], frequencies=-1), "frequencies must be a whole number"),
    "sampled 0": (lambda: prior.sample(X, 0, generator()), "samples must be a whole number"),
    "knots at NaN": (lambda: fbnn.PiecewiseLinear().sample(X * NAN, 3, generator()), r"x must be in \[0, 1\]"),
    "rate NaN": (lambda: fbnn.PiecewiseLinear(NAN), "rate must be a number in .0, 1e5"),
    "scale inf": (lambda: fbnn.ArcCosine(INF), "scale must be a number in .0, 1e15"),
    "half a feature": (lambda: fbnn.NeuralKernelNetwork(1.5), "d must be int: got 1.5"),
    "points of two kinds": (lambda: fbnn.measurement_set(X, X.repeat(1, 2)), r"must be \(n, d\) and \(m, d\)"),
    "uphill -1 steps": (
        lambda: fbnn.adversarial_points(network(), prior, X, X, LOW, HIGH, steps=-1, generator=generator()),
        "steps must be a whole number",
    ),
    "-1 points": (lambda: fbnn.uniform_points(LOW, HIGH, -1, generator()), "n must be a whole number"),
    "f NaN": (lambda: fbnn.kl_surrogate(f * NAN, X, prior, generator=generator()), "f must hold finite numbers"),
    "no maximum": (lambda: fbnn.max_value_entropy(Y, Y.abs() + 1, Y[:0]), "K at least 1"),
    "means NaN": (lambda: fbnn.max_value_entropy(Y * NAN, Y.abs() + 1, Y), "mean must hold finite numbers"),
    "sd NaN": (lambda: fbnn.max_value_entropy(Y, Y * NAN, Y), "sd must hold finite numbers"),
    "one point twice": (lambda: fbnn.process_kl(kernel(), kernel(), X[:1].repeat(2, 1)), "must be positive definite"),
    "a kernel of NaN": (lambda: fbnn.posterior(of_nan(), X, Y, X, 0.1), "are the kernel and its inputs x finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_mean_nothing_are_refused_by_name(case):
    ask, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask()


POINTS = {
    "another strategy": ((X, X, "some"), "strategy must be one of training, random, mixed: got 'some'"),
    "no strategy": ((X, X, None), "strategy must be str"),
    "nothing": ((X[:0], X[:0], "mixed"), "the measurement set is empty"),
    "no training inputs": ((X[:0], X, "training"), "the measurement set is empty"),
    "a vector": ((X[:, 0], X, "mixed"), r"must be \(n, d\) and \(m, d\)"),
    "two dimensions": ((X, X.repeat(1, 2), "mixed"), r"must be \(n, d\) and \(m, d\)"),
    "a list": ((X, [[0.5]], "mixed"), "random must be Tensor"),
    "none": ((None, X, "random"), "x must be Tensor"),
}


@pytest.mark.parametrize("case", POINTS)
def test_what_is_no_measurement_set_is_refused_by_name(case):
    """Shapes alone are looked at, in every step; the KL there tells of NaN."""
    points, message = POINTS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        fbnn.measurement_set(*points)


KERNELS = {
    "smooth": lambda length: RBFKernel().initialize(lengthscale=length),
    "rough": lambda length: MaternKernel(0.5).initialize(lengthscale=length),
    "periodic": lambda length: PeriodicKernel().initialize(lengthscale=length),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("length", [0.1, 0.7, 5.0])
@pytest.mark.parametrize("n", [5, 50, 300])
def test_a_process_is_drawn_in_single_precision_too(n, length, name):
    """Breaks with a diagonal of 1e-8: in float32 that is below the rounding of 1, and 50 points have no factor."""
    x = torch.linspace(0, 1, n)[:, None]
    process = fbnn.GaussianProcess(KERNELS[name](length).requires_grad_(False))
    f = process.sample(x, 4000, generator())
    assert f.dtype == torch.float32 and f.isfinite().all()
    drawn = f[:, :: max(1, n // 5)]
    expected = gram(process.kernel, x)[:: max(1, n // 5), :: max(1, n // 5)]
    torch.testing.assert_close(drawn.mT @ drawn / 4000, expected, rtol=0, atol=0.1)
    assert process.log_density(f[:2], x, 1e-3).isfinite().all()


def test_the_functional_bound_trains_in_single_precision_with_little_noise():
    x = torch.linspace(-1, 1, 30)[:, None]
    one = torch.ones(1)
    penalty = fbnn.FunctionSpace(fbnn.GaussianProcess(RBFKernel()), -one, one, injected_noise=1e-3)
    net = fbnn.StochasticMLP([1, 10, 1])
    fbnn.fit(net, x, x[:, 0].sin(), penalty, Gaussian(0.01), steps=5, samples=20)
    assert fbnn.predict(net, x).isfinite().all()
