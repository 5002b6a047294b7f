"""RKO, OSSN, SVCM and RK-L2NE: what they keep, what they lose, and where their constraint is none."""

import math

import pytest
import torch
from torch import nn

from nnlib.bcop import L2NEConv, OSSNConv, RKOConv, SVCMConv, clip_and_mask, gains, operator_matrix
from nnlib.bcop.baselines import _adjoint, _circular
from nnlib.lipschitz import conv_norm, conv_singular_values, project_every
from tests.oracles.lipschitz import conv_matrix

F64 = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("widths", [(4, 4), (6, 3), (2, 3), (2, 30)])
def test_mean_square_gain_of_rko_is_known_exactly(k, widths):
    """min(c_out, c_in k²) / (k² min(c_out, c_in)). Breaks without the division by k, or with k²."""
    c_in, c_out = widths
    found = gains(RKOConv(c_in, c_out, k, dtype=F64).eval(), 8)
    expected = min(c_out, c_in * k * k) / (k * k * min(c_out, c_in))
    assert found.rms**2 == pytest.approx(expected, abs=1e-12)
    assert found.largest <= 1 + 1e-12


@pytest.mark.parametrize("layer", [RKOConv, L2NEConv])
@pytest.mark.parametrize("size", [3, 4, 9])
def test_bound_of_reshaped_kernels_holds_at_every_size(layer, size):
    """On weights far from their start; also where the kernel nearly covers the image."""
    conv = layer(3, 4, 3, dtype=F64)
    with torch.no_grad():
        conv.raw.copy_(random(*conv.raw.shape))
    bound, residual = conv.eval().lipschitz_bound()
    assert torch.linalg.svdvals(conv_matrix(conv.weight, size))[0] <= bound * (1 + 1e-12) <= 1 + 1e-9
    assert residual < 1e-10


def test_qian_wegman_bound_is_looser_than_the_norm():
    conv = L2NEConv(4, 4, 3, dtype=F64)
    with torch.no_grad():
        conv.raw.copy_(random(*conv.raw.shape))
    assert gains(conv.eval(), 8).largest < 0.9


@pytest.mark.parametrize("widths", [(4, 4), (2, 90)])
def test_qian_wegman_divides_by_the_better_of_the_two_bounds(widths):
    """By rows and by columns of the reshaped kernel; breaks if the worse is taken, which certifies too, but less."""
    conv = L2NEConv(*widths, 3, dtype=F64)
    with torch.no_grad():
        conv.raw.copy_(random(*conv.raw.shape))
    rows = max(sum(abs(a @ b).item() for b in conv.raw) for a in conv.raw)
    columns = max(sum(abs(a @ b).item() for b in conv.raw.T) for a in conv.raw.T)
    assert max(rows, columns) > 1.2 * min(rows, columns)
    expected = conv.raw.view(conv.shape) / (3 * math.sqrt(min(rows, columns)))
    torch.testing.assert_close(conv.eval().weight, expected.detach())


@pytest.mark.parametrize("k", [2, 3, 4])
def test_power_iteration_uses_the_transposed_operator(k):
    """Breaks if the pad of the adjoint is not the mirror image of the other, which even kernels notice."""
    kernel = random(3, 2, k, k)
    forward = operator_matrix(kernel, (6, 6))
    y = random(1, 3, 6, 6, seed=1)
    torch.testing.assert_close(_adjoint(y, kernel).flatten(), forward.T @ y.flatten())
    x = random(1, 2, 6, 6, seed=2)
    torch.testing.assert_close(_circular(x, kernel).flatten(), forward @ x.flatten())


def test_power_iteration_estimates_the_norm_of_the_convolution_from_below():
    """Not that of the reshaped matrix, which is smaller by up to k."""
    conv = OSSNConv(3, 3, 3, size=5, steps=300, dtype=F64)
    with torch.no_grad():
        conv.raw.copy_(random(3, 3, 3, 3))
        conv.u.copy_(random(*conv.u.shape, seed=1))  # a fresh start: see the next test
    assert conv.weight.shape == conv.raw.shape  # a forward pass in training, which estimates
    true = conv_norm(conv.raw, 5)
    assert 0.999 * true < conv.estimate <= true * (1 + 1e-12)
    assert torch.linalg.matrix_norm(conv.raw.detach().flatten(1), 2) < 0.9 * true


def test_power_iteration_that_has_settled_on_one_frequency_is_blind_to_the_others():
    """A circular convolution mixes no frequencies: the others are left with rounding errors, and grow from there."""
    conv = OSSNConv(4, 4, 3, size=8, dtype=F64)
    smooth = torch.full((4, 4, 3, 3), 1 / 18, dtype=F64)  # all its norm at frequency 0
    wave = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    rough = smooth + torch.eye(4, dtype=F64)[:, :, None, None] * torch.outer(wave, wave) / 3  # more of it at pi
    with torch.no_grad():
        for kernel in (smooth, rough):
            conv.raw.copy_(kernel)
            for _ in range(10 if kernel is smooth else 1):
                assert conv.weight is not None  # each look in training takes ten steps
        assert conv.estimate < 0.75 * conv_norm(rough, 8)
        conv.u.copy_(random(*conv.u.shape))
        assert conv.weight is not None
    assert conv.estimate > 0.95 * conv_norm(rough, 8)


