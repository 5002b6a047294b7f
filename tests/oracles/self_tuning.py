"""Best responses, slowly and obviously: one example at a time, one ordinary network for each."""

import torch
from torch.func import functional_call, jvp


def one_by_one(model, x, u, batch_dim=0):
    """Outputs of a best-response network: for each example, the ordinary network at its own coordinates u (B, n)."""
    outputs = []
    for b in range(len(u)):
        network = model.ordinary(model.space.values(u[b])).eval()
        outputs.append(network(x.narrow(batch_dim, b, 1)))
    return torch.cat(outputs, batch_dim)


def linearised(model, x, u):
    """f(x; w_0) + J Delta w, example by example, with the Jacobian product taken in the ordinary network's weights."""
    start = model.ordinary(model.space.values(model.centre))
    w_0 = {name: p.detach() for name, p in start.named_parameters()}
    rows = []
    for b in range(len(u)):
        moved = dict(model.ordinary(model.space.values(u[b])).named_parameters())
        change = {name: moved[name].detach() - w_0[name] for name in w_0}
        value, slope = jvp(lambda w, b=b: functional_call(start, w, (x[b : b + 1],)), (w_0,), (change,))
        rows.append(value + slope)
    return torch.cat(rows)


def weights_at(model, r):
    """W + diag(V r) W_r and b + (C r) b_r of every linear layer at one r (n,), by the ordinary network's names."""
    found = {}
    for name, layer in model.network.named_modules():
        if hasattr(layer, "response_weight"):
            found[f"{name}.weight"] = layer.weight + (layer.gates @ r)[:, None] * layer.response_weight
            found[f"{name}.bias"] = layer.bias + (layer.bias_gates @ r) * layer.response_bias
    return found


def perturbed_loss(model, loss, x, y, u, values):
    """Mean over examples of the loss of each in its own ordinary network, at its own u (B, n) and values by name (B,).

    ``loss(outputs, target, values, squares)`` is that of one example; ``squares`` is |W|² of its network.
    """
    plain, total = model.ordinary(model.space.values(model.centre)).eval(), 0.0
    for b in range(len(u)):
        w = weights_at(model, u[b] - model.centre)
        outputs = functional_call(plain, w, (x[b : b + 1],))
        total = total + loss(outputs, y[b : b + 1], {k: v[b] for k, v in values.items()}, squares(w))
    return total / len(u)


def linear_loss(model, loss, x, y, u, values):
    """The same, each example's outputs linear in the response: f(x; w_0) + J Delta w, J in the ordinary weights."""
    plain, total = model.ordinary(model.space.values(model.centre)).eval(), 0.0
    w_0 = {name: w.detach() for name, w in weights_at(model, torch.zeros_like(u[0])).items()}
    for b in range(len(u)):
        w = weights_at(model, u[b] - model.centre)
        change = {name: w[name] - w_0[name] for name in w}
        at, along = jvp(lambda w, b=b: functional_call(plain, w, (x[b : b + 1],)), (w_0,), (change,))
        total = total + loss(at + along, y[b : b + 1], {k: v[b] for k, v in values.items()}, squares(w))
    return total / len(u)


def squares(weights):
    """|W|² over the weights, not the biases."""
    return sum(w.square().sum() for name, w in weights.items() if name.endswith("weight"))


def ridge_by_descent(problem, lam, steps=20000):
    """The best response by gradient descent on the training loss, differentiated by autograd."""
    w = torch.zeros(problem.train.x.shape[1], dtype=torch.float64, requires_grad=True)
    x, y = problem.train
    for _ in range(steps):
        loss = (x @ w - y).square().mean() / 2 + torch.tensor(lam).exp() / 2 * w.square().sum()
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - 0.1 * gradient).detach().requires_grad_()
    return w.detach()


def expected_loss(problem, lam, sigma, w_0, v, centred=True, nodes=60):
    """E over eps of the training loss at w_0 + v r, by Gauss-Hermite quadrature."""
    import numpy as np

    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    x, y = problem.train
    total = 0.0
    for point, weight in zip(sigma * points, weights / weights.sum(), strict=True):
        w = w_0 + v * (point + (0 if centred else lam))
        total = total + weight * ((x @ w - y).square().mean() / 2 + np.exp(lam + point) / 2 * w.square().sum())
    return total
