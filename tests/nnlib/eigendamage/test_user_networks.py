"""Networks as other people write them: filters go rightly, in both modes, or the layer or operation is refused by name.

A network is right where it says what the one says whose removed filters are dead: zero weights and biases, in the layer
and in the batch normalisation behind it.
"""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils import prune as torch_prune
from torch.utils.checkpoint import checkpoint

from nnlib.eigendamage import METHODS, Bottleneck, bottleneck, filter_scores, prunable, prune, remove_filters
from nnlib.eigendamage.trace import norms, trace
from tests.oracles.curvature import draw, randomised
from tests.oracles.eigendamage import randomise_norms

KEEP = torch.tensor([True, False, True, True, False, True])


def conv(c, out, k=3, **options):
    return nn.Conv2d(c, out, k, padding=k // 2, **options)


class Net(nn.Module):
    """A convolution ``a`` of 6 filters, whose output goes through ``read``, and a head."""

    def __init__(self, read, features=6, **layers):
        super().__init__()
        self.a, self.read, self.head = conv(3, 6), read, nn.Linear(features, 4)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.head(self.read(self, self.a(x)))


def pooled(x):
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


class StochasticDepth(nn.Module):
    """As timm's drop_path: the identity in evaluation mode, else whole examples are dropped."""

    def forward(self, x):
        if not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(0.5) / 0.5


class Coin(nn.Module):
    """A block that is skipped by a coin of Python's own, in training."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv(6, 6), nn.BatchNorm2d(6))

    def forward(self, x):
        import random

        return x if self.training and random.random() < 0.5 else torch.relu(x + self.body(x))


class Residual(nn.Module):
    """A stem and blocks in which both branches have lost channels; ``drop`` stands on the residual."""

    def __init__(self, drop, blocks=2):
        super().__init__()
        self.a = conv(3, 6)
        self.norm, self.relu, self.drop = nn.BatchNorm2d(6), nn.ReLU(inplace=True), drop
        self.convs = nn.ModuleList(conv(6, 6) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(blocks))
        self.head = nn.Linear(6, 4)

    def describe(self):
        return f"{len(self.convs)} blocks"

    def forward(self, x):
        x = self.relu(self.norm(self.a(x)))
        for layer, norm in zip(self.convs, self.norms, strict=True):
            out = self.drop(norm(layer(x)))
            out += x
            x = self.relu(out)
        return self.head(pooled(x))


class Auxiliary(nn.Module):
    """A second head that is used in training alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.aux, self.head = conv(3, 6), conv(6, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.a(x))
        aux = self.aux(pooled(x)) if self.training else None
        x = self.head(pooled(F.relu(self.b(x))))
        return (x, aux) if self.training else x


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: batch normalisation called as a function, dropout, activation."""

    def __init__(self, features, act=True):
        super().__init__(features)
        self.drop, self.act = nn.Identity(), nn.ReLU() if act else nn.Identity()

    def forward(self, x):
        training = self.training or self.running_mean is None
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training, 0.1, self.eps)
        return self.act(self.drop(x))


class Inverted(nn.Module):
    """MobileNet's block with such normalisations: expand, depthwise, project, and a sum."""

    def __init__(self):
        super().__init__()
        self.a, self.n = conv(3, 6, bias=False), NormAct(6)
        self.expand, self.n1 = conv(6, 12, 1, bias=False), NormAct(12)
        self.depth, self.n2 = conv(12, 12, bias=False, groups=12), NormAct(12)
        self.project, self.n3 = conv(12, 6, 1, bias=False), NormAct(6, act=False)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.n(self.a(x))
        x = self.n3(self.project(self.n2(self.depth(self.n1(self.expand(x)))))) + x
        return self.head(pooled(x))


class Preactivated(nn.Module):
    """Normalisations called as functions that read a stream of sums."""

    def __init__(self):
        super().__init__()
        self.a, self.n1, self.b, self.n2, self.c = conv(3, 6), NormAct(6), conv(6, 6), NormAct(6), conv(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.a(x)
        x = x + self.b(self.n1(x))
        return self.head(pooled(self.c(self.n2(x))))


class Other(nn.Module):
    """A block whose input has lost channels in one mode alone."""

    def __init__(self):
        super().__init__()
        self.a, self.c, self.block, self.head = conv(3, 6), conv(3, 6), Coin(), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(pooled(self.block(self.c(x) if self.training else self.a(x))))


class Dense(nn.Module):
    """Everything before is read by everything behind: torch.cat(tensors=...)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(6, 5), conv(11, 4)
        self.head = nn.Linear(15, 4)

    def forward(self, x):
        features = [F.relu(self.a(input=x))]
        for layer in (self.b, self.c):
            features.append(F.relu(layer(torch.cat(tensors=features, dim=1))))
        return {"logits": self.head(pooled(torch.cat(features, dim=-3)))}


class Masked(nn.Module):
    """An argument that is not used."""

    def __init__(self):
        super().__init__()
        self.c = conv(6, 6)

    def forward(self, x, mask=None):
        return self.c(input=x if mask is None else x * mask)


class Mnist(nn.Module):
    """torch's own example, with functions for all that has no weights."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc, self.head = conv(3, 6), conv(6, 5), nn.Linear(80, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.b(F.relu(self.a(x)))), 2)
        x = torch.flatten(F.dropout(x, 0.25, training=self.training), 1)
        return F.log_softmax(self.head(F.dropout(F.relu(self.fc(x)), training=self.training)), dim=1)


class Excited(nn.Module):
    """Squeeze and excitation before and behind the layers that are asked for."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv(3, 6), conv(6, 6), conv(6, 6)
        self.down, self.up, self.head = conv(6, 3, 1), conv(3, 6, 1), nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head(pooled(self.b(F.relu(self.a(x)))))


RIGHT = {
    "stochastic depth": lambda: Residual(StochasticDepth()),
    "no stochastic depth": lambda: Residual(nn.Identity(), 3),
    "block skipped by a coin": lambda: Net(lambda net, x: pooled(net.b(F.relu(x))), b=Coin()),
    "auxiliary head": Auxiliary,
    "batch norm as a function": Inverted,
    "dense, keywords, dict output": Dense,
    "mnist": Mnist,
    "scalars": lambda: Net(lambda net, x: pooled(2 * (x / 3) - 0 * x)),
    "added by keyword": lambda: Net(lambda net, x: pooled(torch.add(x, other=net.b(x))), b=conv(6, 6)),
    "squeeze(-1)": lambda: Net(lambda net, x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)),
    "squeeze of two": lambda: Net(lambda net, x: x.mean(dim=[-1, -2], keepdim=True).squeeze((2, 3))),
    "interpolate": lambda: Net(lambda net, x: pooled(F.interpolate(x, scale_factor=2))),
    "index of positions": lambda: Net(lambda net, x: x[:, :, 0, 0]),
    "padded": lambda: Net(lambda net, x: pooled(net.b(F.pad(x, (1, 1)))), b=conv(6, 6)),
    "flattened positions": lambda: Net(lambda net, x: x.flatten(2).mean(-1)),
    "autograd.Function": lambda: Net(lambda net, x: pooled(Function.apply(x))),
    "sum of a list": lambda: Net(lambda net, x: pooled(sum([net.b(x), x, net.c(x)])), b=conv(6, 6), c=conv(6, 6)),
    "clamped": lambda: Net(lambda net, x: pooled(x.clamp(min=-1, max=6).clamp_min(0) ** 2)),
    "checkpointed": lambda: Net(
        lambda net, x: pooled(checkpoint(lambda y: F.relu(net.b(y)), x, use_reentrant=False)), b=conv(6, 6)
    ),
    "keyword and None": lambda: Net(lambda net, x: pooled(net.b(x, mask=None)), b=Masked()),
    "compared with a network around": lambda: nn.DataParallel(Mnist()),
    "aten": lambda: Net(lambda net, x: pooled(torch.ops.aten.relu(x))),
    "contiguous": lambda: Net(lambda net, x: pooled(x).contiguous()),
    "conv with a bottleneck behind": lambda: Net(
        lambda net, x: pooled(net.b(x)), b=bottleneck(conv(6, 6), torch.eye(6), torch.eye(6), KEEP, KEEP)
    ),
}


def dead(model, kept):
    """The network with dead filters: zero weights and biases, scales and shifts."""
    model = copy.deepcopy(model)
    behind = norms(trace(model, images()))
    with torch.no_grad():
        for name, mask in kept.items():
            also = ("depth", "n2") if name == "expand" else ()  # a depthwise convolution has its reader's channels
            for part in (name, *also, behind[name]) if name in behind else (name,):
                for parameter in model.get_submodule(part).parameters(recurse=False):
                    parameter[~mask] = 0
    return model


def images(n=5):
    return draw(n, 3, 8, 8)


def built(make):
    return randomise_norms(randomised(make(), seed=3)).eval()


def tensors(output):
    return (
        list(output.values()) if isinstance(output, dict) else [output] if isinstance(output, torch.Tensor) else output
    )


class Held:
    """An object that torch does not take apart."""

    def __init__(self, **kept):
        vars(self).update(kept)


def test_a_block_that_reads_other_channels_in_training_gets_them():
    """Breaks if zeros are put in, or channels taken out, in a mode where that is wrong."""
    model, x = built(Other), images()
    pruned = remove_filters(model, x, {"a": KEEP})
    torch.testing.assert_close(pruned(x), dead(model, {"a": KEEP})(x))
    model.block.body[1].momentum = 0.0
    model, pruned = model.train(), pruned.train()
    import random

    for seed in range(6):
        found = []
        for network in (model, pruned):
            random.seed(seed)
            found.append(network(x))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("wrap", [lambda y, x: (y, x), lambda y, x: {"y": y, "x": [x]}, lambda y, x: Held(y=y, x=x)])
def test_channels_that_are_seen_from_outside_do_not_go(wrap):
    """Breaks if an output that is no tensor is skipped."""

    class Seen(Mnist):
        def forward(self, x):
            x = self.a(x)
            return wrap(self.head(self.fc(F.max_pool2d(self.b(x), 2).flatten(1))), x)

    with pytest.raises(ValueError, match="output would lose channels: leave out the layer behind it, 'a'"):
        remove_filters(built(Seen), images(), {"a": KEEP})
    remove_filters(built(Seen), images(), {"b": KEEP[:5]})


def test_a_network_that_has_lost_filters_with_zeros_in_sums_is_named():
    x = images()
    pruned = remove_filters(model := built(lambda: Residual(nn.Identity())), x, some(model, x))
    with pytest.raises(ValueError, match="prune the original, by more"):
        prune(pruned, x, "Magnitude", 0.3)


def some(model, x, seed=0):
    generator, kept = torch.Generator().manual_seed(seed), {}
    for name in prunable(model, x):
        if not isinstance(model.get_submodule(name), Bottleneck) and name != "aux":
            kept[name] = torch.rand(len(model.get_submodule(name).weight), generator=generator) < 0.6
            kept[name][0] = True
    return kept


@pytest.mark.parametrize("name", RIGHT)
def test_filters_go_rightly_and_the_network_stays_what_it_is(name):
    """Breaks if a channel is off anywhere, if zeros are missing in a sum, or if one mode's graph is kept for both."""
    model, x = built(RIGHT[name]), images()
    before = copy.deepcopy(model.state_dict())
    kept = some(model, x)
    pruned = remove_filters(model, x, kept)
    torch.testing.assert_close(tensors(pruned(x)), tensors(dead(model, kept)(x)))
    assert type(pruned) is type(model) and pruned.state_dict().keys() == before.keys()
    assert all(len(pruned.get_submodule(layer).weight) == mask.sum() for layer, mask in kept.items())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    file = io.BytesIO()
    torch.save(pruned.state_dict(), file)
    pruned.train()
    for _ in range(4):
        sum(t.square().sum() for t in tensors(pruned(x))).backward()
    assert all(p.grad is not None for p in pruned.parameters())


def test_stochastic_depth_and_auxiliary_heads_live_on():
    """Breaks if what was traced in one mode runs in the other."""
    x = images()
    pruned = remove_filters(model := built(RIGHT["stochastic depth"]), x, some(model, x))
    assert torch.equal(pruned(x), pruned(x)) and pruned.describe() == "2 blocks"
    pruned.train()
    assert not torch.equal(pruned(x), pruned(x))
    pruned = remove_filters(model := built(Auxiliary), x, some(model, x))
    assert isinstance(pruned.eval()(x), torch.Tensor) and len(pruned.train()(x)) == 2
    assert pruned.aux.in_features == pruned.b.in_channels < 6


def test_a_layer_behind_what_cannot_be_followed_is_pruned():
    """Breaks if an operation is refused that no removed channel reaches."""
    model, x = built(Excited), images()
    kept = {"a": KEEP}
    torch.testing.assert_close(remove_filters(model, x, kept)(x), dead(model, kept)(x))
    kept = {"stem": KEEP}  # a gate with all channels scales what is left
    torch.testing.assert_close(remove_filters(model, x, kept)(x), dead(model, kept)(x))
    for layer in ("up", "down"):
        kept = {"up": KEEP} if layer == "up" else {"stem": KEEP, "up": KEEP}
        with pytest.raises(ValueError, match=r"the operation 'mul'|output|'sigmoid'"):
            remove_filters(model, x, kept)


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, d):
        return d


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def halved(x):
    return x / 2


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: output * 2)
    return layer


