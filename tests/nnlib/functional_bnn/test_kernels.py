"""The arc-cosine kernel is that of random units; a network of kernels is a kernel, and holds sums and products."""

import math

import pytest
import torch
from gpytorch.kernels import LinearKernel, RBFKernel, RQKernel

from nnlib.functional_bnn.gp import gram, log_evidence
from nnlib.functional_bnn.kernels import ArcCosine, NeuralKernelNetwork, fit_on_subsets
from tests.oracles.functional_bnn import neural_kernel


def points(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scattered(d=3, seed=0):
    """A network of kernels whose every parameter is somewhere else."""
    kernel = NeuralKernelNetwork(d, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return kernel.requires_grad_(False)


def test_arc_cosine_is_the_mean_product_of_random_threshold_units():
    x = points(6, 2)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, 400_000, generator=generator, dtype=torch.float64)
    units = (torch.nn.functional.pad(2.0 * x, (0, 1), value=1.0) @ directions > 0).double()  # (6, units)
    sampled = 2 * units @ units.T / units.shape[1]
    torch.testing.assert_close(gram(ArcCosine(2.0).double(), x), sampled, rtol=0, atol=0.01)


def test_arc_cosine_is_one_at_equal_inputs_and_positive_semidefinite():
    x = points(40)
    K = gram(ArcCosine(3.0).double(), x)
    torch.testing.assert_close(K.diagonal(), torch.ones(40).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(ArcCosine(3.0).double()(x, x[:40], diag=True), K.diagonal())
    assert torch.linalg.eigvalsh(K)[0] > 0
    with pytest.raises(ValueError, match=r"scale must be a number in .0, 1e15"):
        ArcCosine(0.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_network_of_kernels_is_symmetric_and_positive_semidefinite_at_random_weights(seed):
    x = points(25, 3, seed)
    K = gram(scattered(3, seed), x)
    torch.testing.assert_close(K, K.T, rtol=1e-12, atol=1e-12)
    values = torch.linalg.eigvalsh(K)
    assert values[0] > -1e-10 * values[-1]


def test_a_negative_weight_would_break_it():
    """The negative control: the same sums with one sign turned are no kernel."""
    x = points(25)
    K = gram(RBFKernel().double(), x) - 1.5 * gram(LinearKernel().double(), x)
    assert torch.linalg.eigvalsh(K.detach())[0] < -0.1


def test_network_of_kernels_is_what_its_definition_says():
    x, z = points(5), points(4, seed=1)
    kernel = scattered()
    torch.testing.assert_close(gram(kernel, x, z), neural_kernel(kernel, x, z), rtol=1e-10, atol=1e-10)


def weights(sums, weight, bias):
    sums.set("raw_weight", torch.tensor(weight, dtype=torch.float64).clamp_min(1e-9))
    sums.set("raw_bias", torch.tensor(bias, dtype=torch.float64).clamp_min(1e-9))


def test_special_weights_give_a_sum_and_a_product_of_primitives():
    """First a kernel plus another, then a kernel times another; what is not used has weight 10⁻⁹."""
    x, kernel = points(7), scattered()
    grams = [gram(primitive, x) for primitive in kernel.primitives]
    one = [0.0] * 6
    pick = [[float(i == j) for j in range(6)] for i in range(6)]
    halves = [[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 0]]
    # units 0 and 1 make RBF times one, units 4 and 5 rational quadratic times one; then each times one; then the sum
    weights(kernel.sums[0], [pick[2], one, one, one, pick[4], one, one, one], [0, 1.0, 0, 0, 0, 1.0, 0, 0])
    weights(kernel.sums[1], halves, [0, 1.0, 0, 1.0])
    weights(kernel.last, [[1.0, 1.0]], [0.0])
    torch.testing.assert_close(gram(kernel, x), grams[2] + grams[4], rtol=1e-6, atol=1e-6)
    weights(kernel.sums[0], [pick[2], pick[0], one, one, one, one, one, one], [0.0] * 8)
    weights(kernel.last, [[1.0, 0.0]], [0.0])
    torch.testing.assert_close(gram(kernel, x), grams[2] * grams[0], rtol=1e-6, atol=1e-6)


def test_without_its_linear_primitives_a_network_of_kernels_does_not_change_with_the_origin():
    x, kernel = points(6), scattered()
    with torch.no_grad():
        for linear in kernel.primitives[:2]:
            linear.variance = 1e-12
    torch.testing.assert_close(gram(kernel, x + 5.0), gram(kernel, x), rtol=1e-6, atol=1e-6)
    moved = scattered()
    assert (gram(moved, x + 5.0) - gram(moved, x)).abs().max() > 1e-3


def test_order_of_the_inputs_does_not_matter():
    x, kernel = points(8), scattered()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(kernel, x[order]), gram(kernel, x)[order][:, order])
    torch.testing.assert_close(kernel(x, x, diag=True), gram(kernel, x).diagonal())


def test_primitives_start_where_they_are_told():
    kernel = NeuralKernelNetwork(2, lengthscale=torch.tensor([1.0, 3.0]))
    assert [type(k) for k in kernel.primitives] == 2 * [LinearKernel] + 2 * [RBFKernel] + 2 * [RQKernel]
    torch.testing.assert_close(kernel.primitives[3].lengthscale[0], torch.tensor([1.0, 3.0]))
    torch.testing.assert_close([k.alpha.item() for k in kernel.primitives[4:]], [0.1, 1.0])
    with pytest.raises(ValueError, match="at least 1: got 0"):
        NeuralKernelNetwork(0)


def test_fitting_on_subsets_raises_the_evidence_of_all_points_and_finds_the_noise():
    x = points(300, 2)
    noise = 0.1 * torch.randn(300, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y = x[:, 0] * torch.sin(2 * x[:, 1]) + noise
    start = NeuralKernelNetwork(2).double()
    before = log_evidence(start, x, y, 0.5).item()
    fitted = fit_on_subsets(start, x, y, 0.5, subset=80, steps=100)
    assert log_evidence(fitted.kernel, x, y, fitted.noise_sd).item() > before + 100
    assert 0.05 < fitted.noise_sd < 0.2
    assert not any(p.requires_grad for p in fitted.kernel.parameters())
    assert math.isclose(log_evidence(start, x, y, 0.5).item(), before)  # what was given is not changed


def test_bad_fits_are_refused():
    x = points(10, 1)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        fit_on_subsets(RBFKernel().double(), x, x[:, 0], 0.1, steps=0)
    with pytest.raises(ValueError, match="y must hold finite numbers"):
        fit_on_subsets(RBFKernel().double(), x, x[:, 0] * float("nan"), 0.1, steps=2)
