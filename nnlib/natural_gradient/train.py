"""Full-batch training of the two-layer network by three methods, watched in function space.

Every direction is written down in closed form with S and X, so that nothing of size n x (m d) is ever held.
Paper: arXiv 1905.10961, natural gradient descent and K-FAC. Chapter: ``book/natural_gradient.ipynb``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nnlib.arguments import one_of, real, typed, whole, within
from nnlib.natural_gradient.conditions import stability_constant
from nnlib.natural_gradient.function_space import solve, spectral_norm
from nnlib.natural_gradient.kfac import leverage_scores
from nnlib.natural_gradient.losses import SQUARED, Loss
from nnlib.natural_gradient.two_layer import TwoLayer, infinite_gram

METHODS = ("GD", "Natural gradient", "Gauss-Newton", "K-FAC")


class Run(NamedTuple):
    """What was seen before each step and after the last, T + 1 times.

    ``outputs`` u, (T+1, n); ``movement`` |W - W(0)|_F / |W(0)|_F; ``smallest`` lambda_min(G); ``constant`` the C of
    condition 2 that the change of the Jacobian asks for. The last three have shape (T+1,).
    """

    outputs: Tensor
    movement: Tensor
    smallest: Tensor
    constant: Tensor

    @typed
    def distance(self, target: Tensor) -> Tensor:
        """|u - target|_2 over time, shape (T+1,), from a target of shape (n,).

        Raises:
            ValueError: a target of another shape, or not finite.
        """
        real("n", {"n": self.outputs.shape[1]}, target=target)
        return (self.outputs - target).norm(dim=1)

    def detour(self) -> float:
        """Length of the path of the outputs over the distance between its ends: 1 for a straight line.

        nan where the ends are the same.
        """
        steps = self.outputs.diff(dim=0).norm(dim=1).sum()
        return float(steps / (self.outputs[-1] - self.outputs[0]).norm())


@typed
def train(
    net: TwoLayer,
    x: Tensor,
    y: Tensor,
    method: str,
    lr: float,
    steps: int,
    *,
    loss: Loss = SQUARED,
    damping: float = 0.0,
    watch: bool = True,
) -> Run:
    """Train the first layer in place and say what happened to the outputs.

    Args:
        net: Its weights change.
        x: Shape (n, d).
        y: Shape (n,).
        method: One of ``METHODS``. "Natural gradient" has the metric J'J, "Gauss-Newton" J'HJ with the loss's second
            derivatives; for the squared error they are the same.
        lr: Learning rate, > 0.
        steps: Number of steps, at least 1.
        loss: Summed over the examples.
        damping: Added to the Gram matrix by the natural gradient and Gauss-Newton, at least 0.
        watch: Whether to measure the two conditions; without, ``smallest`` and ``constant`` are nan. So is
            ``constant`` where condition 1 fails: G(0) is singular but for rounding.

    Raises:
        ValueError: an unknown method, a number out of its range, or damping for a method that has none.
        FloatingPointError: the outputs are no longer finite; lr is too large.

    Source: arXiv 1905.10961, natural gradient descent and K-FAC. Chapter: ``book/natural_gradient.ipynb``.

    >>> x, y = torch.eye(3), torch.tensor([1.0, -1.0, 1.0])
    >>> run = train(TwoLayer(3, 4096), x, y, "Natural gradient", lr=0.5, steps=3)
    >>> (run.distance(y)[1:] / run.distance(y)[:-1]).round(decimals=2)
    tensor([0.5000, 0.5000, 0.5000])
    """
    one_of(METHODS, method=method)
    within("(0, inf)", lr=lr)
    whole(1, steps=steps)
    within("[0, inf)", damping=damping)
    real("n", real("n d", {"d": net.weight.shape[1]}, x=x), y=y)
    if damping > 0 and method in ("GD", "K-FAC"):
        raise ValueError(f"{method} takes no damping here: got {damping}")
    K, start, S_start = x @ x.T, net.weight.detach().clone(), net.features(x)  # (n, n), (m, d), (n, m)
    x_inverse = torch.linalg.pinv(x)  # (d, n)
    first = torch.linalg.eigvalsh(K * (S_start @ S_start.T)) if watch else K.new_empty(0)
    rows = []
    for step in range(steps + 1):
        S = net.features(x)
        with torch.no_grad():
            u = net(x)[:, 0]
        if not u.isfinite().all():
            raise FloatingPointError(f"{method}: outputs are not finite after step {step}: lr = {lr:g} is too large")
        G = K * (S @ S.T)
        smallest = constant = u.new_tensor(float("nan"))
        if watch:
            smallest = torch.linalg.eigvalsh(G)[0]
            change = spectral_norm(K * ((S - S_start) @ (S - S_start).T))
            if first[0] > len(x) * torch.finfo(u.dtype).eps * first[-1]:  # condition 1, but for rounding
                constant = u.new_tensor(stability_constant(float(change), float(first[0])))
        rows.append((u, (net.weight.detach() - start).norm() / start.norm(), smallest, constant))
        if step < steps:
            step_direction = direction(method, S, x, x_inverse, G, loss.slope(u, y), loss.curvature(u, y), damping)
            with torch.no_grad():
                net.weight.sub_(lr * step_direction)
    return Run(*(torch.stack(column) for column in zip(*rows, strict=True)))


def direction(
    method: str, S: Tensor, x: Tensor, x_inverse: Tensor, G: Tensor, g: Tensor, h: Tensor, damping: float
) -> Tensor:
    """The direction of a step, from the features S (n, m), the Gram matrix G and the loss's derivatives: shape (m, d).

    Args:
        method: One of ``METHODS``.
        S: Features, shape (n, m).
        x: X, shape (n, d).
        x_inverse: X^+, shape (d, n).
        G: (X X') o (S S'), shape (n, n).
        g: First derivatives of the loss by the outputs, shape (n,).
        h: Second derivatives, shape (n,).
        damping: Added to the Gram matrix, at least 0.
    """
    if method == "K-FAC":  # (S'S)^+ (S' diag(g) X) (X'X)^+ = S^+ diag(g) (X^+)'
        K_S = S @ S.T
        inverse = torch.linalg.pinv(K_S, hermitian=True)
        return S.T @ (inverse @ (g[:, None] * x_inverse.T))
    if method == "GD":
        v = g
    elif method == "Natural gradient":
        v = solve(G, g, damping)  # J' (G + damping I)^-1 g
    else:
        root = h.sqrt()  # J' R (R G R + damping I)^-1 R^-1 g with R = H^1/2
        v = root * solve(root[:, None] * G * root, g / root, damping)
    return S.T @ (v[:, None] * x)  # J' v


@typed
def stable_lr(net: TwoLayer, x: Tensor) -> float:
    """1 / lambda_max(G): half of the largest learning rate with which gradient descent on 1/2 |u - y|^2 is stable.

    Raises:
        ValueError: x is no finite (n, d), or all of it is zero: then every rate is stable.
    """
    real("n d", {"d": net.weight.shape[1]}, x=x)
    largest = float(torch.linalg.eigvalsh(net.gram(x))[-1])
    if not largest > 0:
        raise ValueError("x must have a row that a neuron sees: the Gram matrix is zero, and every rate is stable")
    return 1 / largest


@typed
def ideal_run(x: Tensor, u: Tensor, y: Tensor, method: str, lr: float, steps: int) -> Tensor:
    """Outputs of the infinitely wide network, whose Jacobian never changes: u - y is multiplied by I - lr M.

    M is I for the natural gradient, diag(leverage scores) for K-FAC, and G_inf / lambda_max(G_inf) for gradient
    descent, whose lr is thus a share of 1 / lambda_max.

    Args:
        x: Shape (n, d).
        u: Outputs at the start, shape (n,).
        y: Targets, shape (n,).
        method: "GD", "Natural gradient" or "K-FAC".
        lr: As above, positive.
        steps: T, at least 0.

    Returns:
        Shape (T+1, n).

    Raises:
        ValueError: another method, shapes that do not fit, or a number out of its range; lr is so large that the
            outputs overflow.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    real("n", real("n d", x=x), u=u, y=y)
    within("(0, inf)", lr=lr)
    whole(0, steps=steps)
    one_of([known for known in METHODS if known != "Gauss-Newton"], method=method)
    if method == "GD":
        G = infinite_gram(x)
        M = G / torch.linalg.eigvalsh(G)[-1]
    elif method == "Natural gradient":
        M = torch.eye(len(x), dtype=x.dtype, device=x.device)
    else:
        M = torch.diag(leverage_scores(x))
    outputs = [u]
    for _ in range(steps):
        outputs.append(outputs[-1] - lr * M @ (outputs[-1] - y))
    if not bool(outputs[-1].isfinite().all()):
        raise ValueError(f"lr is too large for so many steps: the outputs are not finite with lr = {lr:g}")
    return torch.stack(outputs)