def overridden(layer):
    layer.forward = lambda x, layer=layer: 2 * nn.Conv2d.forward(layer, x)
    return layer


REFUSED = {  # what is read, and more layers
    "mean over everything": (lambda net, x: net.b(x.relu()).mean((1, 2, 3)), "'mean'"),
    "std": (lambda net, x: x.std(1).mean((1, 2))[:, None].expand(-1, 6), "'std'"),
    "argmax": (lambda net, x: F.one_hot(x.argmax(1)[:, 0, 0], 6).to(x), "'argmax'"),
    "max": (lambda net, x: x.max(1)[0].flatten(1)[:, :6], "'max'"),
    "squeeze()": (lambda net, x: pooled(x)[:, :, None].squeeze(), "'__getitem__'|'squeeze'"),
    "einsum": (lambda net, x: torch.einsum("bchw->bc", x), "'einsum'"),
    "cosine": (lambda net, x: F.cosine_similarity(x, x, 1).flatten(1)[:, :6], "'cosine_similarity'"),
    "loss inside": (lambda net, x: F.mse_loss(x, x * 2).expand(len(x), 6), "'mse_loss'"),
    "lstm": (lambda net, x: net.b(pooled(x))[0], "LSTM"),
    "scripted": (lambda net, x: pooled(torch.jit.script(halved)(x)), "autograd.Function"),
    "layer norm": (lambda net, x: F.layer_norm(pooled(x), (6,)), "'layer_norm'"),
    "view with a constant": (lambda net, x: pooled(x.view(-1, 6, 8, 8)), "'view'"),
    "channel shuffle": (lambda net, x: pooled(x.view(len(x), 2, 3, 8, 8).transpose(1, 2).flatten(1, 2)), "'view'"),
    "chunk": (lambda net, x: pooled(torch.cat(x.chunk(2, 1)[::-1], 1)), "'chunk'"),
    "item": (lambda net, x: pooled(x) * float(x.sum()), "looks at numbers"),
    "size used as a number": (lambda net, x: pooled(x) * x.shape[1], "own code"),
    "weight read": (lambda net, x: pooled(F.conv2d(x, net.b.weight * 2)), "'conv2d'"),
    "another convolution": (
        lambda net, x: pooled(F.conv2d(x, net.head.weight[:, :, None, None]))[:, [0] * 6],
        "conv2d",
    ),
    "parameter added": (lambda net, x: pooled(x + net.head.weight[:1, :, None, None]), "same shape"),
    "parameter scales": (lambda net, x: pooled(x * net.head.weight[0][:, None, None]), "'mul'"),
    "set in place": (lambda net, x: pooled(put(x)), "'__setitem__'"),
    "plus a number": (lambda net, x: pooled(net.b(1 - x)), "'__rsub__'.*zero"),
    "noise": (lambda net, x: pooled(x + torch.randn_like(x)), "'randn_like'"),
    "pool with indices": (lambda net, x: pooled(F.max_pool2d(x, 2, return_indices=True)[0]), "max_pool2d"),
    "norm of all": (lambda net, x: F.normalize(pooled(x)), "'normalize'"),
    "layer.forward": (lambda net, x: pooled(net.b.forward(x)), "'conv2d'"),
    "numpy": (lambda net, x: pooled(torch.from_numpy(x.numpy())), "looks at numbers"),
    "group norm": (lambda net, x: pooled(nn.GroupNorm(2, 6).double()(x)), "'group_norm'"),
    "vmap": (lambda net, x: pooled(torch.vmap(lambda y: y * 2)(x)), "autograd.Function"),
    "stack": (lambda net, x: torch.stack([pooled(x)] * 2).mean(0), "'stack'"),
}


