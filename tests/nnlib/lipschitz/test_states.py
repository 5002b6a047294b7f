"""A weight in evaluation mode under everything that torch can do to it: never stale, never in the way."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, jacrev, jvp, stack_module_state, vmap

from nnlib.bcop import METHODS, BCOPConv, LipschitzCNN, conv_layer
from nnlib.groupsort import LipschitzMLP, ParsevalLinear, ReshapedConv, RowLinear, SpectralLinear
from nnlib.lipschitz import OrthogonalLinear, bjorck, residual

EYE = torch.eye(4)
DENSE = [OrthogonalLinear, SpectralLinear, ParsevalLinear, RowLinear]
LAYERS = {
    **{kind.__name__: lambda kind=kind, seed=0: kind(4, 4, seed=seed) for kind in DENSE},
    **{name: lambda name=name, seed=0: conv_layer(name, 2, 4, 3, size=6, seed=seed) for name in METHODS},
    "grouped": lambda seed=0: BCOPConv(2, 4, 3, groups=2, stride=2, seed=seed),
    "reshaped": lambda seed=0: ReshapedConv(2, 4, 3, 2, seed=seed),
}


def inputs(layer, n=3):
    shape = (4,) if hasattr(layer, "raw") and layer.raw.ndim == 2 and not hasattr(layer, "stride") else (2, 6, 6)
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def by_data(layer, other):
    for mine, new in zip(layer.parameters(), other.parameters(), strict=True):
        mine.data.copy_(new)


def by_numpy(layer, other):
    for mine, new in zip(layer.parameters(), other.parameters(), strict=True):
        mine.detach().numpy()[...] = new.detach().numpy()


def by_dlpack(layer, other):
    for mine, new in zip(layer.parameters(), other.parameters(), strict=True):
        torch.from_dlpack(mine.detach()).copy_(new.detach())


def by_state(layer, other):
    layer.load_state_dict(other.state_dict())


def by_assignment(layer, other):
    layer.load_state_dict(other.state_dict(), assign=True)


def by_setattr(layer, other):
    for name, new in other.named_parameters():
        setattr(layer, name, nn.Parameter(new.detach().clone()))


@pytest.mark.parametrize("change", [by_data, by_numpy, by_dlpack, by_state, by_assignment, by_setattr])
@pytest.mark.parametrize("name", list(LAYERS))
def test_a_weight_follows_whatever_changes_its_parameters(name, change):
    """Breaks if a version counter or an address stands for the content: .data, numpy and fused steps change neither."""
    layer, other = LAYERS[name]().eval(), LAYERS[name](seed=5).eval()
    x = inputs(layer)
    with torch.no_grad():
        before = layer(x)
        for key, value in other.named_buffers():  # spectral norms keep a vector of the weight that they normalise
            layer.get_buffer(key).copy_(value)
        change(layer, other)
        torch.testing.assert_close(layer(x), other(x), rtol=0, atol=1e-6)
        assert not torch.allclose(layer(x), before, atol=1e-3)


@pytest.mark.parametrize("setting", [("gain", 3.0), ("steps", 1), ("order", 1), ("compute_weight", lambda: 9 * EYE)])
def test_a_weight_follows_its_settings(setting):
    layer = OrthogonalLinear(4, 4, bias=False).eval()
    with torch.no_grad():
        layer.raw.add_(torch.eye(4))
        _ = layer.weight
        setattr(layer, *setting)
        fresh = copy.deepcopy(layer)
        assert torch.equal(layer.weight, fresh.weight)


@pytest.mark.parametrize("name", list(LAYERS))
def test_inference_mode_leaves_nothing_that_a_gradient_stumbles_over(name):
    layer = LAYERS[name]().eval()
    x = inputs(layer)
    with torch.inference_mode():
        layer(x)
    for frozen in (False, True):
        layer.requires_grad_(not frozen)
        given = x.clone().requires_grad_()
        layer(given).sum().backward()
        assert given.grad is not None


@pytest.mark.parametrize("name", list(LAYERS))
def test_autocast_does_not_reach_the_weight(name):
    """Björck in bfloat16 leaves norms of 1.03, and a cached half weight doesn't fit float32 inputs afterwards."""
    layer = LAYERS[name]().eval()
    x = inputs(layer)
    with torch.no_grad():
        expected = layer.weight.clone()
    for mode in (True, False):
        layer.train(mode)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            layer(x)
            assert layer.weight.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.eval()(x))
        if name not in ("SpectralLinear", "OSSN"):  # whose training passes go on iterating
            torch.testing.assert_close(layer.weight, expected, rtol=0, atol=1e-6)


