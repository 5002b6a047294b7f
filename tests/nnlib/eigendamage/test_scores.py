"""Scores of filters against the dense curvature S (x) A, and the energy identities of the eigenbasis."""

import pytest
import torch

from nnlib.curvature import Eigenbasis, Kronecker
from nnlib.eigendamage import (
    c_obd,
    c_obs,
    c_obs_update,
    importance,
    kron_obd,
    kron_obs,
    kron_obs_update,
    magnitude,
    obd_scores,
    obs_scores,
    rotate,
)
from tests.oracles import eigendamage as oracle
from tests.oracles.curvature import draw

OUT, IN = 6, 5


def problem(seed=0):
    X, D = draw(40, IN, seed=seed), draw(40, OUT, seed=seed + 1)
    return draw(OUT, IN, seed=seed + 2), Kronecker(X.T @ X / 40, D.T @ D / 40)


def rows(*indices):
    mask = torch.zeros(OUT, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def of_rows(mask):
    """The same filters as places in vec(W)."""
    return mask[:, None].expand(OUT, IN).flatten()


def test_kron_obd_is_the_rise_when_a_filter_is_deleted_and_the_others_stay():
    """Breaks with the square of the weights times A, in place of the quadratic form."""
    W, block = problem()
    for i, score in enumerate(kron_obd(W, block)):
        v = -(W * rows(i)[:, None]).flatten()
        torch.testing.assert_close(score, oracle.rise(block.dense(), v))


def test_kron_obs_is_the_least_rise_when_a_filter_is_deleted():
    W, block = problem()
    for i, score in enumerate(kron_obs(W, block)):
        v = oracle.cheapest_change(block.dense(), W.flatten(), of_rows(rows(i)))
        torch.testing.assert_close(score, oracle.rise(block.dense(), v))


@pytest.mark.parametrize("filters", [(0,), (1, 4), (0, 2, 5), (0, 1, 2, 3, 4)])
def test_the_joint_update_is_the_cheapest_change_that_deletes_several_filters(filters):
    W, block = problem()
    v = oracle.cheapest_change(block.dense(), W.flatten(), of_rows(rows(*filters)))
    torch.testing.assert_close(kron_obs_update(W, block, rows(*filters)).flatten(), v)


def test_the_joint_cost_is_the_closed_form_with_the_block_of_the_inverse():
    # tr([S^-1]_PP^-1 W_P A W_P') / 2
    W, block = problem()
    P = rows(0, 2, 5)
    inner = torch.linalg.inv(torch.linalg.inv(block.S)[P][:, P])
    expected = (inner @ W[P] @ block.A @ W[P].T).trace() / 2
    torch.testing.assert_close(block.quadratic(kron_obs_update(W, block, P)) / 2, expected)


def test_no_other_update_is_cheaper_than_the_joint_one():
    # Not the sum of the single updates, as in the authors' code, and not leaving the other filters alone.
    P = rows(0, 2, 5)
    for seed in range(10):
        W, block = problem(seed)
        summed = sum(kron_obs_update(W, block, rows(i)) for i in (0, 2, 5))
        others = [torch.where(P[:, None], -W, summed), torch.where(P[:, None], -W, 0)]
        joint = block.quadratic(kron_obs_update(W, block, P))
        assert all(joint < block.quadratic(other) * (1 - 1e-6) for other in others)


def test_c_obd_adds_up_the_scores_of_single_weights():
    W, block = problem()
    F = block.dense()
    expected = obd_scores(W.flatten(), F).view(OUT, IN).sum(1)
    torch.testing.assert_close(c_obd(W, F.diagonal().view(OUT, IN)), expected)


def test_c_obs_adds_up_the_scores_and_the_updates_of_single_weights():
    W, block = problem()
    F, P = block.dense(), rows(1, 3)
    torch.testing.assert_close(c_obs(W, block), obs_scores(W.flatten(), F).view(OUT, IN).sum(1))
    total = torch.zeros(OUT * IN, dtype=torch.float64)
    for q in of_rows(P).nonzero()[:, 0]:
        total += oracle.cheapest_change(F, W.flatten(), torch.arange(OUT * IN) == q)
    found = c_obs_update(W, block, P)
    torch.testing.assert_close(found[~P], total.view(OUT, IN)[~P])
    assert torch.equal(found[P], -W[P])


def test_with_uncorrelated_gradients_compensation_does_nothing_and_both_kron_scores_agree():
    W, block = problem()
    block = Kronecker(block.A, torch.diag(block.S.diagonal()))
    torch.testing.assert_close(kron_obs(W, block), kron_obd(W, block))
    assert not kron_obs_update(W, block, rows(1, 2))[~rows(1, 2)].any()


def test_magnitude_does_not_depend_on_the_number_of_weights():
    W, _ = problem()
    torch.testing.assert_close(magnitude(torch.cat([W, W], 1)), magnitude(W))


@pytest.mark.parametrize("shape", [(OUT, IN), (OUT, IN, 3, 3), (OUT, IN, 1, 2)])
def test_importance_is_the_score_of_every_rotated_weight(shape):
    W, block = draw(*shape), problem()[1]
    basis = block.eigen()
    taps = W[0, 0].numel()
    expected = oracle.importance(W, basis.Q_S, basis.Q_A, basis.values[:, :, None].expand(-1, -1, taps))
    torch.testing.assert_close(importance(W, basis), expected)
    by_offset = Eigenbasis(basis.Q_A, basis.Q_S, draw(OUT, IN, taps).abs())
    torch.testing.assert_close(importance(W, by_offset), oracle.importance(W, basis.Q_S, basis.Q_A, by_offset.values))


def test_importance_adds_up_to_the_energy_of_the_weights():
    # sum Theta = vec(W)'(S (x) I (x) A)vec(W) / 2: the rise if the whole layer went.
    W, block = draw(OUT, IN, 3, 3), problem()[1]
    energy = sum(block.quadratic(W[:, :, p, q]) for p in range(3) for q in range(3)) / 2
    torch.testing.assert_close(importance(W, block.eigen()).sum(), energy)


@pytest.mark.parametrize("seed", range(3))
def test_deleting_rows_and_columns_in_the_eigenbasis_costs_the_sum_of_what_is_deleted(seed):
    # Exact under S (x) A: the claim that a diagonal rule is right here. Entries in a row and a column count once.
    W, block = problem(seed)
    basis = block.eigen()
    keep = torch.outer(~rows(0, 3), torch.tensor([True, False, True, True, False]))
    change = basis.rotate_back(basis.rotate(W) * ~keep)
    torch.testing.assert_close(block.quadratic(change) / 2, importance(W, basis)[~keep].sum())


def test_rotating_there_and_back_gives_the_weights():
    W, block = draw(OUT, IN, 3, 3), problem()[1]
    basis = block.eigen()
    torch.testing.assert_close(rotate(rotate(W, basis.Q_S, basis.Q_A), basis.Q_S.T, basis.Q_A.T), W)


def test_importance_does_not_depend_on_the_signs_of_the_eigenvectors():
    W, block = problem()
    basis = block.eigen()
    flipped = Eigenbasis(-basis.Q_A, basis.Q_S * torch.tensor([1.0, -1, 1, -1, 1, -1]), basis.values)
    torch.testing.assert_close(importance(W, flipped), importance(W, basis))
