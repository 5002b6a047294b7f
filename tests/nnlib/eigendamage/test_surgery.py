"""Removing filters: the thinner network computes what the masked one does, on plain, residual and joined graphs."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnlib.eigendamage import Fill, remove_filters
from nnlib.eigendamage.trace import norms, trace
from nnlib.models import MLP, VGG, PreResNet, ResNet, SmallCNN
from tests.oracles.curvature import draw, randomised
from tests.oracles.eigendamage import masked, randomise_norms


class Concatenated(nn.Module):
    """Two branches side by side, pooled by a method, flattened by a view."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(7, 5, 3)
        self.norm, self.head = nn.BatchNorm2d(7), nn.Linear(5 * 9, 10)

    def forward(self, x):
        x = torch.cat([self.a(x).relu(), functional.relu(self.b(x))], dim=1)
        x = functional.max_pool2d(torch.relu(self.c(self.norm(x))), 2)
        return self.head(x.view(x.size(0), -1))


class Depthwise(nn.Module):
    """A depthwise convolution between two others, a mean over positions, the classifier a convolution's reader."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, groups=6)
        self.c, self.head = nn.Conv2d(6, 5, 1), nn.Linear(5, 10)

    def forward(self, x):
        x = functional.gelu(self.b(torch.relu(self.a(x))))
        return self.head(torch.sigmoid(self.c(x)).mean((2, 3)))


class Doubled(nn.Module):
    """x + x, and the input itself in a sum."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x):
        y = self.a(x)
        y += y
        return self.c(torch.flatten(x + self.b(y), 1))


PLAIN = {
    "mlp": lambda: MLP([64, 12, 9, 10]),
    "mlp, bn": lambda: MLP([64, 12, 9, 10], batch_norm=True),
    "cnn": lambda: SmallCNN(1, 8, width=4),
    "vgg": lambda: VGG(11, 1, width=1 / 16, affine=True),
    "resnet": lambda: ResNet(14, 1, affine=True),
    "resnet, no scale": lambda: ResNet(8, 1),
    "concatenated": Concatenated,
    "depthwise": Depthwise,
    "doubled": Doubled,
}


def image(name, n=3):
    size = 32 if name == "vgg" else 8
    return draw(n, 1, size, size)


def build(name):
    return randomise_norms(randomised(PLAIN[name](), seed=1)).eval()


def some(model, x, seed=0, share=0.6):
    """About this share of the filters of every layer but the last, and at least one, drawn."""
    generator, order = torch.Generator().manual_seed(seed), []
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    handles = [m.register_forward_hook(lambda *_, n=n: order.append(n)) for n, m in layers.items()]
    model(x)
    [handle.remove() for handle in handles]
    kept = {}
    for name in order[:-1]:
        if getattr(layers[name], "groups", 1) == 1:
            kept[name] = torch.rand(len(layers[name].weight), generator=generator) < share
            kept[name][0] = True
    return kept


@pytest.mark.parametrize("name", PLAIN)
def test_the_thinner_network_computes_what_the_masked_one_does(name):
    """Breaks if an index is off anywhere: after a flatten, at a sum, in a normalisation."""
    model, x = build(name), image(name)
    kept = some(model, x)
    joined = {norm: kept[layer] for layer, norm in norms(trace(model, x)).items() if layer in kept}
    if name == "concatenated":
        kept.pop("b")
        kept["a"][1] = False
        joined = {"norm": torch.cat([kept["a"], torch.ones(3, dtype=torch.bool)])}
    if name == "depthwise":
        joined = {"b": kept["a"]}
        kept.pop("c")  # sigmoid(0) is not zero: see below
    if name == "doubled":
        kept.pop("b")
    expected = masked(copy.deepcopy(model), kept, joined)(x)
    torch.testing.assert_close(remove_filters(model, x, kept)(x), expected)
    assert (expected - model(x)).abs().max() > 1e-3


def test_pre_activation_blocks_keep_what_any_branch_has():
    model = randomise_norms(randomised(PreResNet(11, 1), seed=1)).eval()
    x = image("preresnet")
    kept = some(model, x)
    joined, stream = {}, kept["layers.0"]
    for block in ("layers.1", "layers.2", "layers.3"):
        joined[f"{block}.residual.0"] = stream
        for place in (2, 5):
            joined[f"{block}.residual.{place + 1}"] = kept[f"{block}.residual.{place}"]
        stream = kept[f"{block}.shortcut"] | kept[f"{block}.residual.8"]
    joined["layers.4"] = stream
    pruned = remove_filters(model, x, kept)
    torch.testing.assert_close(pruned(x), masked(copy.deepcopy(model), kept, joined)(x))
    assert pruned.get_submodule("layers.4").num_features == int(stream.sum())


@pytest.mark.parametrize("name", PLAIN)
def test_with_all_filters_kept_nothing_changes(name):
    model, x = build(name), image(name)
    kept = {layer: torch.ones_like(mask) for layer, mask in some(model, x).items()}
    pruned = remove_filters(model, x, kept)
    torch.testing.assert_close(pruned(x), model(x), rtol=0, atol=0)
    assert type(pruned) is type(model)


