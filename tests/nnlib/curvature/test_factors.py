"""Are the factors the means that they claim to be, and how far is their product from the matrix?"""

import sys
from itertools import pairwise, product

import pytest
import torch
from torch import nn

from nnlib.curvature import Kronecker, dense_fisher, dense_gauss_newton, factors, joint_weight, layer_index, rescale
from nnlib.models import MLP
from tests.oracles import curvature as oracle
from tests.oracles.curvature import draw, randomised

# torch's own remark on the speed of one of the convolutions
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
FISHERS = ("exact", "empirical", "gauss_newton_exact")
CONVOLUTIONS = {
    "plain": dict(kernel_size=3),
    "pointwise": dict(kernel_size=1),
    "no bias": dict(kernel_size=2, bias=False),
    "stride": dict(kernel_size=3, stride=(2, 1), padding=(1, 2)),
    "dilation": dict(kernel_size=(2, 3), dilation=(2, 1), padding=1),
    "same": dict(kernel_size=(2, 3), padding="same", dilation=(1, 2)),
    "valid": dict(kernel_size=2, padding="valid"),
    "circular": dict(kernel_size=3, padding=1, padding_mode="circular"),
    "reflect": dict(kernel_size=3, padding=(1, 2), padding_mode="reflect", stride=2),
    "replicate": dict(kernel_size=2, padding="same", padding_mode="replicate"),
}


def mlp():
    return randomised(MLP([4, 5, 4, 3]))


def cnn(**options):
    """A convolution in the middle of a net that treats examples one by one; inputs are (2, 5, 6)."""
    layers = [nn.Conv2d(2, 2, 1), nn.Tanh(), nn.Conv2d(2, 3, **options), nn.Tanh(), nn.AdaptiveAvgPool2d((2, 1))]
    return randomised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 3)))


class Sequence(nn.Module):
    """(B, T, 3) -> (B, 2): a linear layer at each position, then a mean over positions."""

    def __init__(self, bias=True):
        super().__init__()
        self.each = nn.Linear(3, 4, bias=bias)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.each(x).tanh().mean(1))


class Twice(nn.Module):
    """One layer called two times, as in a recurrent net."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.inner(self.inner(x).tanh()).tanh())


def targets(fisher, likelihood, n, classes):
    if fisher != "empirical":
        return None
    return torch.arange(n) % classes if likelihood == "categorical" else draw(n, classes, seed=9)


def check_against_oracle(model, x, fisher, likelihood, classes=3):
    y = targets(fisher, likelihood, len(x), classes)
    for name, block in factors(model, x, fisher=fisher, likelihood=likelihood, y=y).items():
        A, S = oracle.factors(model, name, x, fisher, likelihood, y)
        torch.testing.assert_close(block.A, A, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(block.S, S, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("fisher", FISHERS)
def test_factors_of_linear_layers_equal_the_loop_oracle(fisher, likelihood):
    """Breaks if 1/B is not undone, classes lose their weight p_c, or the bias's column is missing."""
    check_against_oracle(mlp(), draw(4, 4), fisher, likelihood)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_factors_of_convolutions_equal_the_loop_oracle(kind):
    """Breaks if padding, stride or dilation is applied differently, or S is averaged over locations and not summed."""
    check_against_oracle(cnn(**CONVOLUTIONS[kind]), draw(2, 2, 5, 6), "exact", "categorical")


@pytest.mark.parametrize("fisher", FISHERS[1:])
def test_other_fishers_of_convolutions_equal_the_loop_oracle(fisher):
    check_against_oracle(cnn(kernel_size=3, stride=2, padding=1), draw(2, 2, 5, 6), fisher, "categorical")


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_locations_of_the_oracle_times_the_joint_weight_are_the_outputs(kind):
    """The oracle's own check, by the definition of a patch and torch's convolution."""
    layer, x = randomised(nn.Conv2d(2, 3, **CONVOLUTIONS[kind])), draw(2, 2, 5, 6)
    for example, s in zip(x, layer(x), strict=True):
        rows = torch.stack(oracle.locations(layer, example))
        torch.testing.assert_close(rows @ joint_weight(layer).T, s.flatten(1).T.detach())


