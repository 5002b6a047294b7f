"""Device and dtype come from the inputs."""

import torch
from gpytorch.kernels import RBFKernel

from nnlib.functional_bnn import (
    GaussianProcess,
    NeuralKernelNetwork,
    PiecewiseConstant,
    PiecewiseLinear,
    SpectralStein,
    StochasticMLP,
    gaussian_kl,
    max_value_entropy,
    measurement_set,
    uniform_points,
)
from tests.devices import same_without_a_default_device

CPU = torch.device("cpu")


def normal(*shape):
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device=CPU)


def test_scores_and_measurement_sets_stay_where_their_inputs_are():
    def compute():
        f, one = normal(30, 4), torch.ones(2, device=CPU)
        generator = torch.Generator("cpu").manual_seed(0)
        points = uniform_points(-one, one, 5, generator)
        eye = torch.eye(3, dtype=torch.float64, device=CPU)
        return {
            "score": SpectralStein(f).score(f[:3]),
            "points": measurement_set(points, points),
            "kl": gaussian_kl(f[0, :3], eye, f[1, :3], 2 * eye),
        }

    found = same_without_a_default_device(compute)
    assert found["score"][0].dtype == torch.float64
    assert found["points"][0].dtype == torch.float32


def test_networks_and_sampled_priors_stay_where_their_inputs_are():
    def compute():
        x = torch.linspace(0, 1, 7, dtype=torch.float64, device=CPU)[:, None]
        generator = torch.Generator("cpu").manual_seed(0)
        network = StochasticMLP([1, 5, 1], frequencies=3, dtype=torch.float64, device=CPU)
        return {
            "network": network.draw(3, generator)(x),
            "mean": network(x),
            "kl": network.weight_kl(),
            "steps": PiecewiseConstant().sample(x, 4, generator),
            "lines": PiecewiseLinear().sample(x, 4, generator),
        }

    same_without_a_default_device(compute)


def test_the_acquisition_stays_where_the_belief_is():
    def compute():
        f = normal(20, 30)
        return {"alpha": max_value_entropy(f.mean(0), f.std(0), f.amax(1))}

    same_without_a_default_device(compute)


def test_a_network_of_kernels_takes_the_dtype_of_its_inputs():
    for dtype in (torch.float32, torch.float64):
        x = normal(5, 2).to(dtype)
        kernel = NeuralKernelNetwork(2).to(dtype).requires_grad_(False)
        assert kernel(x).to_dense().dtype == dtype


def test_gaussian_process_prior_takes_the_dtype_of_its_inputs():
    for dtype in (torch.float32, torch.float64):
        x = torch.linspace(0, 1, 5, dtype=dtype)[:, None]
        prior = GaussianProcess(RBFKernel().to(dtype))
        f = prior.sample(x, 3, torch.Generator().manual_seed(0))
        assert f.dtype == prior.log_density(f, x, 0.1).dtype == dtype