def test_ten_steps_leave_the_true_norm_above_one_and_the_bound_says_so():
    """Breaks if a layer's bound is the constraint it was meant to have."""
    conv = OSSNConv(8, 8, 3, size=8, seed=1, dtype=F64).eval()
    bound, excess = conv.lipschitz_bound()
    assert bound == pytest.approx(conv_norm(conv.weight, 8).item()) and excess == bound - 1 > 1e-3


def test_only_one_side_is_normalised():
    """max(1, s): a small kernel stays as it is."""
    conv = OSSNConv(4, 4, 3, size=8, dtype=F64)
    with torch.no_grad():
        conv.raw.mul_(0.01)
    torch.testing.assert_close(conv.weight, conv.raw)


def test_evaluation_changes_neither_vector_nor_estimate():
    conv = OSSNConv(4, 4, 3, size=8).eval()
    u = conv.u.clone()
    conv(torch.ones(1, 4, 8, 8))
    assert torch.equal(conv.u, u)
    assert not any(name in ("u", "estimate") for name, _ in conv.named_parameters())


def test_gradient_of_spectral_normalisation_is_that_of_the_quotient():
    """d(W / s) along W is zero: the normalised kernel does not change with the size of W."""
    conv = OSSNConv(3, 3, 3, size=6, steps=300, dtype=F64)
    with torch.no_grad():
        conv.raw.mul_(3)
    weight = conv.weight
    (gradient,) = torch.autograd.grad((weight * random(*weight.shape)).sum(), conv.raw)
    assert abs((gradient * conv.raw).sum()) < 1e-6 * gradient.norm() * conv.raw.norm()


def test_clipping_and_masking_ends_slightly_above_one_and_the_better_the_longer():
    """The measured course: a start far above 1, then 1.39, 1.04, 1.0055 or so. Breaks if the mask is dropped."""
    start = random(8, 8, 3, 3)
    start = 3.88 * start / conv_norm(start, 16)
    norms = [conv_norm(clip_and_mask(start, (16, 16), steps), 16).item() for steps in (1, 5, 10, 50)]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 1.2 and 1 < norms[-1] < 1.01


def test_clipping_leaves_a_kernel_within_the_ball_alone():
    kernel = random(4, 3, 3, 3)
    kernel = 0.9 * kernel / conv_norm(kernel, 8)
    torch.testing.assert_close(clip_and_mask(kernel, (8, 8), 3), kernel)


def test_one_clip_is_the_nearest_convolution_with_norm_one():
    """Before the mask, singular values are min(s, 1): checked with a mask of the whole image."""
    kernel = random(3, 3, 6, 6)
    clipped = clip_and_mask(kernel, (6, 6), 1)
    expected = conv_singular_values(kernel, 6).clamp(max=1)
    torch.testing.assert_close(conv_singular_values(clipped, 6).sort(0).values, expected.sort(0).values)


def test_the_optimizer_projects_every_so_many_steps():
    layer = SVCMConv(3, 3, 3, size=6, dtype=F64)
    model = nn.Sequential(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    project_every(optimizer, model, every=2)
    norms = []
    for _ in range(4):
        layer.raw.grad = -random(*layer.raw.shape)
        optimizer.step()
        norms.append(conv_norm(layer.raw, 6).item())
    assert min(norms[0], norms[2]) > 1.5 and max(norms[1], norms[3]) < 1.1


@pytest.mark.parametrize("layer", [OSSNConv, SVCMConv])
def test_layers_for_one_size_ask_for_it(layer):
    with pytest.raises(ValueError, match="give size="):
        layer(2, 2, 3)
    with pytest.raises(ValueError, match="give size="):
        layer(2, 2, 3, size=6, padding_mode="zeros")
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2, 6, 6\)"):
        layer(2, 2, 3, size=6)(torch.zeros(1, 2, 5, 5))


@pytest.mark.parametrize("layer", [RKOConv, L2NEConv, OSSNConv, SVCMConv])
def test_every_baseline_strides_like_bcop(layer):
    conv = layer(2, 6, 4, stride=2, size=8)
    assert conv(torch.zeros(3, 2, 8, 8)).shape == (3, 6, 4, 4)
    assert conv.weight.shape == (6, 8, 2, 2)
    bound, _ = conv.eval().lipschitz_bound()
    assert 0 < bound < 1.2 and math.isfinite(bound)
