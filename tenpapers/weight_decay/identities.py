"""The identities of the chapter on small drawn networks: each as residuals that are zero but for rounding.

Paper: arXiv 1810.12281, sections 2 and 4. Chapter: ``book/weight_decay.ipynb``.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.functional import jvp
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from nnlib.curvature import (
    KFAC,
    Kronecker,
    dense_gauss_newton,
    factors,
    gauss_newton_norm,
    jacobian,
    jacobian_norm,
    joint_weight,
    kfac_norm,
    layer_index,
)
from nnlib.descent import descend
from nnlib.models import MLP
from nnlib.weight_decay import invariant_layers, make_optimizer, matched_lr, rescale_, weight_norms

SIZES = [6, 8, 7, 8, 3]  # four weight matrices


def curvature_norm(method: str) -> float:
    """A K-FAC step with decoupled decay against one on the loss plus the penalty |W|_C^2, whose C is held constant."""
    x, y = _examples()

    def step(decay: str, weight_decay: float, penalty: Mapping[str, Kronecker]) -> tuple[Tensor, dict[str, Kronecker]]:
        model = MLP([6, 5, 3], seed=1, dtype=torch.float64)
        options = {"decay": decay, "weight_decay": weight_decay, "damping": 0.1, "seed": 3}
        optimizer = make_optimizer(model, method, 0.1, **options)
        assert isinstance(optimizer, KFAC)
        cross_entropy(model(x), y).backward()
        for name, block in penalty.items():
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear) and layer.weight.grad is not None and layer.bias.grad is not None
            extra = 0.5 * block.matvec(joint_weight(layer))
            layer.weight.grad += extra[:, :-1]
            layer.bias.grad += extra[:, -1]
        optimizer.step()
        blocks = {name: running.factors for name, running in optimizer.curvature.items()}
        return _flat(model), {name: block.damped(0.1) for name, block in blocks.items() if block is not None}

    decoupled, blocks = step("decoupled", 0.5, {})
    return _error(step("none", 0.0, blocks)[0], decoupled)


def matched_runs(method: str, c: float = 3.7, steps: int = 10, **options: Any) -> float:
    """Losses of a run from theta against those from c theta with the matched learning rate and damping."""
    x, y = _examples(12 * steps)
    lr = {"SGD": 0.5, "Adam": 0.01}.get(method, 0.05)

    def losses(factor: float) -> Tensor:
        model = _normalised([6, 8, 8, 3], factor)
        model.layers[-1].requires_grad_(False)  # it has no BatchNorm behind it
        own = {key: value / factor**2 if key == "damping" else value for key, value in options.items()}
        optimizer = make_optimizer(model, method, matched_lr(method, lr, factor), **own)
        batches, seen = zip(x.split(12), y.split(12), strict=True), []

        def loss() -> Tensor:
            inputs, labels = next(batches)
            return cross_entropy(model(inputs), labels)

        descend(loss, optimizer, steps, after=lambda _, value: seen.append(value))
        return torch.stack(seen)

    return _error(losses(c), losses(1.0))


def growth(lr: float = 0.5, steps: int = 5) -> float:
    """|W'|^2 against |W|^2 + lr^2 |g|^2, for the layers under BatchNorm, over steps of SGD without decay."""
    model, (x, y) = _normalised([6, 8, 8, 3]), _examples()
    layers, errors = invariant_layers(model), []
    norms = weight_norms(model, layers)

    def compare(step: int, loss: Tensor) -> None:
        for name, norm in weight_norms(model, layers).items():
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear) and layer.weight.grad is not None
            expected = norms[name] ** 2 + lr**2 * float(layer.weight.grad.square().sum())
            errors.append(abs(norm**2 / expected - 1))
            norms[name] = norm

    optimizer = make_optimizer(model, "SGD", lr, momentum=0.0)
    descend(lambda: cross_entropy(model(x), y), optimizer, steps, after=compare)
    return max(errors)