@pytest.mark.parametrize("bias", [True, False])
def test_positions_of_a_sequence_are_locations(bias):
    """Breaks if S is divided by the number of positions as A is."""
    check_against_oracle(randomised(Sequence(bias)), draw(3, 5, 3), "exact", "categorical", 2)


@pytest.mark.parametrize("fisher", FISHERS)
def test_a_layer_used_twice_is_one_layer_with_more_locations(fisher):
    """Breaks if the second call replaces the first, or A is summed over the calls."""
    check_against_oracle(randomised(Twice()), draw(3, 3), fisher, "categorical", 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"stride": 2}, {"dilation": (1, 2), "padding": (0, 2)}, {"padding": 1, "padding_mode": "reflect"}],
    ids=str,
)
def test_channel_factors_average_over_kernel_offsets(options, bias):
    """A of EigenDamage: mean over examples, locations and offsets of x_c x_c', the bias seen as 1/offsets.

    Breaks if a pixel at a border, or between strides, counts as often as one that every offset sees.
    """
    layer, x = randomised(nn.Conv2d(2, 3, (2, 3), bias=bias, **options)), draw(2, 2, 5, 6)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    block, full = (factors(model, x, channels=channels)["0"] for channels in (True, False))
    A = 0.0
    for example in x:
        rows = oracle.locations(layer, example)
        for row in rows:
            for offset in range(6):
                seen = row[:12].view(2, 6)[:, offset]
                seen = torch.cat([seen, seen.new_tensor([1 / 6])]) if bias else seen
                A = A + torch.outer(seen, seen) / (6 * len(rows) * len(x))
    torch.testing.assert_close(block.A, A)
    torch.testing.assert_close(block.S, full.S)


def test_sampled_factors_are_the_empirical_ones_at_some_targets_and_at_all_in_turn():
    """Two examples, three classes: nine draws. Breaks if the gradient is not that of the drawn target's loss."""
    model, x = mlp(), draw(2, 4)
    targets = [torch.tensor(y) for y in product(range(3), repeat=2)]
    possible = [factors(model, x, fisher="empirical", y=y)["layers.1"].S for y in targets]
    seen = set()
    for seed in range(100):
        S = factors(model, x, fisher="sampled", seed=seed)["layers.1"].S
        (found,) = (i for i, other in enumerate(possible) if torch.allclose(S, other, rtol=1e-10, atol=0))
        seen.add(found)
    assert seen == set(range(9))


