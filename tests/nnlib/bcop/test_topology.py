"""Islands: winding numbers against polynomial roots, every 1-D orthogonal convolution taken apart, paths that break."""

import itertools

import pytest
import torch

from nnlib.bcop import (
    Component,
    bcop_kernel,
    component,
    factorize_1d,
    island_kernel,
    islands,
    kernel_1d,
    orthogonality_residual,
    projector,
    response,
    smallest_gain,
    winding_number,
)
from nnlib.lipschitz import conv_singular_values, orthogonal_matrix
from tests.oracles.bcop import winding_by_roots

F64 = torch.float64


@pytest.mark.parametrize("ranks", list(itertools.product(range(4), repeat=2)))
def test_winding_number_is_the_sum_of_the_complements_ranks(ranks):
    kernel = island_kernel(3, list(ranks), seed=sum(ranks))
    assert winding_number(kernel) == 6 - sum(ranks) == winding_by_roots(kernel)


def test_winding_number_counts_roots_for_convolutions_that_are_not_orthogonal_too():
    """Breaks if the phase is followed too coarsely."""
    for seed in range(5):
        kernel = torch.randn(2, 2, 1, 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
        assert winding_number(kernel) == winding_by_roots(kernel)


def test_all_islands_of_theorem_1_are_inhabited_and_no_others_are_found():
    """2 (k - 1) n + 2 pairs of winding number and sign. Breaks if the sign is lost, or two islands coincide."""
    n, k = 2, 3
    ranks = itertools.product(range(n + 1), repeat=k - 1)
    found = {component(island_kernel(n, list(r), sign, seed=7)) for r in ranks for sign in (1, -1)}
    assert found == {Component(0, m, sign) for m in range((k - 1) * n + 1) for sign in (1, -1)}
    assert len(found) == islands(n, k) == 10


def test_in_two_dimensions_both_winding_numbers_tell_islands_apart():
    """At least 2 ((k - 1) n + 1)² pieces within BCOP."""
    n, found = 2, set()
    for r, s, sign in itertools.product(range(n + 1), range(n + 1), (1, -1)):
        h = torch.diag(torch.tensor([1.0, sign], dtype=F64)) @ torch.linalg.matrix_exp(
            torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)
        )
        kernel = bcop_kernel(h, projector(n, r, seed=1)[None], projector(n, s, seed=2)[None])
        found.add(component(kernel))
        assert component(kernel) == Component(n - r, n - s, sign)
    assert len(found) == 2 * (n + 1) ** 2


@pytest.mark.parametrize("ranks", [[0], [1, 2], [3, 0, 1], [2, 2, 1, 1]])
def test_every_one_dimensional_orthogonal_convolution_has_its_factors(ranks):
    """Turned by an orthogonal matrix on both sides, so that nothing of how it was built is left to see."""
    n = 3
    kernel = island_kernel(n, ranks, sign=-1, seed=5)
    kernel = torch.einsum("ab,bchw,cd->adhw", orthogonal_matrix(n, n, 8), kernel, orthogonal_matrix(n, n, 9))
    h, projectors = factorize_1d(kernel)
    torch.testing.assert_close(kernel_1d(h, projectors), kernel, rtol=0, atol=1e-12)
    for p in projectors:
        torch.testing.assert_close(p @ p, p)
        torch.testing.assert_close(p.mT, p)
    torch.testing.assert_close(h @ h.mT, torch.eye(n, dtype=F64))


def test_what_is_not_orthogonal_has_no_factors():
    with pytest.raises(ValueError, match="share a range"):
        factorize_1d(torch.randn(2, 2, 1, 3, generator=torch.Generator().manual_seed(0), dtype=F64))
    with pytest.raises(ValueError, match="no orthogonal matrix"):
        factorize_1d(1.1 * island_kernel(2, [1, 1]))


