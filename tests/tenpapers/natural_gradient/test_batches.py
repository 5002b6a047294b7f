"""Mini-batches: at infinite width a projection, one batch after another; and a deep network."""

import math

import pandas as pd
import pytest
import torch

from nnlib.models import MLP
from nnlib.natural_gradient import infinite_gram, natural_gradient
from tenpapers.natural_gradient import batches, runs
from tenpapers.natural_gradient.workloads import sphere


def test_a_batch_step_is_the_natural_gradient_of_a_linear_model_on_these_examples():
    """All outputs of a linear model, before and after. Breaks if the step moves the outputs of its batch alone."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, k, generator=generator, dtype=torch.float64) for k in (9, 1))
    model, b = torch.nn.Linear(9, 1, bias=False).double(), torch.tensor([4, 1])
    before = (model(x) - y).detach()
    step = natural_gradient(model, x[b], before[b])
    with torch.no_grad():
        model.weight -= 0.7 * step
    torch.testing.assert_close(batches.batch_step(x @ x.T, before[:, 0], b, 0.7), (model(x) - y)[:, 0].detach())


def test_distance_of_the_weights_never_grows_and_no_batch_brings_more_than_its_share():
    """|v|^2 = r' G^-1 r; over all batches of a size its mean falls at best by 1 - b / n in the slowest direction."""
    x, y, *_ = sphere(8, 5, 1)
    G, r, generator = infinite_gram(x), -y, torch.Generator().manual_seed(1)
    for _ in range(30):
        b = torch.randperm(8, generator=generator)[:3]
        moved = batches.batch_step(G, r, b)
        assert moved @ torch.linalg.solve(G, moved) <= r @ torch.linalg.solve(G, r) + 1e-12
        assert moved[b].abs().max() < 1e-10
        r = moved
    mean = torch.zeros(8, 8, dtype=torch.float64)  # of the projections, in the basis of G^1/2
    root = torch.linalg.cholesky(G)
    for b in torch.combinations(torch.arange(8), 3):
        rows = root[b]
        mean += rows.T @ torch.linalg.solve(G[b][:, b], rows) / math.comb(8, 3)
    assert torch.linalg.eigvalsh(mean)[0] < 3 / 8 and mean.trace().item() == pytest.approx(3)


def test_small_batches_feel_the_conditioning_and_the_whole_batch_does_not():
    """Breaks if the residuals outside the batch are not moved."""
    for size, worse in ((24, 1.0), (1, 3.0)):
        wide, close = (batches.measure_epochs(gap, size, seed=4)["epochs"] for gap in (1.0, 0.1))
        assert close >= worse * wide and (size < 24 or close == wide == 1)
    assert math.isnan(batches.measure_epochs(0.1, 1, most=2)["epochs"])


def test_natural_gradient_goes_lower_than_sgd_on_a_deep_network_in_mini_batches():
    """Live: one pass, each at a rate that is good for it. Breaks if a step is not preconditioned."""
    given = {"epochs": 1, "batch_size": 100, "width": 32, "seed": 5}
    natural = batches.measure_deep("Natural gradient", 0.4, 1.0, **given)["loss"]
    plain = min(batches.measure_deep("SGD", lr, 0.0, **given)["loss"] for lr in (0.1, 0.3, 0.5))
    assert natural < 0.8 * plain


def test_a_row_of_the_deep_network_is_that_of_a_run_written_out():
    (x, y), (x_held, y_held), (x_test, y_test) = batches.deep_problem(5)
    assert x.shape == (1200, 196) and len(x_held) == 300 and y.unique().tolist() == [-1, 1]
    torch.testing.assert_close(x.norm(dim=1), torch.ones(1200, dtype=torch.float64))
    net = MLP([196, 8, 8, 8, 8, 1], seed=5, dtype=torch.float64)
    for b in torch.randperm(1200, generator=torch.Generator().manual_seed(5)).split(600):
        loss = 0.5 * (net(x[b])[:, 0] - y[b]).square().mean()
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= 0.2 * g
    row = batches.measure_deep("SGD", 0.2, 0.0, epochs=1, batch_size=600, width=8, seed=5)
    with torch.no_grad():
        assert row["loss"] == pytest.approx(float(0.5 * (net(x)[:, 0] - y).square().mean()))
        assert row["validation"] == pytest.approx(float(0.5 * (net(x_held)[:, 0] - y_held).square().mean()))
        assert row["error"] == pytest.approx(float((net(x_test)[:, 0] * y_test <= 0).double().mean()))
    assert row["log_loss"] == pytest.approx(math.log10(row["loss"]))


def test_a_run_that_diverges_says_so():
    given = {"epochs": 1, "batch_size": 200, "width": 16}
    for method, lr, damping in (("SGD", 1e6, 0.0), ("K-FAC", 1e6, 0.01), ("Natural gradient", 1e9, 0.01)):
        assert math.isnan(batches.measure_deep(method, lr, damping, **given)["loss"])


def test_best_setting_is_that_of_the_lowest_mean_and_no_seed_lost():
    """Breaks if a setting that diverged on a seed wins by the others, or an end of the grid goes unnoticed."""
    rows = [
        ("A", lr, seed, loss)
        for lr, losses in ((0.1, (3.0, 3.0)), (0.2, (1.0, 2.0)), (0.3, (0.1, math.nan)))
        for seed, loss in enumerate(losses)
    ]
    rows += [("B", lr, seed, lr) for lr in (0.1, 0.2, 0.3) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["method", "lr", "seed", "validation"]).assign(damping=0.0)
    found = runs.best(frame)
    assert found.lr.to_dict() == {"A": 0.2, "B": 0.1} and found.edge.to_dict() == {"A": False, "B": True}
    assert found.tried.to_dict() == {"A": 3, "B": 3}
