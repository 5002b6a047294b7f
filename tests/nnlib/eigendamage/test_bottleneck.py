"""A layer in its eigenbasis is the same function; with rows and columns gone, the truncated one."""

import pytest
import torch
from torch import nn

from nnlib.eigendamage import Bottleneck, bottleneck, bottleneck_parameters, break_even, rotate
from nnlib.eigendamage.bottleneck import smaller
from tests.oracles.curvature import draw, randomised

LAYERS = {
    "linear": lambda: nn.Linear(5, 6),
    "linear, no bias": lambda: nn.Linear(5, 6, bias=False),
    "3 x 3, padded": lambda: nn.Conv2d(5, 6, 3, padding=1),
    "3 x 3, no bias": lambda: nn.Conv2d(5, 6, 3, padding=1, bias=False),
    "stride 2": lambda: nn.Conv2d(5, 6, 3, stride=2, padding=1),
    "dilated, oblong": lambda: nn.Conv2d(5, 6, (3, 2), dilation=2, padding=(2, 1)),
    "same": lambda: nn.Conv2d(5, 6, 3, padding="same"),
    "reflect": lambda: nn.Conv2d(5, 6, 3, padding=1, padding_mode="reflect"),
    "1 x 1, stride 2": lambda: nn.Conv2d(5, 6, 1, stride=2),
}


def orthogonal(n, seed):
    return torch.linalg.qr(draw(n, n, seed=seed))[0]


def inputs(layer, seed=0):
    # Far from zero, so that a constant that is rotated before the padding shows at the borders.
    return 3 + (draw(4, 5, seed=seed) if isinstance(layer, nn.Linear) else draw(4, 5, 7, 9, seed=seed))


def all_of(n):
    return torch.ones(n, dtype=torch.bool)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_with_nothing_pruned_it_is_the_same_function_at_borders_strides_and_with_biases(name, dtype, tolerance):
    layer = randomised(LAYERS[name](), seed=3).to(dtype)
    made = bottleneck(layer, orthogonal(5, 1).to(dtype), orthogonal(6, 2).to(dtype), all_of(6), all_of(5))
    x = inputs(layer).to(dtype)
    expected = layer(x)
    assert ((made(x) - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("name", LAYERS)
def test_with_rows_and_columns_gone_it_is_the_layer_with_truncated_weights(name):
    layer, Q_A, Q_S = randomised(LAYERS[name](), seed=3), orthogonal(5, 1), orthogonal(6, 2)
    rows, columns = torch.tensor([1, 0, 1, 1, 0, 1]).bool(), torch.tensor([0, 1, 1, 0, 1]).bool()
    made = bottleneck(layer, Q_A, Q_S, rows, columns)
    x = inputs(layer)
    found = made(x)
    with torch.no_grad():
        rotated = rotate(layer.weight, Q_S, Q_A)
        rotated[~rows], rotated[:, ~columns] = 0, 0
        layer.weight.copy_(rotate(rotated, Q_S.T, Q_A.T))
    torch.testing.assert_close(found, layer(x))
    weights = sum(part.weight.numel() for part in made)
    assert weights == 5 * 3 + layer.weight[0, 0].numel() * 3 * 4 + 4 * 6


@pytest.mark.parametrize("name", LAYERS)
def test_a_second_rotation_is_merged_and_changes_nothing(name):
    layer = randomised(LAYERS[name](), seed=3)
    first = bottleneck(
        layer, orthogonal(5, 1), orthogonal(6, 2), torch.tensor([1, 0, 1, 1, 1, 1]).bool(), torch.arange(5) != 2
    )
    again = bottleneck(first, orthogonal(4, 5), orthogonal(5, 6), all_of(5), all_of(4))
    x = inputs(layer)
    torch.testing.assert_close(again(x), first(x))
    assert len(list(again.children())) == 3
    assert [part.weight.shape for part in again] == [part.weight.shape for part in first]


def test_a_second_pruning_truncates_the_core_in_the_second_basis():
    layer = randomised(LAYERS["stride 2"](), seed=3)
    first = bottleneck(layer, orthogonal(5, 1), orthogonal(6, 2), torch.arange(6) < 5, torch.arange(5) < 4)
    Q_A, Q_S, rows, columns = orthogonal(4, 5), orthogonal(5, 6), torch.arange(5) != 1, torch.arange(4) != 0
    again = bottleneck(first, Q_A, Q_S, rows, columns)
    core = bottleneck(first.core, Q_A, Q_S, rows, columns)
    x = inputs(layer)
    torch.testing.assert_close(again(x), first.output(core(first.input(x))))


def test_the_layer_is_left_as_it_is_and_shares_no_memory_with_its_bottleneck():
    layer = nn.Linear(5, 6)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    made = bottleneck(layer, torch.eye(5), torch.eye(6), all_of(6), all_of(5))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, before[name]) for name, p in layer.named_parameters())


def test_every_part_is_trainable():
    made = bottleneck(nn.Conv2d(5, 6, 3), torch.eye(5), torch.eye(6), all_of(6), all_of(5))
    made(torch.ones(2, 5, 4, 4)).square().sum().backward()
    assert {name for name, p in made.named_parameters() if p.grad is not None and p.grad.any()} == {
        "input.weight",
        "core.weight",
        "output.weight",
        "output.bias",
    }


def test_no_random_number_is_drawn():
    layer = nn.Linear(5, 6)
    state = torch.get_rng_state()
    bottleneck(layer, torch.eye(5), torch.eye(6), all_of(6), all_of(5))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_below_the_break_even_share_a_bottleneck_is_smaller_and_above_it_larger(k):
    n = 1000
    layer = nn.Conv2d(n, n, k, bias=False, device="meta")
    r = break_even(k) * n
    for share, expected in ((r - 1, True), (r + 1, False)):
        kept = torch.arange(n) < share
        assert smaller(layer, kept, kept) is expected
    assert abs(bottleneck_parameters(n, n, k, r, r) / layer.weight.numel() - 1) < 1e-9


def test_smaller_counts_the_weights_that_the_bottleneck_would_have():
    layer, rows, columns = nn.Conv2d(5, 6, 3), torch.arange(6) < 4, torch.arange(5) < 3
    made = bottleneck(layer, torch.eye(5), torch.eye(6), rows, columns)
    assert sum(part.weight.numel() for part in made) == bottleneck_parameters(5, 6, 3, 3, 4)
    assert smaller(layer, rows, columns) and not smaller(layer, all_of(6), all_of(5))
    assert smaller(made, torch.arange(4) < 3, all_of(3)) and not smaller(made, all_of(4), all_of(3))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "2 groups has no bottleneck"),
        (nn.ReLU(), "layer must be an nn.Linear or nn.Conv2d to have a bottleneck: got ReLU"),
        (nn.ConvTranspose2d(4, 4, 3), "got ConvTranspose2d"),
    ],
)
def test_layers_without_a_bottleneck_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        bottleneck(layer, torch.eye(4), torch.eye(4), all_of(4), all_of(4))


def test_a_selection_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match="rows and columns must keep at least one each: got 0 and 5"):
        bottleneck(nn.Linear(5, 6), torch.eye(5), torch.eye(6), ~all_of(6), all_of(5))
    assert issubclass(Bottleneck, nn.Sequential)
