"""Structured pruning, slowly and obviously: dense matrices, one constraint, one example, one mask at a time."""

import torch
from torch import nn


def cheapest_change(F, w, pruned):
    """min v'Fv/2 subject to v = -w where pruned, by its optimality conditions: F v = E'mu, E v = -w_P."""
    places = pruned.nonzero()[:, 0]
    E = torch.zeros(len(places), len(w), dtype=w.dtype)
    E[range(len(places)), places] = 1
    zero = torch.zeros(len(places), len(places), dtype=w.dtype)
    system = torch.cat([torch.cat([F, E.T], 1), torch.cat([E, zero], 1)])
    right = torch.cat([torch.zeros_like(w), -w[places]])
    return torch.linalg.solve(system, right)[: len(w)]


def rise(F, v):
    """v'Fv/2."""
    return v @ F @ v / 2


def importance(W, Q_S, Q_A, values):
    """Theta, entry by entry and offset by offset, from values (out, in, offsets)."""
    taps = W.flatten(2) if W.ndim > 2 else W[:, :, None]
    theta = torch.zeros(W.shape[:2], dtype=W.dtype)
    for t in range(taps.shape[2]):
        for a in range(len(Q_S)):
            for b in range(len(Q_A)):
                coordinate = Q_S[:, a] @ taps[:, :, t] @ Q_A[:, b]
                theta[a, b] += coordinate**2 * values[a, b, t] / 2
    return theta


def channel_factors(model, name, x):
    """A (in, in) over channels, examples, positions and offsets, and S (out, out), of a convolution without padding.

    One class at a time, one example at a time.
    """
    layer = dict(model.named_modules())[name]
    k = layer.kernel_size[0]
    A, S, count = 0.0, 0.0, 0
    for example in x:
        kept = {}
        handle = layer.register_forward_hook(lambda m, args, out, kept=kept: kept.update(x=args[0][0], s=out))
        outputs = model(example[None])[0]
        handle.remove()
        _, height, width = kept["x"].shape
        for i in range(0, height - k + 1, layer.stride[0]):
            for j in range(0, width - k + 1, layer.stride[1]):
                for p in range(k):
                    for q in range(k):
                        pixel = kept["x"][:, i + p, j + q].detach()
                        A = A + torch.outer(pixel, pixel)
                        count += 1
        p = outputs.softmax(0).detach()
        for c in range(len(outputs)):
            (ds,) = torch.autograd.grad(-outputs.log_softmax(0)[c], kept["s"], retain_graph=True)
            rows = ds[0].flatten(1)  # (out, positions)
            S = S + p[c] * rows @ rows.T
    return A / count, S / len(x)


def masked(model, kept, joined=()):
    """Hooks that make the pruned filters' channels zero behind each layer of ``kept`` and module of ``joined``.

    Both map names to the channels that are present there; ``joined`` is for what follows: normalisations, activations.
    """
    modules = dict(model.named_modules())
    for name, mask in {**kept, **dict(joined)}.items():
        modules[name].register_forward_hook(
            lambda module, args, out, mask=mask: out * mask.view(1, -1, *[1] * (out.ndim - 2)).to(out.dtype)
        )
    return model


def randomise_norms(model, seed=0):
    """Running statistics, scales and shifts that are not 0 and 1: what a fresh network has hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                n = layer.num_features
                layer.running_mean.copy_(0.3 * torch.randn(n, generator=generator))
                layer.running_var.copy_(0.5 + torch.rand(n, generator=generator))
                if layer.affine:
                    layer.weight.copy_(0.5 + torch.rand(n, generator=generator))
                    layer.bias.copy_(0.3 * torch.randn(n, generator=generator))
    return model
