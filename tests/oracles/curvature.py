"""Kronecker-factored curvature, slowly and obviously: one example, one class, one location, one gradient at a time."""

import torch
from torch import nn
from torch.autograd import grad
from torch.nn.functional import log_softmax


def source_pixel(i, size, mode):
    """Which pixel of a row of `size` stands at place i, which may lie in the padding; None for a zero."""
    if mode == "zeros":
        return i if 0 <= i < size else None
    if mode == "circular":
        return i % size
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    return -i if i < 0 else 2 * (size - 1) - i if i >= size else i  # reflect


def locations(layer, x):
    """Every vector that meets the joint weight for one example, in order: a list of (in,) or (in + 1,)."""
    if isinstance(layer, nn.Linear):
        rows = list(x.reshape(-1, x.shape[-1]))
    else:
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
        reach_h, reach_w = dh * (kh - 1), dw * (kw - 1)
        if layer.padding == "same":  # an odd total pads one more at the end
            (top, bottom), (left, right) = ((r // 2, r - r // 2) for r in (reach_h, reach_w))
        elif layer.padding == "valid":
            top = bottom = left = right = 0
        else:
            top, bottom, left, right = layer.padding[0], layer.padding[0], layer.padding[1], layer.padding[1]
        channels, height, width = x.shape
        rows = []
        for i in range(0, height + top + bottom - reach_h, sh):
            for j in range(0, width + left + right - reach_w, sw):
                row = []
                for c in range(channels):
                    for p in range(kh):
                        for q in range(kw):
                            u = source_pixel(i + dh * p - top, height, layer.padding_mode)
                            v = source_pixel(j + dw * q - left, width, layer.padding_mode)
                            row.append(x.new_zeros(()) if u is None or v is None else x[c, u, v])
                rows.append(torch.stack(row))
    return rows if layer.bias is None else [torch.cat([row, row.new_ones(1)]) for row in rows]


def pass_through(model, layer, example):
    """Outputs (C,) for one example, the layer's inputs in each call, and zeros that are added to its outputs."""
    inputs, added = [], []

    def hook(module, args, output):
        inputs.append(args[0][0].detach().clone())
        added.append(torch.zeros_like(output, requires_grad=True))
        return output + added[-1]

    handle = layer.register_forward_hook(hook)
    outputs = model(example[None])[0]
    handle.remove()
    return outputs, inputs, added


def weighted_losses(outputs, fisher, likelihood, y=None):
    """Pairs (weight, loss) such that sum of weight * gradient gradient' is the curvature of one example."""
    if fisher == "gauss_newton_exact":
        return [(1.0, output) for output in outputs]
    if likelihood == "gaussian":  # -log p(y | x) = |f - y|^2 / 2; E over y of (f - y)(f - y)' = I
        return [(1.0, 0.5 * (outputs - y).square().sum())] if fisher == "empirical" else [(1.0, f) for f in outputs]
    losses = -log_softmax(outputs, 0)
    if fisher == "empirical":
        return [(1.0, losses[y])]
    return [(loss.neg().exp().item(), loss) for loss in losses]


def factors(model, name, x, fisher="exact", likelihood="categorical", y=None):
    """(A, S) of a layer: A averages x x' over examples and locations, S sums ds ds' over locations."""
    layer = dict(model.named_modules())[name]
    A, S, seen = 0.0, 0.0, 0
    for b, example in enumerate(x):
        outputs, inputs, added = pass_through(model, layer, example)
        for part in inputs:
            for row in locations(layer, part):
                A, seen = A + torch.outer(row, row), seen + 1
        for weight, loss in weighted_losses(outputs, fisher, likelihood, None if y is None else y[b]):
            for ds in grad(loss, added, retain_graph=True):
                columns = ds.transpose(1, -1) if isinstance(layer, nn.Conv2d) else ds
                for column in columns.reshape(-1, len(layer.weight)):
                    S = S + weight * torch.outer(column, column)
    return A / seen, S / len(x)


def fisher(model, x, fisher="exact", likelihood="categorical", y=None):
    """The whole matrix, one example and one class at a time, by ordinary gradients of the loss: (P, P)."""
    parameters = list(model.parameters())
    total = 0.0
    for b, example in enumerate(x):
        outputs = model(example[None])[0]
        for weight, loss in weighted_losses(outputs, fisher, likelihood, None if y is None else y[b]):
            g = torch.cat([part.flatten() for part in grad(loss, parameters, retain_graph=True)])
            total = total + weight * torch.outer(g, g)
    return total / len(x)


fisher_of = fisher  # where an argument is called `fisher`


def pi_damped(A, S, damping):
    """A + pi sqrt(damping) I and S + sqrt(damping) / pi I."""
    pi = ((A.trace() / len(A)) / (S.trace() / len(S))).sqrt()
    root = damping**0.5
    return A + pi * root * torch.eye(len(A), dtype=A.dtype), S + root / pi * torch.eye(len(S), dtype=S.dtype)


def kfac_run(model, batches, loss, lr, damping, *, inverse="factored", momentum=0.9, decay=None, weight_decay=0.0,
             decay_layers=None, factor_decay=0.95, factors_every=1, inverses_every=1, kl_clip=None,
             fisher="exact", likelihood="categorical"):  # fmt: skip
    """Train by K-FAC in place, every formula written out with dense matrices; bias as last column of each weight."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    A, S, Q, values, curvature, velocity, updates, rescaled = {}, {}, {}, {}, {}, {}, 0, 0
    for step, (x, y) in enumerate(batches):
        if step % factors_every == 0:
            updates += 1
            e = min(1 - 1 / updates, factor_decay)
            for n in layers:
                A_new, S_new = factors(model, n, x, fisher, likelihood)
                A[n] = e * A.get(n, 0.0) + (1 - e) * A_new
                S[n] = e * S.get(n, 0.0) + (1 - e) * S_new
        if step % inverses_every == 0:
            rescaled = 0
            for n in layers:
                Q[n] = torch.kron(torch.linalg.eigh(S[n])[1], torch.linalg.eigh(A[n])[1])
                eye = torch.eye(len(Q[n]), dtype=x.dtype)
                if inverse == "factored":
                    A_d, S_d = pi_damped(A[n], S[n], damping)
                    curvature[n] = torch.kron(S_d, A_d)
                else:
                    curvature[n] = torch.kron(S[n], A[n]) + damping * eye
        if inverse == "ekfac" and step % factors_every == 0:
            rescaled += 1  # in the basis of this step, also where it is new
            e = min(1 - 1 / rescaled, factor_decay)
            F = fisher_of(model, x, fisher, likelihood)
            for n, index in places(model).items():
                diagonal = (Q[n].T @ F[index[:, None], index] @ Q[n]).diagonal()
                values[n] = e * (values[n] if e else 0.0) + (1 - e) * diagonal
                curvature[n] = Q[n] @ torch.diag(values[n] + damping) @ Q[n].T
        model.zero_grad()
        loss(model(x), y).backward()
        preconditioned, inner = {}, 0.0
        for n, layer in layers.items():
            g, W = joint(layer, "grad"), joint(layer)
            if decay == "l2" and (decay_layers is None or n in decay_layers):
                g = g + weight_decay * W
            preconditioned[n] = torch.linalg.solve(curvature[n], g.flatten()).view_as(g)
            inner = inner + (preconditioned[n] * g).sum()
        nu = 1.0 if kl_clip is None else min(1.0, (kl_clip / (lr**2 * inner)).sqrt().item())
        for n, layer in layers.items():
            velocity[n] = momentum * velocity.get(n, 0.0) + nu * preconditioned[n]
            W = joint(layer)
            rate = weight_decay if decay == "decoupled" and (decay_layers is None or n in decay_layers) else 0.0
            W = W - lr * (velocity[n] + rate * W)
            with torch.no_grad():
                layer.weight.copy_(W[:, : layer.weight[0].numel()].view_as(layer.weight))
                if layer.bias is not None:
                    layer.bias.copy_(W[:, -1])


def places(model):
    """For each layer, where the entries of its joint weight, row by row, stand in the vector of all parameters."""
    numbers, start = {}, 0
    for parameter in model.parameters():
        numbers[parameter] = torch.arange(start, start + parameter.numel()).view(len(parameter), -1)
        start += parameter.numel()
    return {
        n: torch.cat([numbers[p] for p in (m.weight, m.bias) if p is not None], 1).flatten()
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    }


def joint(layer, of=None):
    """Weights (or their gradients) as a matrix, with the bias as last column."""
    weight, bias = (p if p is None or of is None else p.grad for p in (layer.weight, layer.bias))
    weight = weight.detach().flatten(1).clone()
    return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)


def draw(*shape, seed=0):
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomised(model, seed=0):
    """The model in float64 with every parameter, biases too, drawn from N(0, 1/4)."""
    model, generator = model.double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    return model
