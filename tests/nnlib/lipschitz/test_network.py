"""No slope of a random network is above the bound that is proven for it, and no network is refused for nothing."""

import pytest

from tests.oracles.random_networks import judge

NETWORKS = 500


@pytest.mark.parametrize("first", range(0, NETWORKS, 50))
def test_no_slope_of_a_random_network_exceeds_its_bound(first):
    """Breaks if a branch, a second run, a stride, a circular turn, a repeated entry or a hook is missed.

    ``tools/fuzz_lipschitz.py`` does the same for 100,000.
    """
    judged = {seed: judge(seed) for seed in range(first, first + 50)}
    found = {seed: (bound, slope) for seed, (bound, slope) in judged.items() if bound is not None}
    assert not {seed: pair for seed, pair in found.items() if pair[1] > pair[0] * (1 + 1e-9) + 1e-12}
    bounded = [slope / bound for bound, slope in found.values() if bound]
    assert len(bounded) > 20  # of 50: the others hold something that has no bound
    assert max(bounded) > 0.9  # and the bounds say something
