"""Does a step of these multiples minimise the quadratic model with the exact Fisher matrix?"""

import pytest
import torch
from torch import nn

from nnlib.curvature import jacobian, step_sizes
from nnlib.models import MLP
from tests.oracles import curvature as oracle
from tests.oracles.curvature import draw, randomised

close = torch.testing.assert_close


def setup(likelihood="categorical"):
    """A network, inputs, a gradient and the dense Fisher matrix, one example and class at a time."""
    model, x = randomised(MLP([3, 4, 3])), draw(7, 3)
    F = oracle.fisher(model, x, likelihood=likelihood)
    return model, x, draw(len(F), seed=5), F


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_multiples_minimise_the_model_in_the_span(likelihood, k):
    """Against D (F + damping I) D' c = -D g. Breaks if F is another curvature, or damping or 1/B is forgotten."""
    model, x, g, F = setup(likelihood)
    D = draw(k, len(g), seed=8)
    M = F + 0.3 * torch.eye(len(g), dtype=torch.float64)
    wanted = torch.linalg.solve(D @ M @ D.T, -D @ g)
    close(step_sizes(model, x, g, D, damping=0.3, likelihood=likelihood), wanted)


def test_bernoulli_outputs_have_their_own_curvature():
    model, x, g, _ = setup()
    p, D = model(x).detach().sigmoid(), draw(1, len(g), seed=8)
    change = jacobian(model, x) @ D[0]  # (B, C)
    wanted = -(g @ D[0]) / (p * (1 - p) * change.square()).sum(1).mean()
    close(step_sizes(model, x, g, D, likelihood="bernoulli")[0], wanted)


def test_with_all_directions_it_is_the_natural_gradient_step():
    model, x, g, F = setup()
    eye = torch.eye(len(g), dtype=torch.float64)
    close(step_sizes(model, x, g, eye, damping=0.1), -torch.linalg.solve(F + 0.1 * eye, g))


def test_length_of_a_direction_does_not_matter_and_one_given_twice_is_shared():
    model, x, g, _ = setup()
    d = draw(1, len(g), seed=8)
    once = step_sizes(model, x, g, d, damping=0.1)
    close(7 * step_sizes(model, x, g, 7 * d, damping=0.1), once)
    close(step_sizes(model, x, g, torch.cat([d, d]), damping=0.1), once.expand(2) / 2)


def test_model_is_left_as_it_is():
    model, x, g, _ = setup()
    before = [p.clone() for p in model.parameters()]
    step_sizes(model, x, g, g[None])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "change, told",
    [
        ({"gradient": torch.ones(5)}, "gradient must have shape"),
        ({"directions": torch.ones(31)}, "directions must have shape"),
        ({"directions": torch.ones(0, 31)}, "no axis empty"),
        ({"directions": torch.full((1, 31), torch.inf)}, "directions must hold finite numbers: got inf"),
        ({"damping": -0.1}, r"damping must be a number in \[0, inf\): got -0.1"),
        ({"likelihood": "poisson"}, "likelihood must be one of"),
        ({"x": torch.ones(0, 3)}, "no axis empty"),
        ({"model": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))}, "evaluation mode"),
    ],
)
def test_refused(change, told):
    model, x, g, _ = setup()
    given = {"model": model, "x": x, "gradient": g, "directions": g[None]} | change
    with pytest.raises(ValueError, match=told):
        step_sizes(**given)
