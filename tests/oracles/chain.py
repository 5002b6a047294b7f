"""A chain of layers, slowly and obviously: moments by loops, the whole matrix filled in, and its dense inverse."""

import torch
from torch.autograd import grad

from tests.oracles.curvature import locations, pass_through, weighted_losses


def between(model, first, second, x, fisher="exact", likelihood="categorical"):
    """E[x_i x_j'] and E[ds_i ds_j'] of two linear layers, one example and one class at a time."""
    layers, A, S = dict(model.named_modules()), 0.0, 0.0
    for example in x:
        outputs, inputs, added = {}, {}, {}
        for name in (first, second):
            outputs[name], (inputs[name],), added[name] = pass_through(model, layers[name], example)
        rows = [locations(layers[name], inputs[name])[0] for name in (first, second)]
        A = A + torch.outer(*rows)
        losses = [weighted_losses(outputs[name], fisher, likelihood) for name in (first, second)]
        for (weight, loss), (_, same) in zip(*losses, strict=True):
            ds = [
                grad(part, added[name], retain_graph=True)[0].flatten()
                for part, name in ((loss, first), (same, second))
            ]
            S = S + weight * torch.outer(*ds)
    return A / len(x), S / len(x)


def filled(blocks, beside):
    """A Markov chain's matrix from its blocks on and beside the diagonal: F_ij = F_{i,i+1} F_{i+1}^-1 F_{i+1,j}."""
    number = len(blocks)
    full = {(i, i): block for i, block in enumerate(blocks)}
    for j in range(number):
        for i in reversed(range(j)):
            step = beside[i] @ torch.linalg.inv(blocks[i + 1])
            full[i, j] = beside[i] if j == i + 1 else step @ full[i + 1, j]
            full[j, i] = full[i, j].T
    return torch.cat([torch.cat([full[i, j] for j in range(number)], 1) for i in range(number)])
