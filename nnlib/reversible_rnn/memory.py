"""How much is kept for the backward pass? Counted as the paper counts, and as bytes of tensors that are really held.

Paper: arXiv 1810.10999, section 5. Chapter: ``book/reversible_rnn.ipynb``.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from nnlib.arguments import shown, typed
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM


class PaperMemory(NamedTuple):
    """The paper's accounting, in bits, of the states of one forward pass.

    Args:
        states: 32 bits for each number of the state and step, as ordinary backpropagation stores them.
        stored: The buffers: 64 bits a word, with the words put aside, and a flag for each multiplication; and 32 bits
            for each unit that is kept for attention, at each step.
        ideal: What was forgotten, the sum of -log2 z over all multiplications, and what is kept.
    """

    states: int
    stored: int
    ideal: float

    @property
    def ratio(self) -> float:
        """How many times less is stored."""
        return self.states / self.stored


@typed
def paper_memory(rnn: RevGRU | RevLSTM, input: Tensor) -> PaperMemory:
    """The paper's accounting of a forward pass from zero states, in the module's present mode.

    Ratios of an untrained network say nothing: it forgets less than a trained one.

    Args:
        rnn: RevGRU or RevLSTM.
        input: As the module wants it, not packed.

    Raises:
        TypeError: for another module, or an input that is no tensor.
        ValueError: for an input that the module refuses.

    Source: arXiv 1810.10999, section 5. Chapter: ``book/reversible_rnn.ipynb``.

    >>> memory = paper_memory(RevGRU(3, 8, bits=2), torch.ones(50, 4, 3))
    >>> memory.states, memory.ideal < memory.stored < memory.states
    (51200, True)
    """
    rnn.count = True
    try:
        with torch.no_grad():
            output, last = rnn(input)
    finally:
        rnn.count = False
    assert rnn.plan is not None  # there was a forward pass
    buffers = list(rnn.plan.buffers.values())
    # (L, B, H) for h, and for the c of an LSTM: the states of a step
    units = sum(part.numel() for part in (last if isinstance(last, tuple) else (last,)))
    kept = 0 if rnn.keep is None else 32 * output.numel()
    steps = output.shape[1] if rnn.batch_first and input.ndim == 3 else len(output)
    stored = sum(b.stored_bits() for b in buffers)
    return PaperMemory(32 * steps * units, stored + kept, sum(b.forgotten for b in buffers) + kept)


class HeldBytes(NamedTuple):
    """Bytes that wait for the backward pass, parameters left out.

    Args:
        activations: What only the backward pass needs.
        output: The output (T, B, H), which the caller holds too.
        inputs: The input.
    """

    activations: int
    output: int
    inputs: int

    @property
    def with_output(self) -> int:
        """As a module with the interface of ``torch.nn.GRU`` can have it at best."""
        return self.activations + self.output

    @property
    def with_all(self) -> int:
        """The input counted too."""
        return self.activations + self.output + self.inputs


@typed
def held_bytes(rnn: nn.Module, input: Tensor) -> HeldBytes:
    """Count the tensors that a forward pass leaves for its backward pass, each storage once.

    Args:
        rnn: RevGRU, RevLSTM, or any module whose first result is the output: ``torch.nn.GRU``, ``torch.nn.LSTM``.
        input: As the module wants it, not packed.

    Raises:
        TypeError: for an input that is no tensor, or a module that returns no pair of an output and a state.
        ValueError: for an input that the module refuses.

    Source: arXiv 1810.10999, section 5, says what the paper counts. Chapter: ``book/reversible_rnn.ipynb``.

    >>> small, large = (held_bytes(RevGRU(3, 8, reversible=r), torch.ones(50, 4, 3)) for r in (True, False))
    >>> small.activations < large.activations, small.output == large.output
    (True, True)
    """
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        found = rnn(input)
    if not isinstance(found, tuple) or not isinstance(found[0], Tensor):
        raise TypeError(f"rnn must return a pair, an output and a state: got {shown(found)}")
    output = found[0]
    if isinstance(rnn, RevGRU | RevLSTM) and rnn.reversible and rnn.plan is not None:
        kept += rnn.plan.tensors()
    apart = {id(output): output, id(input): input} | {id(p): p for p in rnn.parameters()}
    places = {t.untyped_storage().data_ptr() for t in apart.values()}
    activations = _bytes(t for t in kept if t.untyped_storage().data_ptr() not in places)
    return HeldBytes(activations, _bytes([output]), _bytes([input]))


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of the storages, each once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