def lemmas() -> dict[str, float]:
    """Of a ReLU network without biases: J theta = D f, theta' G theta = D^2 E|f|^2, and D E|f|^2 with blocks alone."""
    model, (x, _), D = MLP(SIZES, bias=False, seed=2, dtype=torch.float64), _examples(), len(SIZES) - 1
    f, J, theta = model(x).detach(), jacobian(model, x), _flat(model)
    square = f.square().sum() / len(x)
    indices = [layer_index(model, name) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    blocks = torch.stack([(J[:, :, index] @ theta[index]).square().sum() / len(x) for index in indices]).sum()
    return {
        "J θ = D f": _error(J @ theta, D * f),
        "θᵀGθ = D² E|f|²": _error(gauss_newton_norm(model, x), D**2 * square),
        "blocks: D E|f|²": _error(blocks, D * square),
    }


def theorem_1() -> dict[str, float]:
    """Of a deep linear network on whitened inputs: theta' G theta = D^2 |J|^2, and D |J|^2 for the K-FAC norm."""
    relu, D = MLP(SIZES, bias=False, seed=2, dtype=torch.float64), len(SIZES) - 1
    model = nn.Sequential(*(layer for layer in relu.layers if isinstance(layer, nn.Linear)))
    x, _ = _examples()
    white = torch.linalg.svd(x - x.mean(0), full_matrices=False).U * len(x) ** 0.5
    norm = jacobian_norm(model, white)
    return {
        "θᵀGθ = D² |J|²": _error(gauss_newton_norm(model, white), D**2 * norm),
        "K-FAC norm = D |J|²": _error(kfac_norm(model, white), D * norm),
    }


def relu_gap() -> float:
    """How far the K-FAC norm of a ReLU network is from D E|f|^2, relative to it: not zero."""
    model, (x, _), D = MLP(SIZES, bias=False, seed=2, dtype=torch.float64), _examples(), len(SIZES) - 1
    return _error(kfac_norm(model, x), D * model(x).detach().square().sum() / len(x))


def constant_curvature() -> float:
    """The gradient of theta' G(theta) theta against D times that with G held constant."""
    model, (x, _), D = MLP(SIZES, bias=False, seed=2, dtype=torch.float64), _examples(), len(SIZES) - 1
    names, theta = zip(*model.named_parameters(), strict=True)

    def outputs(*values: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))

    product = cast("Tensor", jvp(outputs, theta, theta, create_graph=True)[1])
    norm = product.square().sum() / len(x)
    through = torch.cat([g.flatten() for g in torch.autograd.grad(norm, theta)])
    return _error(through, D * 2 * dense_gauss_newton(model, x) @ _flat(model))


def damped_step(fisher: str, c: float = 6.0, damping: float = 1e-3) -> float:
    """The damped K-FAC step at c theta against c times the step at theta with damping c^2 lambda."""
    x, y = _examples()

    def step(factor: float, damping: float) -> Tensor:
        model = _normalised([6, 8, 3], factor)
        block = factors(model, x, fisher=fisher, layers=["layers.1"])["layers.1"]
        cross_entropy(model(x), y).backward()
        layer = model.layers[1]
        assert isinstance(layer, nn.Linear) and layer.weight.grad is not None and layer.bias.grad is not None
        gradient = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)  # (out, in + 1)
        return block.eigen().solve(gradient, damping)[:, :-1]

    return _error(step(c, damping), c * step(1.0, c**2 * damping))


def _examples(n: int = 40) -> tuple[Tensor, Tensor]:
    """Inputs with correlated coordinates, and three classes."""
    draw = torch.Generator("cpu").manual_seed(0)
    x, mix = (torch.randn(*shape, generator=draw, dtype=torch.float64, device="cpu") for shape in ((n, 6), (6, 6)))
    return x @ mix, torch.arange(n, device="cpu") % 3


def _normalised(sizes: list[int], c: float = 1.0) -> MLP:
    """With BatchNorm whose eps, which breaks the invariance, is nothing; hidden weights c times as long."""
    model = MLP(sizes, batch_norm=True, seed=0, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-30
    rescale_(model, c)
    return model


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())