MODELS = {
    "dense": (lambda seed=0: LipschitzMLP([4, 8, 2], seed=seed), (4,)),
    "images": (lambda seed=0: LipschitzCNN((1, 8, 8), 2, "mini", width=0.25, seed=seed), (1, 8, 8)),
}


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("mode", [True, False])
def test_torch_func_sees_the_same_network_in_both_modes(name, mode):
    """Derivatives by the weights, forward and backward, and ensembles: breaks if a cache cuts them off or is asked."""
    build, shape = MODELS[name]
    models = [build(seed).train(mode) for seed in range(2)]
    model = models[0]
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([each(x) for each in models]).detach()
    parameters, buffers = stack_module_state(models)
    for guard in (torch.enable_grad, torch.no_grad):
        with guard():
            each = vmap(lambda p, b: functional_call(model, (p, b), (x,)))(parameters, buffers)
            torch.testing.assert_close(each, expected, rtol=0, atol=1e-5)
            rows = vmap(lambda row: model(row[None])[0])(x)
            torch.testing.assert_close(rows, expected[0], rtol=0, atol=1e-5)
    own = {key: value.detach() for key, value in model.named_parameters()}
    found = jacrev(lambda p: functional_call(model, p, (x,)))(own)
    model.zero_grad()
    model(x)[1, 0].backward()
    for key, value in model.named_parameters():
        if value.numel():  # a kernel of one tap has no projectors
            torch.testing.assert_close(found[key][1, 0], value.grad, rtol=1e-3, atol=1e-5)
    tangents = {key: torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) for key, value in own.items()}
    _, forward = jvp(lambda p: functional_call(model, p, (x,)), (own,), (tangents,))
    chained = sum((found[key].flatten(2) @ tangents[key].flatten()) for key in own)
    torch.testing.assert_close(forward, chained, rtol=1e-3, atol=1e-4)


def test_a_forward_derivative_is_not_answered_from_the_cache():
    layer = OrthogonalLinear(3, 3, bias=False, dtype=torch.float64).eval().requires_grad_(False)
    x = torch.eye(3, dtype=torch.float64)
    layer(x)
    with forward_ad.dual_level():
        raw = forward_ad.make_dual(layer.raw, torch.ones(3, 3, dtype=torch.float64))
        tangent = forward_ad.unpack_dual(functional_call(layer, {"raw": raw}, (x,))).tangent
    assert tangent is not None and tangent.abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("mode", [True, False])
def test_compiled_whole_and_exported_by_torch(name, mode):
    """Breaks at any step that depends on the weights' values, and if a compiled weight is a constant."""
    build, shape = MODELS[name]
    model = build().train(mode)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    if not mode:
        exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-5)
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_steps_of_the_worst_case_are_enough_and_harm_nothing(order):
    """A condition number of 1e12, where forty steps of order 1 or 2 did not do; as under vmap, where none can look."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator)).Q for _ in range(2))
    weight = u @ torch.diag(torch.logspace(0, -12, 5, dtype=torch.float64)) @ v
    assert residual(bjorck(weight, order)) < 1e-12
    both = torch.stack([weight, u])
    found = vmap(lambda w: bjorck(w, order))(both)
    assert (residual(found) < 1e-12).all()
    torch.testing.assert_close(found[1], bjorck(u, order), rtol=0, atol=1e-12)