def test_a_straight_path_between_islands_meets_a_convolution_that_loses_a_direction():
    """And so does any path: the winding number is whole. Breaks if island_kernel ignores its ranks."""
    here = island_kernel(2, [1, 1], seed=0)
    for ranks in ([0, 1], [2, 2], [0, 0]):
        there = island_kernel(2, ranks, seed=1)
        path = [smallest_gain((1 - t) * here + t * there, angles=512) for t in torch.linspace(0, 1, 201)]
        assert min(path) < 0.02 and path[0] == pytest.approx(1) == path[-1]


def test_a_path_of_projectors_stays_on_its_island():
    """Rotating the ranges keeps every singular value and the component."""
    h, p, q = orthogonal_matrix(3, 3, 0), projector(3, 1, seed=1), projector(3, 2, seed=2)
    turn = torch.tensor([[0.0, 1.0, 0.3], [-1.0, 0.0, 2.0], [-0.3, -2.0, 0.0]], dtype=F64)
    found = set()
    for t in torch.linspace(0, 1, 11):
        r = torch.linalg.matrix_exp(t * turn)
        kernel = kernel_1d(r @ h, [r @ p @ r.mT, q])
        assert orthogonality_residual(kernel) < 1e-12
        found.add(component(kernel))
    assert len(found) == 1


def test_a_shift_is_the_same_product_for_every_projector():
    """[P, I - P] □ [I - P, P] = [0, I, 0]: the point where islands of different ranks touch."""
    identity = torch.eye(3, dtype=F64)
    for rank in range(4):
        p = projector(3, rank, seed=rank)
        kernel = kernel_1d(identity, [p, identity - p])
        expected = torch.stack([0 * identity, identity, 0 * identity], -1)[:, :, None]
        torch.testing.assert_close(kernel, expected)


@pytest.mark.parametrize("ranks", [(1, 0), (1, 1), (2, 0), (2, 1)])  # the first has a unit, the second has room
def test_a_unit_of_rank_can_be_handed_from_one_factor_to_another(ranks):
    """Why only the sum of the ranks counts: a kernel of both ranks, on which the two islands are one."""
    n, identity = 2, torch.eye(2, dtype=F64)
    first = torch.diag((torch.arange(n) < ranks[0]).to(F64))  # has the first coordinate
    second = torch.diag((torch.arange(n) >= n - ranks[1]).to(F64))  # has it not
    unit = projector(n, 1)
    handed = [first - unit, second + unit]
    torch.testing.assert_close(kernel_1d(identity, [first, second]), kernel_1d(identity, handed), rtol=0, atol=0)
    assert [round(p.trace().item()) for p in handed] == [ranks[0] - 1, ranks[1] + 1]


def test_response_is_the_transform_that_the_singular_values_come_from():
    kernel = torch.randn(3, 2, 1, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    angles = 2 * torch.pi * torch.arange(8, dtype=F64) / 8
    ours = torch.linalg.svdvals(response(kernel, angles))
    torch.testing.assert_close(ours, conv_singular_values(kernel, (1, 8)))


def test_a_kernel_without_a_winding_number_is_refused():
    with pytest.raises(ValueError, match="no winding number"):
        winding_number(torch.ones(1, 1, 1, 2, dtype=F64))  # 1 + exp(-i theta) is 0 at pi
    with pytest.raises(ValueError, match=r"kernel must have shape \(n, n, k_h, k_w\)"):
        winding_number(torch.ones(1, 2, 1, 2))
    with pytest.raises(ValueError, match="no winding number"):
        winding_number(1e300 * torch.eye(2, dtype=F64)[:, :, None, None])  # its determinant is infinite


def test_factors_are_an_orthogonal_matrix_and_projectors():
    with pytest.raises(ValueError, match="h must be orthogonal: it is"):
        kernel_1d(torch.full((2, 2), 0.5), [])
    with pytest.raises(ValueError, match="projectors must hold projectors, P Pᵀ = P: one is 2 from it"):
        kernel_1d(torch.eye(2), [torch.eye(2), 2 * torch.eye(2)])
    for rank in (-1, 3, 1.0):
        with pytest.raises((TypeError, ValueError), match="ranks must be a whole number from 0 to 2"):
            island_kernel(2, [1, rank])
