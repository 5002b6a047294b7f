"""The search, idea by idea: coordinates, parabola, table, valley, ripples, whole steps, certificate."""

import numpy as np
import pytest

from nnlib.nqm import SGD, HeavyBall, IterateAverage, NoisyQuadratic
from nnlib.nqm.search import certificate, ripples, valley
from nnlib.nqm.search.coordinates import Coordinates
from nnlib.nqm.search.landscape import Landscape
from nnlib.nqm.search.parabola import descend, minimum
from nnlib.nqm.search.table import start, table

PROBLEM, TARGET = NoisyQuadratic(), 0.01
KINDS = (SGD, HeavyBall, IterateAverage)


def landscape(kind, power=0.0):
    return Landscape(PROBLEM, kind, TARGET, power)


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_stands_for_stable_hyperparameters(kind):
    """Breaks if a point at the edge of the plane is beyond the edge of stability."""
    at = Coordinates(kind, limit=2.0)
    points = np.random.default_rng(0).uniform(-60, 60, (1000, at.axes))
    lr, extra = at.hyperparameters(at.clip(points, np.full(1000, 5.0)))
    assert (lr > 0).all() and (lr < 2.0 * (1 + extra if kind is HeavyBall else 1)).all()
    assert extra is None or ((extra >= 0) & (extra < 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stretched_run_is_the_same_run_only_longer(kind):
    """lr t (effective for the heavy ball) and (1 - b) t stay. Breaks with a wrong direction."""
    at, shift = Coordinates(kind, limit=2.0), np.array([0.7])
    point = np.array([[-6.0, 5.0]])[:, : at.axes]
    (lr, extra), (lr_later, extra_later) = (at.hyperparameters(p) for p in (point, at.stretch(point, shift)))
    rates = [lr, lr_later]
    if kind is HeavyBall:
        rates = [rate / (1 - b**2) for rate, b in zip(rates, (extra, extra_later), strict=True)]
    np.testing.assert_allclose(rates[1] * np.exp(shift), rates[0], rtol=2e-3)
    if extra is not None:
        np.testing.assert_allclose((1 - extra_later) * np.exp(shift), 1 - extra, rtol=1e-12)


def test_a_parabola_s_minimum_is_found_at_once():
    """With a mixed term. Breaks if the two axes are taken one by one."""
    centre, H = np.array([0.6, -0.9]), np.array([[2.0, 0.9], [0.9, 1.0]])
    star = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1)
    values = 0.5 * np.einsum("ijk,kl,ijl->ij", star - centre, H, star - centre)
    np.testing.assert_allclose(minimum(values[None]), [centre], rtol=1e-9)
    np.testing.assert_allclose(minimum((np.array([-1, 0, 1]) - 0.3)[None] ** 2), [[0.3]], rtol=1e-9)


def test_where_there_is_no_minimum_the_step_goes_down_and_not_far():
    star = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1)
    saddle = star[..., 0] ** 2 - star[..., 1] ** 2 - 0.5 * star[..., 1]
    step = minimum(saddle[None].astype(float))[0]
    assert step[1] > 0 and np.abs(step).max() == pytest.approx(2.0)
    assert minimum(np.array([[0.0, 1.0, 1.5]]))[0, 0] < 0  # a hill: down, not up


@pytest.mark.parametrize("kind", KINDS)
def test_going_downhill_never_ends_higher(kind):
    """Breaks if a step is taken that does not pay."""
    here, batches = landscape(kind), np.array([16.0, 256.0, 4096.0])
    points, log_t = (entry[0] for entry in start(here, batches, 1e6))
    few, size = PROBLEM.reduced, np.full(3, 0.3)
    before = here.at(few, points, log_t, batches)
    after, _ = descend(here, few, points, log_t, batches, size, rounds=3)
    assert (here.at(few, after, log_t, batches) <= before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_says_which_batch_size_will_do(kind):
    """At the batch size of an entry the smoothed risk is the target; with a smaller one it is above."""
    here = landscape(kind, power=0.25)
    t, points, needed = table(here, 1e5)
    at_t = t.size // 2
    finite = np.isfinite(needed[at_t])
    chosen, batch = points[at_t][finite], needed[at_t][finite]
    log_t = np.full(batch.size, np.log(t[at_t]))
    np.testing.assert_allclose(np.exp(here.at(PROBLEM.sketch, chosen, log_t, batch)), TARGET, rtol=1e-9)
    assert (np.exp(here.at(PROBLEM.sketch, chosen, log_t, batch / 2)) > TARGET).all()


def test_what_one_batch_size_found_is_tried_by_the_others():
    """Breaks if the borrowed point is not stretched to the run of the one that borrows."""
    here, batches = landscape(HeavyBall), np.array([16.0, 64.0])
    log_t = np.log([320_000.0, 80_000.0])
    good = np.array([[-3.0, 4.0], [-3.0, 4.0]])
    good = here.coordinates.stretch(good[:1], log_t - 12.0)
    bad = good.copy()
    bad[1] = [-12.0, 0.5]
    values = here.at(PROBLEM.sketch, good, log_t, batches)
    found, at = valley.borrow(here, PROBLEM.sketch, bad, log_t, batches)
    np.testing.assert_allclose(found[1], good[1])
    assert (at <= values + 1e-9).all()


def test_ripples_are_seen_on_the_floor_of_the_heavy_ball_and_searching_them_saves_steps():
    """Breaks if the search takes the valley for the truth where modes oscillate."""
    here, batches = landscape(HeavyBall), np.array([2.0**14, 2.0**18])
    points, log_t = valley.lowest_basin(here, *start(here, batches, 8_000), batches)
    assert ripples.rough(here, points, log_t, batches).all()
    _, smooth = valley.polish(here, points, log_t, batches)
    _, searched = ripples.search(here, points, log_t, batches)
    assert (searched < smooth - 1e-3).all()


def test_points_around_are_spread_over_all_of_the_box():
    """Breaks if the two coordinates go together, so that points lie on a line."""
    here = landscape(HeavyBall)
    found = ripples.around(here, np.array([[0.0, 3.0]]), np.array([6.0]), np.arange(400)[None])[0]
    quadrants = {(z > 0, y > 3) for z, y in found}
    assert len(quadrants) == 4 and abs(np.corrcoef(found.T)[0, 1]) < 0.1


def test_the_earliest_step_is_the_last_crossing_of_the_target():
    """SGD's risk falls all the way: the first step below, found from far above it. Breaks by a step either way."""
    here, point, batch = landscape(SGD), np.array([[-2.0]]), np.array([1e6])
    enough = np.array([1e6])
    assert here.exact(point, enough, batch)[0] < here.goal
    found = certificate.earliest(here, point, enough, batch)
    risk = [here.exact(point, found - back, batch)[0] for back in (0, 1)]
    assert risk[0] < here.goal <= risk[1]


def test_a_larger_batch_inherits_what_a_smaller_one_found():
    points, steps = certificate.inherit(np.array([[1.0], [2.0], [3.0]]), np.array([50.0, 70, 60]), np.array([8, 4, 16]))
    assert steps.tolist() == [50, 70, 50] and points.ravel().tolist() == [1, 2, 1]