@pytest.mark.parametrize(
    ("fisher", "likelihood", "limit"),
    [
        ("sampled", "categorical", "exact"),
        ("sampled", "gaussian", "exact"),
        ("gauss_newton", "categorical", "gauss_newton_exact"),
    ],
)
def test_sampled_factors_are_unbiased_and_their_error_falls_as_one_over_root_n(fisher, likelihood, limit):
    """z-scores of means. Breaks for a bias of a tenth of the spread of one draw, or draws that depend on each other."""
    model, x, n = randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))), draw(5, 3), 600
    limits = factors(model, x, fisher=limit, likelihood=likelihood)
    draws = [factors(model, x, fisher=fisher, likelihood=likelihood, seed=seed) for seed in range(n)]
    of_all, of_groups = [], []
    for name, block in limits.items():
        upper = torch.ones_like(block.S, dtype=torch.bool).triu()
        error = torch.stack([found[name].S - block.S for found in draws])[:, upper]  # (n, entries)
        of_all.append(error.mean(0) / error.std(0) * n**0.5)
        of_groups.append(error.view(20, n // 20, -1).mean(1) / error.std(0) * (n / 20) ** 0.5)
    assert torch.cat(of_all).abs().max() < 4
    assert 0.6 < torch.cat(of_groups, 1).square().mean() < 1.6  # groups of 30 err as much as 1/sqrt(30) says


def test_pieces_give_the_factors_of_the_whole_batch():
    """Breaks if the last, smaller piece counts as much as the others."""
    model, x = mlp(), draw(7, 4)
    bases = {name: block.eigen() for name, block in factors(model, x).items()}
    whole, pieces = factors(model, x), factors(model, x, batch_size=3)
    values, in_pieces = rescale(model, x, bases), rescale(model, x, bases, batch_size=3)
    for name in whole:
        torch.testing.assert_close(pieces[name].A, whole[name].A)
        torch.testing.assert_close(pieces[name].S, whole[name].S)
        torch.testing.assert_close(in_pieces[name].values, values[name].values)


@pytest.mark.parametrize("bias", [True, False])
def test_factors_of_deep_linear_nets_are_the_gauss_newton_blocks(bias):
    """Squared loss: S does not depend on the example, so each layer's block is S (x) A; blocks between layers are not.

    Breaks for any factor off by a constant, or for swapped factors.
    """
    sizes, x = [4, 5, 3, 2], draw(6, 4)
    model = nn.Sequential(*(nn.Linear(i, o, bias=bias) for i, o in pairwise(sizes)))
    model = randomised(model)
    G = dense_gauss_newton(model, x)
    whole = torch.zeros_like(G)
    for name, block in factors(model, x, fisher="gauss_newton_exact").items():
        index = layer_index(model, name)
        whole[index[:, None], index] = block.dense()
        torch.testing.assert_close(block.dense(), G[index[:, None], index])
    assert (whole - G).norm() > 0.1 * G.norm()  # the whole matrix is not block-diagonal


def test_factors_of_one_layer_are_the_whole_gauss_newton_matrix():
    model, x = randomised(nn.Sequential(nn.Linear(4, 3))), draw(6, 4)
    G, index = dense_gauss_newton(model, x), layer_index(model, "0")
    block = factors(model, x, fisher="exact", likelihood="gaussian")["0"]
    torch.testing.assert_close(block.dense(), G[index[:, None], index])


@pytest.mark.parametrize("fisher", FISHERS)
def test_factors_of_one_example_are_the_blocks(fisher):
    """One example, one location: E[G G'] = S (x) A also with nonlinearities; with two examples it is not."""
    model, x = mlp(), draw(2, 4)
    for n, exact in ((1, True), (2, False)):
        y = targets(fisher, "categorical", n, 3)
        F = oracle.fisher(model, x[:n], fisher, y=y)
        errors = []
        for name, block in factors(model, x[:n], fisher=fisher, y=y).items():
            index = layer_index(model, name)
            part = F[index[:, None], index]
            errors.append((block.dense() - part).norm() / part.norm())
        assert (max(errors) < 1e-12) == exact


@pytest.mark.parametrize("net", ["mlp", "cnn", "twice"])
def test_ekfac_is_never_farther_from_the_fisher_block_than_kfac(net):
    """Its eigenvalues are the block's diagonal in the basis, the nearest ones; so any change of them is worse."""
    model, x = {
        "mlp": (mlp(), draw(6, 4)),
        "cnn": (cnn(kernel_size=2, stride=2), draw(4, 2, 5, 6)),
        "twice": (randomised(Twice()), draw(5, 3)),
    }[net]
    F = dense_fisher(model, x)
    bases = {name: block.eigen() for name, block in factors(model, x).items()}
    for name, rescaled in rescale(model, x, bases).items():
        index = layer_index(model, name)
        part = F[index[:, None], index]
        Q = torch.kron(rescaled.Q_S, rescaled.Q_A)
        torch.testing.assert_close(rescaled.values.flatten(), (Q.T @ part @ Q).diagonal())
        kfac, ekfac = ((basis.dense() - part).norm() for basis in (bases[name], rescaled))
        assert ekfac < 0.999 * kfac
        torch.testing.assert_close(rescaled.values.sum(), part.trace())  # K-FAC has tr A tr S instead


@pytest.mark.parametrize("fisher", ["empirical", "gauss_newton_exact"])
def test_eigenvalues_of_other_fishers_are_the_diagonal_in_the_basis(fisher):
    model, x, y = mlp(), draw(5, 4), targets(fisher, "categorical", 5, 3)
    F = oracle.fisher(model, x, fisher, y=y)
    bases = {name: block.eigen() for name, block in factors(model, x).items()}
    for name, rescaled in rescale(model, x, bases, fisher=fisher, y=y).items():
        index, Q = layer_index(model, name), torch.kron(rescaled.Q_S, rescaled.Q_A)
        torch.testing.assert_close(rescaled.values.flatten(), (Q.T @ F[index[:, None], index] @ Q).diagonal())


def test_large_layers_are_rescaled_in_chunks_with_the_same_result(monkeypatch):
    """Breaks if a chunk of examples is lost or counted twice."""
    model, x = cnn(kernel_size=3), draw(5, 2, 5, 6)
    bases = {name: block.eigen() for name, block in factors(model, x).items()}
    whole = rescale(model, x, bases)
    monkeypatch.setattr(sys.modules["nnlib.curvature.factors"], "CHUNK", 150)  # the package's `factors` is the function
    for name, found in rescale(model, x, bases).items():
        torch.testing.assert_close(found.values, whole[name].values)


def test_examples_see_each_other_through_batchnorm_in_training_mode():
    """Factors are those of the mode that the model is in. Breaks if `factors` switches it to evaluation."""
    model = randomised(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)))
    x = 3 + draw(6, 3)
    training = factors(model, x)["3"].A
    hidden = model[:3](x).detach()
    torch.testing.assert_close(training[:4, :4], hidden.T @ hidden / 6)
    model.eval()
    assert (factors(model, x)["3"].A - training).norm() > 0.1


