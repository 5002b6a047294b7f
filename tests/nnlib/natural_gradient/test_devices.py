"""Do device and dtype come from the inputs? Where the default device is `meta`, a tensor made without one is empty."""

import pytest
import torch

from nnlib import natural_gradient as ng
from tenpapers.natural_gradient import workloads as lab
from tests.devices import same_without_a_default_device


def all_of(x, y, dtype):
    """Every function of the package but for those of ``test_function_space``, as a dict of lists of tensors."""
    net = ng.TwoLayer(4, 32, dtype=dtype)
    result = {"network": [net(x).detach(), net.features(x), net.gram(x), ng.infinite_gram(x), ng.infinite_gram(x, -x)]}
    result["kfac"] = [ng.leverage_scores(x), ng.kfac_operator(x, net.features(x))]
    loss = ng.logistic(0.5)
    result["losses"] = [loss.slope(y, y), loss.curvature(y, y), loss.minimiser(y), ng.SQUARED.curvature(y, y)]
    result["generalisation"] = [lab.flip_labels(y, 0.5), ng.interpolate(x, y, -x)]
    for method in ng.METHODS:
        model = ng.TwoLayer(4, 32, dtype=dtype)
        result[method] = [*ng.train(model, x, y, method, 0.1, 2), model.weight.detach()]
    damped = ng.TwoLayer(4, 32, dtype=dtype)
    result["damped"] = list(ng.train(damped, x, y, "Gauss-Newton", 0.1, 2, loss=loss, damping=0.1))
    result["ideal"] = [ng.ideal_run(x, 0 * y, y, m, 0.1, 2) for m in ("GD", "Natural gradient", "K-FAC")]
    result["numbers"] = [
        torch.tensor(value, dtype=dtype, device="cpu")
        for value in (ng.certified_radius(net, x, 0.2), ng.complexity(ng.infinite_gram(x), y), ng.stable_lr(net, x))
    ]
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device_or_in_another_dtype(dtype):
    """Under a default device without storage everything comes out on the CPU, with the same values as without it."""
    x, y, *_ = lab.sphere(n=6, d=4).to(dtype=dtype)
    found = same_without_a_default_device(lambda: all_of(x, y, dtype))
    for name, tensors in found.items():
        assert all(tensor.dtype == dtype for tensor in tensors), name


def test_problems_are_the_same_whatever_the_default_device():
    plain = [*lab.sphere(n=5, d=3, gap=0.1)[:4], *lab.pair("digits", 4, 9, 20)[:4]]
    with torch.device("meta"):
        found = [*lab.sphere(n=5, d=3, gap=0.1)[:4], *lab.pair("digits", 4, 9, 20)[:4]]
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
