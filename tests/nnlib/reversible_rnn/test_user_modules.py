"""RevGRU and RevLSTM in the place of torch.nn.GRU and torch.nn.LSTM: the same calls, shapes and refusals."""

import copy
import io

import pytest
import torch
from torch import nn

from nnlib.reversible_rnn import RevGRU, RevLSTM, paper_memory

PAIRS = [(RevGRU, nn.GRU), (RevLSTM, nn.LSTM)]
IDS = ["gru", "lstm"]
NAN = float("nan")


def parts(result):
    """Output and last states, flat."""
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


def first(kind, *shape, seed=0):
    """First states of this shape, as the kind of module wants them."""
    generator = torch.Generator().manual_seed(seed)
    h, c = (torch.randn(shape, generator=generator) for _ in range(2))
    return (h, c) if kind in (RevLSTM, nn.LSTM) else h


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=IDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("batch", [None, 0, 1, 4])
@pytest.mark.parametrize("state", ["none", "keyword", "position"])
def test_shapes_are_those_of_torch(ours, theirs, batch_first, layers, batch, state):
    """Breaks if a batch without examples, or a sequence without a batch, is another thing than for torch."""
    shape = {None: (5, 3)}.get(batch, (batch, 5, 3) if batch_first else (5, batch, 3))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    hx = first(ours, *((layers, 6) if batch is None else (layers, batch, 6)))
    args, kwargs = {"none": ((x,), {}), "keyword": ((), {"input": x, "hx": hx}), "position": ((x, hx), {})}[state]
    found, expected = (parts(kind(3, 6, layers, batch_first=batch_first)(*args, **kwargs)) for kind in (ours, theirs))
    assert [t.shape for t in found] == [t.shape for t in expected]
    module = ours(3, 6, layers, batch_first=batch_first)
    sum(t.sum() for t in parts(module(*args, **kwargs))).backward()
    assert x.grad.shape == x.shape
    assert all((p.grad == 0).all() if batch == 0 else p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(("kind", "_"), PAIRS, ids=IDS)
@pytest.mark.parametrize("reversible", [True, False])
def test_a_sequence_without_a_batch_is_a_batch_of_one(kind, _, reversible):
    """Values and gradients; breaks if the axis of the batch is taken for that of time."""
    module = kind(3, 6, 2, bits=2, reversible=reversible, dtype=torch.float64)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    hx = first(kind, 2, 6)
    hx = tuple(t.double() for t in hx) if isinstance(hx, tuple) else hx.double()
    wide = tuple(t[:, None] for t in hx) if isinstance(hx, tuple) else hx[:, None]
    alone, batch = parts(module(x, hx)), [t[:, 0] for t in parts(module(x[:, None], wide))]
    found = []
    for outputs in (alone, batch):
        found.append(torch.autograd.grad(sum(t.square().sum() for t in outputs), list(module.parameters())))
    for one, other in (*zip(alone, batch, strict=True), *zip(*found, strict=True)):
        assert torch.equal(one, other)
    if kind is RevGRU:
        assert torch.equal(module(x, hx=hx)[0], module(x, hx)[0])
    memory = paper_memory(module, x)
    assert memory.states == 32 * 7 * sum(t.numel() for t in alone[1:])


@pytest.mark.parametrize(("kind", "_"), PAIRS, ids=IDS)
@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("keep", [None, 2])
def test_a_batch_without_examples_passes_through(kind, _, reversible, keep):
    module = kind(3, 6, 2, bits=1, reversible=reversible, keep=keep, dropout=0.2, weight_drop=0.2, check=reversible)
    x = torch.zeros(60, 0, 3, requires_grad=True)
    output, _ = module(x)
    assert output.shape == (60, 0, 6 if keep is None else keep)
    output.sum().backward()
    assert all((p.grad == 0).all() for p in module.parameters())


@pytest.mark.parametrize(("kind", "_"), PAIRS, ids=IDS)
def test_what_is_saved_and_copied_holds_no_buffers(kind, _):
    """Breaks if a saved module grows with the sequence that it saw: 142 kB for 31 kB of weights before."""
    module = kind(4, 8, 2, bits=2)

    def size(module):
        file = io.BytesIO()
        torch.save(module, file)
        return file.tell(), file

    before, _ = size(module)
    keys = list(module.state_dict())
    output, _ = module(torch.randn(500, 6, 4))
    after, file = size(module)
    assert after <= before + 100 and list(module.state_dict()) == keys
    assert copy.deepcopy(module).plan is None and module.plan is not None
    output.sum().backward()  # the buffers of the call are still there
    file.seek(0)
    again, x = torch.load(file, weights_only=False), torch.randn(9, 2, 4)
    assert torch.equal(again(x)[0], module(x)[0])


BAD = {  # what is given, the error, and what it says
    "hx as a list": (lambda k: {"hx": [torch.zeros(1, 2, 6)]}, TypeError, r"hx"),
    "hx as a number": (lambda k: {"hx": 1.0}, TypeError, r"hx"),
    "hx of another size": (lambda k: {"hx": first(k, 1, 3, 6)}, ValueError, r"h_0 must have shape .*\(1, 2, 6\)"),
    "hx without a batch": (lambda k: {"hx": first(k, 1, 6)}, ValueError, r"h_0 must have shape .*\(1, 2, 6\)"),
    "hx of another dtype": (lambda k: {"hx": double(first(k, 1, 2, 6))}, TypeError, r"h_0 must be torch.float32"),
    "hx that is no number": (
        lambda k: {"hx": scaled(first(k, 1, 2, 6), NAN)},
        ValueError,
        "hx.* must be finite",
    ),
    "hx too large": (
        lambda k: {"hx": scaled(first(k, 1, 2, 6), 1e12)},
        ValueError,
        "fixed-point format",
    ),
    "input of another dtype": (
        lambda k: {"input": torch.zeros(5, 2, 3).double()},
        TypeError,
        r"be torch.float32",
    ),
    "whole numbers": (lambda k: {"input": torch.zeros(5, 2, 3).long()}, TypeError, "input must be torch.float32"),
    "half precision": (lambda k: {"input": torch.zeros(5, 2, 3).half()}, TypeError, "input must be torch.float32"),
    "a list": (lambda k: {"input": [[1.0]]}, TypeError, "input must be a tensor"),
    "other features": (lambda k: {"input": torch.zeros(5, 2, 4)}, ValueError, r"3 features: got shape \(5, 2, 4\)"),
    "no step": (lambda k: {"input": torch.zeros(0, 2, 3)}, ValueError, r"at least one step.*\(0, 2, 3\)"),
    "one dimension": (lambda k: {"input": torch.zeros(3)}, ValueError, r"got shape \(3,\)"),
    "four dimensions": (lambda k: {"input": torch.zeros(1, 5, 2, 3)}, ValueError, r"got shape \(1, 5, 2, 3\)"),
    "numbers that are none": (
        lambda k: {"input": torch.full((5, 2, 3), NAN)},
        ValueError,
        "must be finite",
    ),
}


def double(hx):
    return tuple(t.double() for t in hx) if isinstance(hx, tuple) else hx.double()


def scaled(hx, factor):
    return tuple(t * factor for t in hx) if isinstance(hx, tuple) else hx * factor


@pytest.mark.parametrize(("kind", "_"), PAIRS, ids=IDS)
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(kind, _, name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        kind(3, 6)(**({"input": torch.zeros(5, 2, 3)} | make(kind)))
