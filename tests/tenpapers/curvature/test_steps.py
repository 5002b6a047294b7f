"""What the primer says of whole steps: between layers, of their length, and of the KL clip."""

import numpy as np
import pytest
import torch
from torch import nn

from nnlib.curvature import KFAC, NotPositiveDefinite, chain, dense_fisher, factors, joint_weight, layer_index
from nnlib.models import MLP
from tenpapers.curvature import figures, steps, workloads
from tests.oracles.chain import filled

close = torch.testing.assert_close


def whole(model, x, y, damping):
    """The damped Fisher matrix and the gradient in the order of the layers."""
    index = torch.cat([layer_index(model, name) for name in workloads.LAYERS])
    F = dense_fisher(model, x)[index][:, index]
    grads = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    return F + damping * torch.eye(130, dtype=torch.float64), torch.cat([g.flatten() for g in grads])[index]


def test_rows_of_inverses_are_of_the_methods_that_they_name():
    """Against the chain's matrix filled in and inverted, and dense blocks."""
    model, x, y = workloads.network(5, 3)
    M, g = whole(model, x, y, 0.1)
    found = chain(model, x).damped(0.1)
    blocks = [block.dense() for block in found.blocks]
    dense = {
        "block-tridiagonal": torch.linalg.inv(filled(blocks, [torch.kron(b.S, b.A) for b in found.between])),
        "block-diagonal": torch.linalg.inv(torch.block_diag(*blocks)),
        "exact blocks": torch.linalg.inv(torch.block_diag(M[:60, :60], M[60:102, 60:102], M[102:, 102:])),
    }
    inverse, rows = torch.linalg.inv(M), {row["method"]: row for row in steps.measure_inverses(0.1, 5, 3)}
    assert set(rows) == set(dense)
    for method, matrix in dense.items():
        u = matrix @ g
        share = (g @ u) ** 2 / ((u @ M @ u) * (g @ inverse @ g))
        assert rows[method]["share"] == pytest.approx(share.item())
        assert rows[method]["error"] == pytest.approx(((matrix - inverse).norm() / inverse.norm()).item())


def test_block_tridiagonal_inverse_is_nearer_and_its_step_better_on_the_pages_network():
    """Breaks if the blocks between layers are of other layers, or of the wrong sign."""
    rows = {row["method"]: row for row in steps.measure_inverses(0.03)}
    chained, alone = rows["block-tridiagonal"], rows["block-diagonal"]
    assert chained["error"] < alone["error"] and chained["share"] > alone["share"] + 0.02


@pytest.mark.parametrize("inverse", steps.INVERSES)
def test_one_step_of_training_is_the_one_written_out(inverse):
    """Re-scaled by the dense Fisher matrix. Breaks if the sign, the damping or the order of parameters is another."""
    _, x, y = workloads.network(0, 2)
    model = MLP([9, 6, 6, 4], seed=2, dtype=torch.float64)
    M, g = whole(model, x, y, 0.1)
    blocks = [block.damped(0.1).dense() for block in factors(model, x).values()]
    beside = [torch.kron(b.S, b.A) for b in chain(model, x).between]
    matrix = torch.block_diag(*blocks) if inverse == "block-diagonal" else filled(blocks, beside)
    u = torch.linalg.solve(matrix, g)
    alpha = (g @ u) / (u @ M @ u)
    start = 0
    for layer, block in zip([model.layers[i] for i in (1, 3, 5)], blocks, strict=True):
        part = (alpha * u[start : start + len(block)]).view(len(layer.bias), -1)
        start += len(block)
        with torch.no_grad():
            layer.weight -= part[:, :-1]
            layer.bias -= part[:, -1]
    row = steps.measure_training(inverse, "best", 0.1, False, steps=1, seed=2)
    assert row["alpha"] == pytest.approx(alpha.item())
    assert row["loss"] == pytest.approx(nn.functional.cross_entropy(model(x), y).item())
    assert row["left"] == 0.1 and row["log_loss"] == pytest.approx(np.log10(row["loss"]))


def test_damping_adapts_and_a_run_without_an_inverse_says_so(monkeypatch):
    assert steps.measure_training("block-diagonal", "best", 1.0, True, steps=3)["left"] == pytest.approx(0.125)

    def none(*_):
        raise NotPositiveDefinite("no inverse")

    monkeypatch.setattr(steps, "preconditioned", none)
    assert np.isnan(list(steps.measure_training("block-diagonal", "1", 1.0, True).values())).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kl_clip_bounds_a_length_in_the_factors_and_not_how_far_the_predictions_move(momentum):
    """Breaks if the clip scales by another power, or is given another learning rate's square."""
    _, x, y = workloads.network(0)
    model = MLP([9, 6, 6, 4], seed=0, dtype=torch.float64)
    often = {"update_factors_every": 1, "update_inverses_every": 1, "factor_decay": 0.0, "fisher": "exact"}
    optimizer = KFAC(model, 0.5, 0.03, kl_clip=1e-3, momentum=momentum, **often)
    reached, moved = [], []
    for _ in range(12):
        blocks = {name: block.damped(0.03) for name, block in factors(model, x).items()}
        before = {name: joint_weight(model.get_submodule(name)) for name in blocks}
        outputs = model(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(outputs, y).backward()
        optimizer.step()
        change = {name: joint_weight(model.get_submodule(name)) - before[name] for name in blocks}
        reached.append(sum(float(block.quadratic(change[name])) for name, block in blocks.items()) / 1e-3)
        p, q = outputs.log_softmax(1), model(x).log_softmax(1)
        moved.append(((p.exp() * (p - q)).sum(1).mean() / 1e-3).item())
    if momentum == 0:  # what this gradient adds is as long as is allowed
        assert max(reached) < 1 + 1e-9 and max(reached) == pytest.approx(1)
    else:
        assert max(reached) > 10 and max(moved) > 10


def test_momentum_moves_the_predictions_farther_than_the_clip():
    plain, heavy = (steps.measure_clip(momentum, steps=12, batch_size=128) for momentum in (0.0, 0.9))
    assert heavy["largest"] > 5 * plain["largest"] >= 5 * plain["median"] > 0


def test_inverses_are_drawn_as_they_are():
    model, x, _ = workloads.network(5, 3)
    figure = figures.whole_inverses(model, x, 0.1)
    left, middle, right = (np.array(trace.z) for trace in figure.data)
    assert np.abs(middle[:60, 102:]).max() < 1e-6 < np.abs(middle[:60, 60:102]).max()
    assert np.abs(right[:60, 60:]).max() == 0 and np.abs(left[:60, 102:]).max() > 0.01
