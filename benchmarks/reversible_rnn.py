"""What does a reversible network save and cost, against autograd, checkpointing and torch's own cells? One thread.

    OMP_NUM_THREADS=1 python benchmarks/reversible_rnn.py

For each length: bytes that wait for the backward pass (with the output, without the input) and seconds of a forward and
a backward pass, both as multiples of RevGRU's or RevLSTM's own. Cells are freshly initialised, and gates are biased so
that they forget about as much as trained ones; times are measured in turns, the smallest of several rounds.
"""

import math
import platform
import time

import pandas as pd
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from nnlib.reversible_rnn import RevGRU, RevLSTM, held_bytes, paper_memory
from nnlib.reversible_rnn.language_model import recurrent

INPUTS, HIDDEN, BATCH, BITS = 64, 128, 16, 3
LENGTHS = (70, 250, 1000)
ROUNDS = 2


def trained_like(rnn):
    """Move the biases of the gates that forget, so that they forget about two bits of at most three."""
    with torch.no_grad():
        for weight in rnn.weights:
            if weight.ndim == 1 and len(weight) > rnn.hidden_size // 2:  # gates; the first n of them are z
                weight[: rnn.hidden_size // 2] -= 2.0
    return rnn


class Checkpointed(torch.nn.Module):
    """The same cell under autograd, in pieces of sqrt(T) steps that are run again on the way back."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        piece, state, outputs = math.isqrt(len(x)), None, []
        for part in x.split(piece):
            output, state = checkpoint(self.rnn, part, state, use_reentrant=False)
            outputs.append(output)
        return torch.cat(outputs), state


def held(rnn, x):
    """Bytes with the output. Under checkpointing also those of the piece that is run again."""
    if not isinstance(rnn, Checkpointed):
        return held_bytes(rnn, x).with_output
    kept = {}
    with saved_tensors_hooks(lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t):
        output, _ = rnn(x)
    parameters = {p.untyped_storage().data_ptr() for p in rnn.parameters()} | {x.untyped_storage().data_ptr()}
    outside = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in parameters)
    states = 4 * BATCH * HIDDEN * math.isqrt(len(x))  # at the border of each piece
    inside = held_bytes(rnn.rnn, x[: math.isqrt(len(x))]).activations
    return max(outside, states) + inside + 4 * output.numel()


def seconds(rnn, x):
    """Of a forward and a backward pass."""
    start = time.perf_counter()
    output, _ = rnn(x)
    torch.autograd.grad(output.sum(), list(rnn.parameters()))
    return time.perf_counter() - start


def compare(kind, length):
    """One row a way to train."""
    make = RevGRU if kind == "RevGRU" else RevLSTM
    x = torch.randn(length, BATCH, INPUTS, generator=torch.Generator().manual_seed(0))
    ways = {
        "run backwards": trained_like(make(INPUTS, HIDDEN, bits=BITS)),
        "autograd": trained_like(make(INPUTS, HIDDEN, bits=BITS, reversible=False)),
        "checkpoints": Checkpointed(trained_like(make(INPUTS, HIDDEN, bits=BITS, reversible=False))),
        f"torch.nn.{kind[3:]}": recurrent(kind[3:], INPUTS, HIDDEN),
    }
    bytes_held = {name: held(rnn, x) for name, rnn in ways.items()}
    times = dict.fromkeys(ways, math.inf)
    for _ in range(ROUNDS):
        for name, rnn in ways.items():
            times[name] = min(times[name], seconds(rnn, x))
    ours = "run backwards"
    return [
        {
            "cell": kind,
            "steps": length,
            "way": name,
            "memory, times ours": bytes_held[name] / bytes_held[ours],
            "time, times ours": times[name] / times[ours],
        }
        for name in ways
    ]


def wide():
    """Time of RevGRU over the same cell under autograd, at batch 64 and 512 units."""
    x = torch.randn(70, 64, 512, generator=torch.Generator().manual_seed(0))
    rnns = [trained_like(RevGRU(512, 512, bits=BITS, reversible=r)) for r in (True, False)]
    times = [math.inf, math.inf]
    for _ in range(ROUNDS):
        times = [min(t, seconds(rnn, x)) for t, rnn in zip(times, rnns, strict=True)]
    return times[0] / times[1]


def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread")
    model = trained_like(RevGRU(INPUTS, HIDDEN, bits=BITS))
    counted = paper_memory(model, torch.randn(70, BATCH, INPUTS, generator=torch.Generator().manual_seed(0)))
    print(f"bits forgotten a unit and step: {32 * counted.ideal / counted.states:.2f} of at most {BITS}")
    rows = [row for kind in ("RevGRU", "RevLSTM") for length in LENGTHS for row in compare(kind, length)]
    print(f"\nhidden {HIDDEN}, batch {BATCH}; bytes with output, without input")
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    print(f"\nRevGRU over autograd, batch 64, hidden 512, 70 steps: {wide():.2f} times the time")


if __name__ == "__main__":
    main()