def put(x):
    x[:, 0] = 1
    return x


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_mixes_or_hides_channels_is_refused_by_name(name):
    """Breaks if what isn't known to be channelwise passes: before, the network came back wrong or crashed."""
    read, message = REFUSED[name]
    layers = {"b": nn.LSTM(6, 6)} if name == "lstm" else {"b": conv(6, 6, 1)}
    if name == "mean over everything":
        read = lambda net, x: x.relu().mean((1, 2, 3))[:, None].expand(-1, 6)  # noqa: E731
    model = built(lambda: Net(read, **layers))
    with pytest.raises(ValueError, match=message):
        remove_filters(model, images(), {"a": KEEP})


NOT_PLAIN = {
    "weight standardised": (lambda: Standardised(6, 6, 3, padding=1), "Standardised"),
    "hook": (lambda: hooked(conv(6, 6)), "hook"),
    "forward of its own": (lambda: overridden(conv(6, 6)), "forward of its own"),
    "weight norm": (lambda: parametrizations.weight_norm(conv(6, 6)), "Parametrized"),
    "old weight norm": (lambda: weight_norm(conv(6, 6)), "hook"),
    "spectral norm": (lambda: parametrizations.spectral_norm(conv(6, 6)), "Parametrized"),
    "old spectral norm": (lambda: spectral_norm(conv(6, 6)), "hook"),
    "masked by torch": (lambda: torch_prune.l1_unstructured(conv(6, 6), "weight", 0.5), "hook"),
}


