"""Does a step depend on how the parameters are written down? Inputs in other units, and weights that are mixed.

Dividing an input by s and multiplying its weights by s gives the same function of the same data, in other parameters.
Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from nnlib.curvature import jacobian
from nnlib.natural_gradient import TwoLayer, natural_gradient, stable_lr, train
from tenpapers.natural_gradient.workloads import sphere

METHODS = {"GD": 1.0, "Natural gradient": 0.3, "K-FAC": 0.3}  # lr; of gradient descent a share of 1 / lambda_max


def measure_units(
    method: str, factor: float, width: int, steps: int = 5, n: int = 24, d: int = 10, seed: int = 0
) -> dict[str, float]:
    """The same run twice, the second time with the first half of the inputs in units ``factor`` times as large.

    Args:
        method: One of ``METHODS``.
        factor: Inputs are divided by it, their initial weights multiplied: the function is the same.
        width: Of the network.
        steps: Of training; gradient descent has in either units its own 1 / lambda_max.
        n: Points on the sphere.
        d: Their dimension.
        seed: Of points and network.

    Returns:
        ``training``: the largest |u' - u| of a step over |u(0) - y|, u and u' the outputs of the two runs. ``test``:
        |f' - f| on as many other points at the end, over the way |f - f(0)| that the first run has gone there.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, x_test, *_ = sphere(n, d, seed)
    runs = [train_in_units(x, y, x_test, method, scale, width, steps, seed) for scale in (1.0, factor)]
    (u, f, start), (other, g, _) = runs
    return {
        "training": float((other - u).norm(dim=1).max() / (u[0] - y).norm()),
        "test": float((g - f).norm() / (f - start).norm()),
    }


def train_in_units(
    x: Tensor, y: Tensor, x_test: Tensor, method: str, factor: float, width: int, steps: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs on x over the steps, (steps + 1, n); outputs on x_test at the end and at the start, (n,)."""
    d = x.shape[1]
    units = torch.ones(d, dtype=x.dtype)
    units[: d // 2] = factor
    net = TwoLayer(d, width, seed=seed, dtype=x.dtype)
    with torch.no_grad():
        net.weight.mul_(units)  # (m, d)
        before = net(x_test / units)[:, 0]
    rate = METHODS[method] * (stable_lr(net, x / units) if method == "GD" else 1)
    outputs = train(net, x / units, y, method, rate, steps, watch=False).outputs
    with torch.no_grad():
        return outputs, net(x_test / units)[:, 0], before


class Mixed(nn.Module):
    """A model whose parameters, as one vector, are T psi: the same functions, written down otherwise.

    Args:
        model: With P parameters.
        T: Invertible, (P, P).
    """

    def __init__(self, model: nn.Module, T: Tensor):
        super().__init__()
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        self.call = lambda theta, x: functional_call(model, theta, (x,))
        self.T = T
        self.psi = nn.Parameter(torch.linalg.solve(T, parameters_to_vector(model.parameters()).detach()))

    def forward(self, x: Tensor) -> Tensor:
        """What the model says with the parameters T psi."""
        pieces = (self.T @ self.psi).split([shape.numel() for shape in self.shapes.values()])
        return self.call({name: p.view(self.shapes[name]) for name, p in zip(self.shapes, pieces, strict=True)}, x)


def mixed_steps(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One natural-gradient step of a small tanh network on n examples, in its own and in mixed parameters.

    Returns:
        Both steps as changes of the model's own parameters, (P,); both changes of the outputs to first order, (n,).
    """
    generator = torch.Generator().manual_seed(seed)
    x, residual = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (2, 1))
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()  # 13 parameters
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    P = sum(p.numel() for p in model.parameters())
    T = torch.randn(P, P, generator=generator, dtype=torch.float64) + 2 * torch.eye(P, dtype=torch.float64)
    J = jacobian(model, x)[:, 0]  # (n, P)
    own = natural_gradient(model, x, residual)
    mixed = T @ natural_gradient(Mixed(model, T), x, residual)
    return own, mixed, J @ own, J @ mixed
