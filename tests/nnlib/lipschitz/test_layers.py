"""Activations are rearrangements, constrained layers keep their promise, and caches never go stale."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from nnlib.lipschitz import (
    Abs,
    Constrained,
    FullSort,
    GroupSort,
    MaxMin,
    Maxout,
    Normalize,
    OrthogonalLinear,
    Upsample,
    activation,
    hinge_loss,
    jacobians,
    layer_bound,
    margin_cross_entropy,
    orthogonal_matrix,
)
from nnlib.lipschitz.layers import frozen


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("layer", [MaxMin(), GroupSort(3), GroupSort(4), FullSort()], ids=str)
def test_sorting_rearranges_within_groups(layer):
    x = draw(5, 12)
    y = layer(x)
    size = layer.group_size or 12
    for before, after in zip(x.view(-1, size), y.view(-1, size), strict=True):
        assert after.tolist() == sorted(before.tolist())
    torch.testing.assert_close(layer(y), y, rtol=0, atol=0)


@pytest.mark.parametrize("layer", [MaxMin(), GroupSort(4), FullSort(), Abs()], ids=str)
def test_the_jacobian_is_a_signed_permutation(layer):
    for matrix in jacobians(layer, draw(20, 8)):
        assert ((matrix.abs() == 0) | (matrix.abs() == 1)).all()
        assert (matrix.abs().sum(0) == 1).all()
        assert (matrix.abs().sum(1) == 1).all()


def test_maxout_loses_half_of_the_jacobian():
    singular_values = torch.linalg.svdvals(jacobians(Maxout(2), draw(3, 8)))
    assert (singular_values == 1).all()
    assert singular_values.shape == (3, 4)


@pytest.mark.parametrize("layer", [MaxMin(), GroupSort(4), Maxout(2)], ids=str)
def test_channels_of_an_image_are_grouped_at_each_pixel(layer):
    x = draw(2, 8, 3, 5)
    y = layer(x)
    for i in range(3):
        for j in range(5):
            torch.testing.assert_close(y[:, :, i, j], layer(x[:, :, i, j]), rtol=0, atol=0)


def test_all_activations_are_1_lipschitz_in_every_norm():
    x, step = draw(200, 8), draw(200, 8, seed=1)
    for name in ("MaxMin", "GroupSort4", "FullSort", "Maxout", "Abs", "ReLU", "tanh"):
        layer = activation(name)
        for p in (1, 2, math.inf):
            change = torch.linalg.vector_norm(layer(x + step) - layer(x), p, dim=1)
            assert (change <= torch.linalg.vector_norm(step, p, dim=1) + 1e-12).all(), (name, p)


def test_a_width_that_groups_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="group_size must divide the number of features in x: got 3 and 10"):
        GroupSort(3)(torch.zeros(1, 10))


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (GroupSort(3), (3,), r"\(n, features, ...\)"),
        (MaxMin(), (4,), r"\(n, features, ...\)"),
        (FullSort(), (4,), r"\(n, features, ...\)"),
        (Maxout(2), (), r"\(n, features, ...\)"),
        (Normalize([0.0, 0.0], 1.0), (4, 3), r"\(n, 2, ...\)"),
        (Upsample(2), (2, 3, 3), r"\(n, c, h, w\)"),
        (OrthogonalLinear(3, 2), (5, 4), r"\(..., 3\)"),
        (OrthogonalLinear(3, 2), (), r"\(..., 3\)"),
    ],
    ids=str,
)
def test_inputs_of_another_shape_are_refused_by_name(layer, shape, wanted):
    with pytest.raises(ValueError, match=rf"^x must have shape {wanted}: got \({', '.join(map(str, shape))}"):
        layer(torch.zeros(shape))


@pytest.mark.parametrize(
    "mean", [[], [0.5, None], ["a"], [0.5, math.nan], torch.ones(2, dtype=torch.complex64), [[1], []]]
)
def test_what_are_no_numbers_is_no_mean(mean):
    with pytest.raises((TypeError, ValueError), match="mean must be finite numbers, at least one"):
        Normalize(mean, 1.0)


def test_a_normalisation_keeps_numbers_of_its_own():
    """Breaks if its buffer is the user's tensor, which loading a state would change."""
    mean = torch.zeros(2, dtype=torch.float64)
    Normalize(mean, 1.0).load_state_dict({"mean": torch.ones(2), "std": torch.ones(1)})
    assert not mean.any()


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 4)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_an_orthogonal_layer_has_all_gains_equal(shape, gain):
    layer = OrthogonalLinear(*shape, gain=gain, seed=1, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.add_(0.5 * draw(*layer.raw.shape))
    for mode in (True, False):
        values = torch.linalg.svdvals(layer.train(mode).weight)
        torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-6, atol=0)
    bound, residual = layer.lipschitz_bound()
    assert gain <= bound < gain * (1 + 1e-12)
    assert residual < 1e-13