@pytest.mark.parametrize("method", ["Magnitude", "EigenDamage"])
@pytest.mark.parametrize("name", NOT_PLAIN)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_layer_that_is_not_what_its_class_says_is_refused_by_name(name, method):
    """Breaks if a subclass is taken for the class: bottlenecks of everything were off by 0.2 to 1.1."""
    make, message = NOT_PLAIN[name]
    model = Net(lambda net, x: pooled(net.b(F.relu(x))), b=make()).double().eval()
    x = images()
    with pytest.raises(ValueError, match=f"'b'.*{message}"):
        prune(model, x, method, 0.3)
    with pytest.raises(ValueError, match=message):
        bottleneck(model.b, *(torch.eye(6, dtype=torch.float64),) * 2, KEEP, KEEP)
    if method == "EigenDamage":
        prune(model, x, method, 0.3, layers=["a"])  # what isn't touched may be anything
    else:
        with pytest.raises(ValueError, match="channels can't be followed"):
            prune(model, x, method, 0.3, layers=["a"])


def test_tied_weights_are_refused_and_a_layer_with_two_names_stays_one():
    model = Net(lambda net, x: pooled(net.b(net.c(F.relu(x)))), b=conv(6, 6), c=conv(6, 6)).double()
    model.c.weight = model.b.weight
    for method in ("Magnitude", "EigenDamage"):
        with pytest.raises(ValueError, match=r"[bc].weight is shared with [bc].weight"):
            prune(model, images(), method, 0.4)
    model = randomised(Net(lambda net, x: pooled(net.c(net.b(F.relu(x)))), b=conv(6, 6)), seed=2)
    model.c = model.b
    pruned = prune(model, images(), "EigenDamage", 0.5, layers=["b"]).model
    assert pruned.b is pruned.c and isinstance(pruned.b, Bottleneck)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_stays_frozen_and_counts_as_much(method):
    """Breaks if a frozen layer's curvature is zero, or if a new part of it can be trained."""
    x = images(8)
    model = built(lambda: Residual(nn.Identity()))
    free = prune(model, x, method, 0.5)
    for layers in (["a", "norm"], ["convs.0", "norms.0"], [""]):
        frozen = copy.deepcopy(model)
        for name in layers:
            frozen.get_submodule(name).requires_grad_(False)
        flags = {name: p.requires_grad for name, p in frozen.named_parameters()}
        found = prune(frozen, x, method, 0.5)
        assert found.layers == free.layers
        torch.testing.assert_close(found.model(x), free.model(x), rtol=0, atol=0)
        assert {name: p.requires_grad for name, p in frozen.named_parameters()} == flags
        for name, parameter in found.model.named_parameters():
            layer = name.removesuffix(".weight").removesuffix(".bias")
            for part in (".input", ".core", ".output"):
                layer = layer.removesuffix(part)
            assert parameter.requires_grad == flags[f"{layer}.weight"], name


