"""Does looking at a network change it?"""

import pytest
import torch
from torch import nn

from nnlib.curvature import (
    KFAC,
    dense_fisher,
    dense_gauss_newton,
    dense_hessian,
    factors,
    gauss_newton_norm,
    jacobian,
    jacobian_norm,
    kfac_norm,
    rescale,
)


def net(inplace=False):
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace), nn.Conv2d(2, 2, 2), nn.ReLU(inplace)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)).double()


def everything(model):
    """All that could change, as one list."""
    found = [tensor.detach().clone() for tensor in model.state_dict().values()]
    found += [torch.zeros(0) if p.grad is None else p.grad.clone() for p in model.parameters()]
    found += [torch.tensor(p.requires_grad) for p in model.parameters()]
    found += [torch.tensor([m.training, len(m._forward_hooks) > 0]) for m in model.modules()]
    return [*found, torch.get_rng_state()]


METHODS = {
    "factors": lambda model, x: factors(model, x, fisher="sampled"),
    "channel factors": lambda model, x: factors(model, x, channels=True, batch_size=2),
    "rescale": lambda model, x: rescale(model, x, {n: b.eigen() for n, b in factors(model, x).items()}),
    "kfac_norm": kfac_norm,
    "jacobian": jacobian,
    "dense_fisher": dense_fisher,
    "dense_gauss_newton": dense_gauss_newton,
    "dense_hessian": lambda model, x: dense_hessian(model, x, torch.zeros(4, 3).double(), nn.functional.mse_loss),
    "jacobian_norm": jacobian_norm,
    "gauss_newton_norm": gauss_newton_norm,
}


IN_TRAINING_MODE = ("factors", "channel factors", "rescale", "kfac_norm")  # the others need examples one by one


@pytest.mark.parametrize(("method", "training"), [(m, False) for m in METHODS] + [(m, True) for m in IN_TRAINING_MODE])
def test_the_model_is_left_as_it_was(method, training):
    """Breaks if BatchNorm's statistics move, gradients pile up, a hook stays, or the global generator draws."""
    model, x = net(), torch.randn(4, 1, 5, 5, dtype=torch.float64)
    model(x).sum().backward()
    model.train(training)
    model[0].bias.requires_grad_(False)
    before = everything(model)
    with torch.no_grad():  # statistics are taken there too
        METHODS[method](model, x)
    assert all(torch.equal(old, new) for old, new in zip(before, everything(model), strict=True))


@pytest.mark.parametrize("fails", [True, False])
def test_hooks_are_taken_off_also_after_an_error(fails):
    model = net()
    if fails:
        with pytest.raises(ValueError, match="x must be what the model takes"):
            factors(model, torch.zeros(4, 2, 5, 5).double())  # two channels instead of one
    else:
        factors(model, torch.zeros(4, 1, 5, 5).double())
    assert not any(module._forward_hooks for module in model.modules())


def test_relu_in_place_changes_no_factor():
    """A hook that kept the layer's output tensor would see that of the ReLU, and its gradient."""
    plain, inplace = net(), net(inplace=True)
    inplace.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = factors(inplace, x)
    for name, block in factors(plain, x).items():
        assert torch.equal(block.A, other[name].A)
        assert torch.equal(block.S, other[name].S)


def test_the_optimiser_sees_a_relu_in_place_as_any_other():
    plain, inplace = net(), net(inplace=True)
    inplace.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for model in (plain, inplace):
        with pytest.warns(UserWarning, match="trained by SGD"):
            optimizer = KFAC(model, lr=0.1)
        for _ in range(3):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
            optimizer.step()
    for p, q in zip(plain.parameters(), inplace.parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_optimiser_out_of_use_takes_its_hooks_along():
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = KFAC(model, lr=0.1)
    assert any(module._forward_hooks for module in model.modules())
    del optimizer
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
