"""Slow, obvious versions of ``nnlib.reversible_rnn``: Python's whole numbers, and autograd that keeps every state."""

import torch
from torch.nn.functional import linear

R_H, R_Z = 2**23, 2**10


def multiply(h: int, z: int, buffer: int) -> tuple[int, int]:
    buffer = buffer * R_Z + h % R_Z
    h = (h // R_Z) * z + buffer % z
    return h, buffer // z


def unmultiply(h: int, z: int, buffer: int) -> tuple[int, int]:
    buffer = buffer * z + h % z
    h = (h // z) * R_Z + buffer % R_Z
    return h, buffer // R_Z


class Tape:
    """Fixed-point arithmetic on float64 tensors under autograd; the buffer is one Python number a unit."""

    def __init__(self):
        self.buffers = {}

    def fixed(self, value):
        """Rounded to a multiple of 2^-23; the gradient passes."""
        return value + ((value.detach() * R_H).round() / R_H - value.detach())

    def times(self, h, z):
        """z h as the reversible multiplication gives it; derivatives z by h and h by z."""
        buffers = self.buffers.setdefault(h.shape, [0] * h.numel())
        if max(buffers) >= 2**53:
            buffers[:] = [0] * h.numel()
        new = []
        for i, (a, b) in enumerate(zip(h.detach().flatten().tolist(), z.detach().flatten().tolist(), strict=True)):
            value, buffers[i] = multiply(round(a * R_H), round(b * R_Z), buffers[i])
            new.append(value / R_H)
        exact = torch.tensor(new, dtype=h.dtype).view_as(h)
        product = z * h
        return product + (exact - product.detach())


def gate(logits, bits):
    least = 0.0 if bits is None else 2.0**-bits
    z = least + (1 - least) * logits.sigmoid()
    return z + ((z.detach() * R_Z).round().clamp(1, R_Z) / R_Z - z.detach())


def gru(rnn, x, h, lengths=None):
    """Outputs and last states of a RevGRU; h is (L, B, H)."""
    tape, n, layers = Tape(), rnn.hidden_size // 2, rnn.num_layers
    states = [[tape.fixed(h[i][:, :n]), tape.fixed(h[i][:, n:])] for i in range(layers)]
    weights = list(rnn.weights)
    outputs = []
    for t, below in enumerate(x):
        alive = torch.ones(len(below), dtype=torch.bool) if lengths is None else lengths > t
        for layer in range(layers):
            s = states[layer]
            for half in (0, 1):
                W, b, U, c = weights[8 * layer + 4 * half : 8 * layer + 4 * half + 4]
                other = s[1 - half]
                zr = linear(torch.cat([below, other], 1), W, b)
                logit, r = zr[:, :n], zr[:, n:].sigmoid()
                g = torch.tanh(linear(torch.cat([below, r * other], 1), U, c))
                if rnn.bits == 0:
                    z, u = torch.ones_like(g), (1 - logit.sigmoid()) * g
                else:
                    z = gate(logit, rnn.bits)
                    u = (1 - z) * g
                z = torch.where(alive[:, None], z, torch.ones_like(z))
                u = torch.where(alive[:, None], u, torch.zeros_like(u))
                s[half] = tape.times(s[half], z) + tape.fixed(u)
            below = torch.cat(s, 1)
        outputs.append(below)
    return torch.stack(outputs), torch.stack([torch.cat(s, 1) for s in states])


def lstm(rnn, x, h, c):
    """Outputs and last (h, c) of a RevLSTM; h and c are (L, B, H)."""
    tape, n, layers = Tape(), rnn.hidden_size // 2, rnn.num_layers
    hs = [[tape.fixed(h[i][:, :n]), tape.fixed(h[i][:, n:])] for i in range(layers)]
    cs = [[tape.fixed(c[i][:, :n]), tape.fixed(c[i][:, n:])] for i in range(layers)]
    weights, outputs = list(rnn.weights), []
    for below in x:
        for layer in range(layers):
            for half in (0, 1):
                W, b, V, d = weights[8 * layer + 4 * half : 8 * layer + 4 * half + 4]
                other = hs[layer][1 - half]
                z, f, g = linear(torch.cat([below, other], 1), W, b).split(n, 1)
                cs[layer][half] = tape.times(cs[layer][half], gate(z, rnn.bits)) + tape.fixed(f.sigmoid() * g.tanh())
                p, o = linear(torch.cat([below, other], 1), V, d).split(n, 1)
                u = tape.fixed(o.sigmoid() * cs[layer][half].tanh())
                hs[layer][half] = tape.times(hs[layer][half], gate(p, rnn.bits)) + u
            below = torch.cat(hs[layer], 1)
        outputs.append(below)
    return torch.stack(outputs), torch.stack([torch.cat(s, 1) for s in hs]), torch.stack([torch.cat(s, 1) for s in cs])
