"""BCOPConv: an isometry before, during and after training, with a cache that is never stale."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch import nn

from nnlib.bcop import BCOPConv, L2NEConv, OSSNConv, RKOConv, SVCMConv, component, gains, operator_matrix
from nnlib.bcop.convolution import pad
from nnlib.lipschitz import NotCertifiable, certify, conv_singular_values, jacobians, layer_bound
from tests.oracles.lipschitz import conv_matrix

F64 = torch.float64


def random(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("widths", [(3, 3), (2, 5)])
def test_layer_keeps_the_norm_of_every_input_where_it_has_the_width(k, widths):
    layer = BCOPConv(*widths, k, bias=False, dtype=F64, seed=k)
    x = random(4, widths[0], 6, 7)
    torch.testing.assert_close(layer(x).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("widths", [(3, 3), (5, 2)])
def test_layer_keeps_the_norm_of_every_gradient_where_it_narrows(widths):
    layer = BCOPConv(*widths, 3, dtype=F64)
    x = random(4, widths[0], 6, 6).requires_grad_()
    up = random(4, widths[1], 6, 6, seed=1)
    (gradient,) = torch.autograd.grad(layer(x), x, up)
    torch.testing.assert_close(gradient.flatten(1).norm(dim=1), up.flatten(1).norm(dim=1))


@pytest.mark.parametrize(("k", "stride"), [(2, 2), (4, 2), (6, 3), (4, 4)])
def test_stride_by_rearranging_pixels_is_still_an_isometry(k, stride):
    """Breaks if the stride leaves out pixels: then three quarters of the energy are gone."""
    layer = BCOPConv(2, 2 * stride**2, k, stride=stride, bias=False, dtype=F64)
    x = random(3, 2, 12, 12)
    y = layer(x)
    assert y.shape == (3, 2 * stride**2, 12 // stride, 12 // stride)
    torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_forward_is_the_circular_convolution_with_the_weight(k):
    """Against a matrix written entry by entry: breaks for a pad on the wrong side, up to the shift that both allow."""
    layer = BCOPConv(2, 3, k, bias=False, dtype=F64)
    x = random(1, 2, 5, 5)
    expected = (conv_matrix(layer.weight, 5) @ x.flatten()).view(3, 5, 5).roll((k // 2, k // 2), (1, 2))
    torch.testing.assert_close(layer(x)[0], expected)


@pytest.mark.filterwarnings("ignore:BCOPConv on")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_zeros_around_an_image_are_what_zero_padding_is(k):
    """The same pixels as with circular padding, where that sees nothing but zeros; even kernels notice the side."""
    around = [BCOPConv(2, 3, k, bias=False, padding_mode=mode, dtype=F64) for mode in ("zeros", "circular")]
    x = random(1, 2, 5, 5)
    padded, wrapped = around[0](x), around[1](torch.nn.functional.pad(x, (k, k, k, k)))
    torch.testing.assert_close(padded, wrapped[..., k : k + 5, k : k + 5])


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_singular_values_are_within_1e_5_of_one_after_training(dtype):
    """Breaks if Björck stops early on weights that have left the orthogonal matrices, or the projectors are not."""
    layers = nn.Sequential(BCOPConv(3, 8, 3, seed=0, dtype=dtype), BCOPConv(8, 16, 4, stride=2, seed=1, dtype=dtype))
    before = [layer.weight.detach().clone() for layer in layers]
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.05)
    x, target = random(8, 3, 8, 8, dtype=dtype), random(8, 16, 4, 4, seed=1, dtype=dtype)
    for _ in range(30):
        loss = (layers(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for layer, old in zip(layers.eval(), before, strict=True):
        assert (layer.weight - old).abs().max() > 0.05, "nothing was trained"
        assert (conv_singular_values(layer.weight, 8) - 1).abs().max() < 1e-5
        bound, residual = layer.lipschitz_bound()
        assert conv_singular_values(layer.weight, 8).max() <= bound < 1 + 1e-5 and residual < 1e-5


def test_gradients_flow_through_kernel_and_iteration():
    """Finite differences of the whole layer."""
    layer = BCOPConv(2, 3, 2, dtype=F64)

    def output(raw, bases):
        return torch.func.functional_call(layer, {"raw": raw, "raw_bases": bases}, (x,))

    x = random(1, 2, 3, 3)
    # The iteration's limit does not change along its own step, so the derivative is that of the polar factor.
    start = [(p.detach() * 1.2).requires_grad_() for p in (layer.raw, layer.raw_bases)]
    assert torch.autograd.gradcheck(output, start, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ranks", [0, 4, [0, 1, 3, 4], 2])
def test_ranks_choose_the_winding_numbers(ranks):
    """Columns left out after the iteration; breaks if the mask is put on before it."""
    layer = BCOPConv(4, 4, 3, rank=ranks, dtype=F64).eval()
    assert gains(layer, 5).smallest > 1 - 1e-12
    found, of = component(layer.weight), layer.rank
    assert (found.rows, found.columns) == (8 - of[0] - of[1], 8 - of[2] - of[3])


def test_evaluation_uses_one_kernel_until_a_parameter_changes():
    """Breaks if the cache is stale after an optimiser step, a loaded state, a cast, or training mode."""
    layer = BCOPConv(2, 4, 3).eval()
    assert layer.weight.requires_grad
    layer.requires_grad_(False)
    first = layer.weight
    assert layer.weight is first
    layer.raw.add_(0.1 * random(4, 2, dtype=torch.float32))
    second = layer.weight
    assert second is not first and not torch.equal(first, second)
    layer.load_state_dict(BCOPConv(2, 4, 3, seed=5).state_dict())
    assert not torch.equal(layer.weight, second)
    assert layer.double().weight.dtype == F64
    assert layer.requires_grad_().train().weight.requires_grad
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin.eval().weight, layer.eval().weight)


def test_a_frozen_layer_trains_its_bias_alone():
    layer = BCOPConv(2, 4, 3, trainable=False)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]


def test_zero_padding_is_told_with_the_true_singular_values():
    """Breaks if zero padding passes for orthogonal: most of the values are below one."""
    layer = BCOPConv(4, 4, 3, padding_mode="zeros", dtype=F64)
    with pytest.warns(UserWarning, match=r"padded with zeros.*Singular values: 0\.\d+ to 1\.0"):
        layer(random(1, 4, 6, 6))
    found = gains(layer, 6)
    values = torch.linalg.svdvals(conv_matrix(layer.weight, 6, padding=1))
    assert [found.largest, found.smallest] == pytest.approx(values[[0, -1]].tolist())
    assert found.smallest < 0.3 and found.rms < 0.97
    assert found.largest <= layer.lipschitz_bound()[0]


def test_an_image_smaller_than_the_kernel_is_told_and_still_exact():
    layer = BCOPConv(2, 4, 5, bias=False, dtype=F64)
    x = random(2, 2, 2, 3)
    with pytest.warns(UserWarning, match="wraps round the image.*1.0000 to 1.0000"):
        y = layer(x)
    torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)  # told once a size
        layer(random(1, 2, 5, 5))  # nothing to tell


def test_a_layer_that_narrows_says_how_much_it_drops():
    layer = BCOPConv(8, 3, 3)
    assert gains(layer, 4).lost == 5 * 16 and layer.kind == "co-isometry" and "co-isometry" in repr(layer)
    assert gains(BCOPConv(3, 8, 3), 4).lost == 0


def test_a_single_channel_is_told():
    with pytest.warns(UserWarning, match="only shift"):
        layer = BCOPConv(1, 1, 3, bias=False, dtype=F64)
    x = random(1, 1, 4, 4)
    assert sorted(layer(x).abs().flatten().tolist()) == pytest.approx(sorted(x.abs().flatten().tolist()))


def test_bound_holds_at_every_size_and_padding_and_is_nearly_one():
    layer = BCOPConv(3, 5, 3, dtype=torch.float32).eval()
    bound, residual, norms = layer_bound(layer)
    assert norms == (2, 2) and residual < 1e-5 and bound == math.sqrt(1 + residual)
    weight = layer.weight.double()
    for size in ((1, 1), (2, 3), (7, 7)):
        for mode in ("circular", "zeros"):
            assert torch.linalg.svdvals(operator_matrix(weight, size, mode)).max() <= bound


class Corrupted(BCOPConv):
    """A layer whose kernel is 5 % too large."""

    def compute_weight(self):
        return 1.05 * super().compute_weight()


def test_a_corrupted_layer_raises_the_constant_and_is_refused():
    layer = Corrupted(3, 4, 3).eval()
    bound, residual = layer.lipschitz_bound()
    assert bound >= 1.05 and residual > 0.1
    model = nn.Sequential(layer, nn.Flatten())
    with pytest.raises(NotCertifiable, match="Corrupted"):
        certify(model, (random(2, 3, 2, 2, dtype=torch.float32), torch.tensor([0, 1])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 1, "stride": 2}, "stride must divide the kernel"),
        ({"kernel_size": 3, "groups": 3}, "groups must divide the channels c_in and c_out: got 3 of 4 and 4"),
        ({"kernel_size": 3, "dilation": 0}, "dilation must be a whole number of at least 1: got 0"),
        ({"kernel_size": 2, "stride": 2, "size": 5}, "stride must divide the image"),
        ({"kernel_size": 2, "size": (4, 4, 4)}, "size must be one number or two"),
        ({"kernel_size": 2, "size": (4, 0)}, "size must be a whole number of at least 1: got 0"),
        ({"kernel_size": 3, "padding_mode": "reflect"}, "padding_mode must be one of circular, zeros: got 'reflect'"),
        ({"kernel_size": 3, "seed": -1}, "seed must be a whole number from 0"),
        ({"kernel_size": 3, "rank": 9}, "from 0 to 4"),
        ({"kernel_size": 3, "rank": [1, 2]}, "4 numbers"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        BCOPConv(4, 4, **options)


@pytest.mark.parametrize("layer", [RKOConv, OSSNConv, SVCMConv, L2NEConv])
@pytest.mark.parametrize("options", [{"stride": 2}, {"groups": 2}, {"dilation": 2}])
def test_geometry_without_a_theory_is_refused_by_name(layer, options):
    with pytest.raises(ValueError, match=r"stride must divide the kernel|Conv has no dilation and no groups"):
        layer(4, 4, 3, size=8, **options)


GEOMETRY = [  # c_in, c_out, k, stride, dilation, groups
    (3, 5, 3, 2, 1, 1),
    (2, 8, 3, 2, 1, 1),
    (2, 16, 3, 2, 1, 1),
    (1, 4, 3, 2, 1, 1),
    (4, 4, 5, 2, 1, 2),
    (4, 20, 5, 3, 1, 2),
    (4, 8, 3, 1, 2, 2),
    (4, 4, 3, 2, 2, 1),
    (6, 3, 3, 1, 3, 3),
    (2, 4, 4, 2, 1, 2),
]


@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
def test_overlapping_strides_dilation_and_groups_keep_every_singular_value(geometry):
    """Against the Jacobian; breaks if patches and kernel are composed in the other order, or groups are mixed up."""
    c_in, c_out, k, stride, dilation, groups = geometry
    layer = BCOPConv(c_in, c_out, k, stride=stride, dilation=dilation, groups=groups, dtype=F64)
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.add_(0.2 * random(*parameter.shape, seed=i))
    values = torch.linalg.svdvals(jacobians(layer.eval(), random(1, c_in, 12, 12))[0])
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-12)
    found, (bound, residual) = gains(layer, 12), layer.lipschitz_bound()
    assert [found.largest, found.smallest] == pytest.approx([1, 1], abs=1e-12)
    assert values[0] <= bound < 1 + 1e-10 and residual < 1e-10
    assert found.lost == max(0, c_in * 144 - layer(random(1, c_in, 12, 12)).numel())


def test_a_strided_kernel_of_three_taps_reads_three_pixels_and_no_more():
    """The fourth tap of the rearranged kernel is zero; breaks if it is filled."""
    layer = BCOPConv(2, 8, 3, stride=2, bias=False, dtype=F64).eval()
    touched = jacobians(layer, random(1, 2, 8, 8))[0].view(8, 4, 4, 2, 8, 8)[:, 2, 2].abs().sum((0, 1)) > 1e-12
    assert touched.any(0).sum() == 3 and touched.any(1).sum() == 3


def test_groups_are_convolutions_side_by_side():
    layer = BCOPConv(4, 6, 3, groups=2, bias=False, dtype=F64).eval()
    x = random(2, 4, 5, 5)
    first, second = layer.weight.chunk(2)
    apart = [
        torch.nn.functional.conv2d(pad(part, 3), w) for part, w in zip(x.chunk(2, 1), (first, second), strict=True)
    ]
    torch.testing.assert_close(layer(x), torch.cat(apart, 1))
    torch.testing.assert_close(
        layer.plain_kernel(),
        torch.cat([nn.functional.pad(first, (0, 0, 0, 0, 0, 2)), nn.functional.pad(second, (0, 0, 0, 0, 2, 0))]),
    )


def test_ranks_are_a_part_of_the_state():
    """Breaks if only the parameters are saved: with other ranks they are another kernel."""
    layer, other = (BCOPConv(2, 2, 2, rank=ranks, dtype=F64) for ranks in ([1, 2], [2, 1]))
    other.load_state_dict(layer.state_dict())
    assert other.rank == [1, 2]
    torch.testing.assert_close(other.eval().weight, layer.eval().weight)


@pytest.mark.parametrize(
    ("options", "shape", "wanted"),
    [
        ({"size": 8}, (1, 2, 9, 9), r"\(n, 2, 8, 8\)"),
        ({}, (1, 3, 9, 9), r"\(n, 2, "),
        ({}, (2, 9), r"\(n, 2, "),
        ({}, (1, 2, 0, 9), r"\(n, 2, "),
        ({"kernel_size": 4, "stride": 2}, (1, 2, 8, 9), r"\(n, 2, a multiple of 2, a multiple of 2\)"),
    ],
)
def test_images_of_another_shape_are_refused_by_name(options, shape, wanted):
    layer = BCOPConv(2, 2, **{"kernel_size": 3} | options)
    with pytest.raises(ValueError, match=rf"x must have shape {wanted}.*: got \({shape[0]}, {shape[1]}"):
        layer(torch.zeros(shape))