@pytest.mark.parametrize("training", [False, True])
def test_a_transformer_keeps_working_in_both_modes(training):
    """Breaks where nn.TransformerEncoderLayer reads the weights of a layer that has become a bottleneck."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, batch_first=True)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.TransformerEncoder(block, 2), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.encoder(x).mean(1))

    model, x = Classifier().train(training), draw(6, 5, 8).float()
    pruned = prune(model, x, "EigenDamage", 0.8).model
    layers = pruned.encoder.layers
    assert isinstance(layers[0].linear1, Bottleneck)
    slow = pruned.train()(x)
    pruned.eval()
    with torch.no_grad():  # torch's fast path
        torch.testing.assert_close(pruned(x), slow, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="sequence"):
        prune(model, x, "Magnitude", 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_pruned(method, dtype):
    model, x = built(lambda: Residual(nn.Identity())).to(dtype), images().to(dtype)
    pruned = prune(model, x, method, 0.4).model
    assert pruned(x).isfinite().all() and {p.dtype for p in pruned.parameters()} == {dtype}


def test_bad_input_is_named():
    model, x = built(lambda: Residual(nn.Identity())), images()
    with_spare = copy.deepcopy(model)
    with_spare.spare = nn.Linear(6, 4).double()
    for method in METHODS:
        with pytest.raises(ValueError, match="nope"):
            prune(model, x, method, layers=["nope"])
        with pytest.raises(ValueError, match="layers must hold one to prune"):
            prune(model, x, method, layers=[])
        with pytest.raises(ValueError, match="does not call 'spare'"):
            prune(with_spare, x, method, layers=["spare"])
        for inputs in (x[:0], [1.0], None, x[:, :2]):
            with pytest.raises((ValueError, TypeError), match=r"x must (be|hold)"):
                prune(model, inputs, method)
    with pytest.raises(ValueError, match="layers must hold one to prune"):
        prune(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(24, 2)).double(), x[:, :, 0])
    with pytest.raises(ValueError, match=r"kept\['a'\], of filters, must be booleans of shape \(6,\)"):
        remove_filters(model, x, {"a": torch.ones(5, dtype=torch.bool)})
    broken = copy.deepcopy(model)
    broken.convs[0].weight.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"weights of layer 'convs.0'"):
        prune(broken, x, "Kron-OBS")
    with_bottleneck = prune(model, x, "EigenDamage", 0.5).model
    with pytest.raises(ValueError, match=r"must be that of an nn.Linear or nn.Conv2d: got Bottleneck"):
        prune(with_bottleneck, x, "Magnitude")


def test_scores_do_not_depend_on_who_is_trained():
    model, x = built(lambda: Residual(nn.Identity())), images()
    frozen = copy.deepcopy(model).requires_grad_(False)
    for method in ("C-OBD", "C-OBS", "Kron-OBD", "Kron-OBS"):
        ours, theirs = (filter_scores(net, x, method, prunable(net, x)) for net in (frozen, model))
        for name in theirs:
            assert torch.equal(ours[name][0], theirs[name][0]) and ours[name][0].min() > 0
