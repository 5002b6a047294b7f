"""OBD and OBS for single weights against a dense constrained minimisation."""

import pytest
import torch

from nnlib.eigendamage import obd_scores, obs_scores, obs_update
from tests.oracles.curvature import draw
from tests.oracles.eigendamage import cheapest_change, rise


def problem(d=7, seed=0):
    M = draw(d, d, seed=seed)
    return draw(d, seed=seed + 1), M @ M.T + 0.1 * torch.eye(d, dtype=torch.float64)


def single(d, q):
    return torch.arange(d) == q


def test_obd_is_the_rise_when_one_weight_is_deleted_and_the_others_stay():
    theta, H = problem()
    for q, score in enumerate(obd_scores(theta, H)):
        torch.testing.assert_close(score, rise(H, -theta * single(7, q)))


def test_obs_is_the_least_rise_when_one_weight_is_deleted():
    theta, H = problem()
    for q, score in enumerate(obs_scores(theta, H)):
        torch.testing.assert_close(score, rise(H, cheapest_change(H, theta, single(7, q))))


@pytest.mark.parametrize("places", [[2], [0, 5], [1, 2, 3, 6], list(range(7))])
def test_the_update_is_the_cheapest_change_that_deletes_several_weights(places):
    theta, H = problem()
    pruned = torch.zeros(7, dtype=torch.bool)
    pruned[places] = True
    torch.testing.assert_close(obs_update(theta, H, pruned), cheapest_change(H, theta, pruned))


def test_the_update_for_one_weight_is_the_papers_formula():
    theta, H = problem()
    inverse = torch.linalg.inv(H)
    for q in range(7):
        torch.testing.assert_close(
            obs_update(theta, H, single(7, q)), -theta[q] / inverse[q, q] * inverse[:, q], rtol=1e-9, atol=1e-9
        )


def test_obs_is_never_above_obd_and_equal_where_the_weights_are_uncorrelated():
    for seed in range(5):
        theta, H = problem(seed=seed)
        assert (obs_scores(theta, H) < obd_scores(theta, H)).all()
    diagonal = torch.diag(H.diagonal())
    torch.testing.assert_close(obs_scores(theta, diagonal), obd_scores(theta, diagonal))


def test_in_the_eigenbasis_the_cost_of_several_deletions_is_the_sum_of_their_scores_and_elsewhere_it_is_not():
    # What the whole method stands on; the second half would pass by chance if H were diagonal.
    theta, H = problem()
    values, Q = torch.linalg.eigh(H)
    rotated, pair = Q.T @ theta, single(7, 1) | single(7, 4)
    change = -Q @ (rotated * pair)
    torch.testing.assert_close(rise(H, change), obd_scores(rotated, torch.diag(values))[pair].sum())
    assert abs(rise(H, -theta * pair) / obd_scores(theta, H)[pair].sum() - 1) > 0.05