def test_grouped_convolution_is_refused_by_name():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"layer '0' has no Kronecker block.*2 groups"):
        factors(model, torch.ones(1, 2, 3, 3), layers=["0", "2"])
    assert list(factors(model, torch.ones(1, 2, 3, 3))) == ["2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(fisher="true"), "fisher must be one of.*'true'"),
        (dict(likelihood="poisson"), "likelihood must be one of.*'poisson'"),
        (dict(fisher="empirical"), "true targets y"),
        (dict(y=torch.zeros(2).long()), "true targets y"),
        (
            dict(fisher="empirical", y=torch.zeros(3).long()),
            r"one target for each of the 2 examples of x: .*shape \(3,\)",
        ),
        (dict(fisher="empirical", likelihood="gaussian", y=torch.zeros(2)), r"y must have shape \(2, 3\)"),
        (dict(layers=["layers.9"]), "no layer 'layers.9'"),
        (dict(layers=["layers.2"]), "ReLU is neither"),
        (dict(batch_size=0), "batch_size must be a whole number of at least 1: got 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        factors(MLP([4, 5, 3]), torch.ones(2, 4), **options)


def test_outputs_that_are_not_one_row_an_example_are_refused():
    with pytest.raises(ValueError, match=r"shape \(batch, outputs\): got \(2, 3, 4\)"):
        factors(nn.Sequential(nn.Linear(4, 4)), torch.ones(2, 3, 4))


def test_a_layer_without_influence_on_the_output_is_refused_by_name():
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            self.side(x)
            return self.main(x)

    with pytest.raises(ValueError, match="layer 'side' has no influence"):
        factors(Side(), torch.ones(3, 2))
    assert isinstance(factors(Side(), torch.ones(3, 2), layers=["main"])["main"], Kronecker)
