"""Do device and dtype come from the inputs? Under the default device `meta`, a tensor made without one is empty."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nnlib.curvature import (
    KFAC,
    Kronecker,
    dense_fisher,
    dense_gauss_newton,
    dense_hessian,
    factors,
    gauss_newton_norm,
    jacobian,
    jacobian_norm,
    joint_weight,
    kfac_norm,
    layer_index,
    rescale,
)
from tests.devices import same_without_a_default_device


def net(dtype=torch.float32):
    layers = [nn.Conv2d(1, 2, 2, device="cpu"), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, device="cpu")]
    return nn.Sequential(*layers).to(dtype)


def inputs(dtype=torch.float32):
    x = torch.arange(36, dtype=torch.float32, device="cpu").sin().view(4, 1, 3, 3)
    return x.to(dtype), torch.tensor([0, 1, 2, 0], device="cpu")


def all_of(model, x, y):
    """Every function of the package, as a dict of lists of tensors."""
    generator, result = torch.Generator("cpu").manual_seed(0), {}
    for fisher in ("sampled", "exact", "empirical", "gauss_newton", "gauss_newton_exact"):
        found = factors(model, x, fisher=fisher, y=y if fisher == "empirical" else None)
        result[fisher] = [M for block in found.values() for M in (block.A, block.S)]
    found = factors(model, x)
    result["channels"] = [block.A for block in factors(model, x, channels=True).values()]
    bases = rescale(model, x, {name: block.eigen() for name, block in found.items()})
    result["rescale"] = [basis.values for basis in bases.values()]
    block, basis = found["3"].damped(0.1), bases["3"]
    assert isinstance(block, Kronecker)
    V, L = joint_weight(model[3]), block.cholesky()
    result["kronecker"] = [block.dense(), block.matvec(V), L.solve(V), L.logdet(), L.sample(generator)]
    result["eigenbasis"] = [basis.dense(), basis.matvec(V), basis.solve(V, 0.1), basis.logdet(0.1)]
    result["eigenbasis"].append(basis.sample(generator, 0.1))
    result["dense"] = [dense_fisher(model, x), dense_fisher(model, x, y=y), dense_gauss_newton(model, x)]
    result["dense"] += [dense_hessian(model, x, y, cross_entropy), jacobian(model, x)]
    result["index"] = [layer_index(model, "3")]
    result["norms"] = [jacobian_norm(model, x), gauss_newton_norm(model, x), kfac_norm(model, x)]
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device_or_in_another_dtype(dtype):
    """Under a default device without storage everything comes out on the CPU, with the same values as without it."""
    model, (x, y) = net(dtype), inputs(dtype)
    found = same_without_a_default_device(lambda: all_of(model, x, y))
    for name, tensors in found.items():
        assert all(tensor.dtype == (torch.int64 if name == "index" else dtype) for tensor in tensors), name


@pytest.mark.parametrize("inverse", ["factored", "exact", "ekfac"])
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_the_optimiser_makes_no_tensor_without_a_device(inverse, likelihood):
    """Also through saving and loading its state."""
    (x, y), start, trained = inputs(), net(), []
    target, loss = (y, cross_entropy) if likelihood == "categorical" else (torch.eye(3, device="cpu")[y], mse_loss)
    options = dict(likelihood=likelihood, inverse=inverse, decay="l2", weight_decay=0.1, kl_clip=1e-2)
    for where in ("cpu", "meta"):
        with torch.device(where):
            model, state = net(), None
            model.load_state_dict(start.state_dict())
            for _ in range(2):  # one optimiser goes on where the other stopped
                optimizer = KFAC(model, 0.1, update_factors_every=1, **options)
                if state is not None:
                    optimizer.load_state_dict(state)
                for _ in range(2):
                    model.zero_grad()
                    loss(model(x), target).backward()
                    optimizer.step()
                state = optimizer.state_dict()
        trained.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*trained, strict=True))


def test_bfloat16_models_keep_their_dtype_and_have_factors_in_single_precision():
    """Their squares would lose everything, and there is no Cholesky factorisation in half precision."""
    model, (x, y) = net(torch.bfloat16), inputs(torch.bfloat16)
    assert all(M.dtype == torch.float32 for block in factors(model, x).values() for M in (block.A, block.S))
    optimizer = KFAC(model, 0.1, 0.1, fisher="exact")  # eight steps on drawn targets may go anywhere
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]