def test_layers_start_with_zero_bias_and_the_same_weight_in_every_dtype():
    wide, narrow = (OrthogonalLinear(6, 4, seed=3, dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert (wide.bias == 0).all()
    torch.testing.assert_close(wide.raw.float(), narrow.raw, rtol=0, atol=0)
    assert not torch.equal(orthogonal_matrix(4, 6, 0), orthogonal_matrix(4, 6, 1))


def change_in_place(layer):
    with torch.no_grad():
        layer.raw.mul_(-1)


def load(layer):
    layer.load_state_dict({key: -value for key, value in layer.state_dict().items()})


def step(layer):
    layer.raw.grad = 2 * layer.raw.detach()
    torch.optim.SGD([layer.raw], lr=1.0).step()


def write_through_data(layer):
    layer.raw.data.mul_(-1)  # .data hides the change from the version counter


def write_through_numpy(layer):
    layer.raw.detach().numpy()[:] *= -1


def step_fused(layer):
    layer.raw.grad = 2 * layer.raw.detach()
    torch.optim.SGD([layer.raw], lr=1.0, fused=True).step()


def retrain(layer):
    layer.train()
    layer.raw.data.mul_(-1)  # .data hides the change from the version counter
    layer.eval()


@pytest.mark.parametrize(
    "change", [change_in_place, load, step, step_fused, retrain, write_through_data, write_through_numpy]
)
def test_the_cached_weight_follows_its_parameter(change):
    layer = OrthogonalLinear(4, 4, bias=False, dtype=torch.float64).eval()
    before = layer.weight.detach().clone()
    with torch.no_grad():
        assert layer.weight is layer.weight  # cached
    change(layer)
    with torch.no_grad():
        torch.testing.assert_close(layer.weight, -before)


def test_the_cache_follows_casts_and_is_not_saved_or_copied():
    layer = OrthogonalLinear(4, 4).eval()
    assert layer.weight.dtype == torch.float32
    assert layer.double().weight.dtype == torch.float64
    assert set(layer.state_dict()) == {"raw", "bias"}
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.raw.mul_(-1)
    torch.testing.assert_close(twin.weight, -layer.weight)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False).weight, layer.weight)


def test_gradients_flow_in_both_modes_wherever_they_are_asked_for():
    """Breaks if evaluation cuts the weight from its parameter: then fine-tuning in it trains the bias alone."""
    layer = OrthogonalLinear(4, 4)
    for mode in (True, False):
        assert layer.train(mode).weight.requires_grad
        with frozen(layer):
            assert not layer.weight.requires_grad
        assert layer.raw.requires_grad
    with torch.no_grad():
        assert not layer.weight.requires_grad


def test_normalisation_costs_the_smallest_standard_deviation():
    layer = Normalize([0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    bound, _ = layer.lipschitz_bound()
    x, step = torch.rand(4, 3, 5, 5), torch.zeros(4, 3, 5, 5)
    step[:, 1] = 1.0  # the channel of the smallest
    assert bound == 4.0
    gain = (layer(x + step) - layer(x)).norm() / step.norm()
    assert gain.item() == pytest.approx(bound, rel=1e-6)
    torch.testing.assert_close(layer(x)[:, 2], (x[:, 2] - 0.3) / 2)
    with pytest.raises(ValueError, match="std must be positive"):
        Normalize(0.0, 0.0)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsampling_multiplies_the_norm_by_its_factor(factor):
    x = draw(1, 2, 4, 4)
    layer = Upsample(factor)
    assert (layer(x).norm() / x.norm()).item() == pytest.approx(layer.lipschitz_bound()[0])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 3),
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, 4, stride=2),
        nn.ReLU(),
        nn.Sigmoid(),
        nn.Flatten(),
    ],
    ids=str,
)
def test_the_bound_of_torchs_own_layers_is_not_exceeded(layer):
    layer = layer.double()
    bound, residual, _ = layer_bound(layer)
    shape = (200, 4) if isinstance(layer, nn.Linear) else (200, 2, 8, 8)
    x, step = draw(*shape), 1e-3 * draw(*shape, seed=1)
    gain = (layer(x + step) - layer(x)).flatten(1).norm(dim=1) / step.flatten(1).norm(dim=1)
    assert residual == 0
    assert gain.max() <= bound * (1 + 1e-9)


class Silent(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(3), nn.Dropout(), Silent(), nn.Conv2d(2, 2, 3, padding_mode="reflect", padding=1)], ids=str
)
def test_a_layer_without_a_bound_is_refused_by_name(layer):
    with pytest.raises(ValueError, match=f"no Lipschitz bound is known for {type(layer).__name__}"):
        layer_bound(layer.train())


def test_a_constrained_layer_must_say_what_its_weight_is():
    with pytest.raises(NotImplementedError, match="Constrained must say how its weight is computed"):
        _ = Constrained().weight


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_hinge_loss_is_zero_exactly_where_all_margins_are_kept(margin):
    logits = torch.tensor([[margin, 0.0, -1.0]], dtype=torch.float64)
    assert hinge_loss(margin)(logits, torch.tensor([0])) == 0
    short = hinge_loss(margin)(logits - torch.tensor([0.3, 0.0, 0.0]), torch.tensor([0]))
    assert short.item() == pytest.approx(0.3 / 3)


def test_margin_cross_entropy_lowers_the_true_logit():
    logits, y = draw(5, 4), torch.tensor([0, 1, 2, 3, 0])
    lowered = logits.clone()
    lowered[torch.arange(5), y] -= 0.7
    torch.testing.assert_close(margin_cross_entropy(0.7)(logits, y), nn.functional.cross_entropy(lowered, y))
    with pytest.raises(ValueError, match=r"margin must be a number in .* got 0"):
        margin_cross_entropy(0)