def test_a_removed_channel_is_gone_behind_an_activation_that_does_not_keep_zero():
    # sigmoid(0) = 1/2 would reach the next layer if the channel were only masked before it.
    model = randomised(nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3)))
    keep = torch.tensor([True, False, True, True, False])
    x = draw(6, 4)
    expected = masked(copy.deepcopy(model), {}, {"1": keep})(x)
    torch.testing.assert_close(remove_filters(model, x, {"0": keep})(x), expected)


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_what_is_gone_is_gone_from_every_tensor(name):
    """Breaks if a mask were left in place of surgery."""
    model, x = build(name), image(name)
    kept = some(model, x)
    pruned = remove_filters(model, x, kept)
    for layer, mask in kept.items():
        assert len(pruned.get_submodule(layer).weight) == pruned.get_submodule(layer).out_channels == int(mask.sum())
    for layer, norm in norms(trace(model, x)).items():
        norm = pruned.get_submodule(norm)
        assert {len(t) for t in norm.state_dict().values() if t.ndim} == {int(kept[layer].sum())} == {norm.num_features}


@pytest.mark.parametrize("name", ["mlp, bn", "resnet", "concatenated"])
def test_the_original_is_left_as_it_is_and_shares_no_memory(name):
    model, x = build(name), image(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pruned = remove_filters(model, x, some(model, x))
    with torch.no_grad():
        for tensor in [*pruned.parameters(), *pruned.buffers()]:
            tensor.zero_()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["vgg", "resnet", "concatenated"])
def test_the_pruned_network_is_an_ordinary_module(name):
    """It saves, loads, exports, trains on, in the mode of the original."""
    model, x = build(name), image(name)
    model.layers[1].train() if name == "vgg" else None  # one layer in another mode than the rest
    modes = {key: layer.training for key, layer in model.named_modules() if not list(layer.children())}
    pruned = remove_filters(model, x, some(model, x))
    found = dict(pruned.named_modules())
    assert {key: found[key].training for key in modes if key in found} == {k: v for k, v in modes.items() if k in found}
    pruned.eval()
    expected = pruned(x)
    file = io.BytesIO()
    torch.save(pruned, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), expected)
    torch.testing.assert_close(torch.export.export(pruned, (x,)).module()(x), expected)
    pruned.train()(x).square().sum().backward()
    assert all(p.grad is not None for p in pruned.parameters())


def test_fill_puts_channels_in_their_places():
    x = draw(2, 2, 3)
    filled = Fill(torch.tensor([False, True, False, True]))(x)
    assert torch.equal(filled[:, [1, 3]], x) and not filled[:, [0, 2]].any()


class Reader(nn.Module):
    """A convolution whose output is read by a function."""

    def __init__(self, read):
        super().__init__()
        self.a, self.b, self.read = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), read

    def forward(self, x):
        return self.b(self.read(self.a(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.b(self.a(self.a(x)))


def branching(x):
    return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


KEEP = torch.tensor([True, True, False, True])


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda x: x.softmax(1).mean((2, 3)), "the operation 'softmax'"),
        (lambda x: x.transpose(1, 2).mean((2, 3)), "the operation 'transpose'"),
        (lambda x: x.mean((1, 2)), "only a mean over positions"),
        (lambda x: (x + x.mean((2, 3), keepdim=True)).mean((2, 3)), "same shape may be added"),
        (lambda x: torch.cat([x, x], 0).mean((2, 3)), "only channels, dimension 1"),
        (lambda x: (x * x).mean((2, 3)), "the operation 'mul'"),
        (branching, r"Reader looks at numbers that it computes .__bool__. at .*if x.sum\(\) > 0"),
    ],
)
def test_an_operation_that_mixes_channels_is_refused_by_name(read, message):
    with pytest.raises(ValueError, match=message):
        remove_filters(Reader(read), torch.zeros(2, 1, 6, 6), {"a": KEEP})


def test_what_cannot_lose_its_filters_is_refused_by_name():
    x = torch.zeros(2, 4, 6, 6)
    with pytest.raises(ValueError, match="layer 'a' is called 2 times"):
        remove_filters(Twice(), x, {"a": KEEP})
    with pytest.raises(ValueError, match="output would lose channels"):
        remove_filters(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), x, {"0": KEEP})
    with pytest.raises(ValueError, match="does not call c"):
        remove_filters(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)), x, {"c": KEEP})
    with pytest.raises(
        ValueError,
        match=r"kept\[.0.\], of filters, must be booleans of shape \(4,\): got a tensor of bool, shape \(3,\)",
    ):
        remove_filters(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)), x, {"0": KEEP[:3]})
    with pytest.raises(ValueError, match="has 4 filters of which some must stay: got none"):
        remove_filters(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)), x, {"0": KEEP & ~KEEP})
    with pytest.raises(ValueError, match="GroupNorm is not known"):
        remove_filters(nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)), x, {"0": KEEP})
    with pytest.raises(ValueError, match="sequence, whose dimension 1"):
        remove_filters(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), torch.zeros(2, 5, 6), {"0": KEEP})
