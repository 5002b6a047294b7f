"""RevGRU and RevLSTM, with the interface of ``torch.nn.GRU`` and ``torch.nn.LSTM``.

Paper: arXiv 1810.10999. Chapter: ``book/reversible_rnn.ipynb``.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nnlib.arguments import one_of, seeded, shown, typed, whole, within
from nnlib.reversible_rnn.cells import GRU, LSTM, Cell
from nnlib.reversible_rnn.fixed_point import GATE_BITS
from nnlib.reversible_rnn.plan import Layers
from nnlib.reversible_rnn.sequence import ReversibleSequence
from nnlib.reversible_rnn.stored import stored_sequence


@typed
class _ReversibleRNN(nn.Module):
    """What RevGRU and RevLSTM share; ``cell`` says which."""

    cell: Cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bits: int | None = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        keep: int | None = None,
        reversible: bool = True,
        check: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, input_size=input_size, num_layers=num_layers)
        whole(2, hidden_size=hidden_size)
        if hidden_size % 2:
            raise ValueError(f"hidden_size must be even: got {hidden_size}")
        if bits is not None:
            whole(0, GATE_BITS, bits=bits)
        if keep is not None:
            whole(0, hidden_size // 2, keep=keep)
        within("[0, 1)", dropout=dropout, weight_drop=weight_drop)
        dtype = dtype or torch.get_default_dtype()
        one_of((torch.float32, torch.float64), dtype=dtype)
        generator = seeded(seed)
        self.input_size, self.hidden_size, self.num_layers, self.bits = input_size, hidden_size, num_layers, bits
        self.batch_first, self.dropout, self.weight_drop = batch_first, dropout, weight_drop
        self.keep, self.reversible, self.check = keep, reversible, check
        self.count = False  # whether the buffers add up what is forgotten: paper_memory asks for it
        self.weights = nn.ParameterList()
        self.plan: Layers | None = None  # of the last call: its buffers tell what was stored
        scale, n = 1 / math.sqrt(hidden_size), hidden_size // 2
        for layer in range(num_layers):
            inputs = (input_size if layer == 0 else hidden_size) + n
            for update in self.cell.updates:
                for rows in update.rows:
                    for shape in ((rows * n, inputs), (rows * n,)):
                        drawn = torch.empty(shape, dtype=torch.float64, device="cpu")
                        drawn.uniform_(-scale, scale, generator=generator)
                        self.weights.append(nn.Parameter(drawn.to(device, dtype)))

    def _sequence(self, x: Tensor, states: list[list[Tensor]], alive: Tensor | None, generator) -> tuple[Tensor, ...]:
        """Outputs (T, B, H), and the last states by layer and part, flat."""
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"input must be float32 or float64, for gates must be computed alike twice: got {x.dtype}")
        if torch.is_autocast_enabled(x.device.type):
            raise RuntimeError("autocast may compute a gate otherwise on the way back: switch it off here")
        weights = list(self.weights)
        if self.training and self.weight_drop:  # once a sequence, on the columns that the hidden state meets
            n = self.hidden_size // 2
            weights = [self._dropped(w, n, generator) if w.ndim == 2 else w for w in weights]
        between = None
        if self.training and self.dropout:
            shape = (x.shape[1], self.hidden_size)
            between = [_mask(x, shape, self.dropout, generator) for _ in range(self.num_layers - 1)]
        self.plan = Layers(
            self.cell, self.bits, self.num_layers, between, alive, self.keep, count=self.count, check=self.check
        )
        run = ReversibleSequence.apply if self.reversible else stored_sequence
        return run(self.plan, x, *(part for parts in states for part in parts), *weights)

    def _dropped(self, weight: Tensor, n: int, generator) -> Tensor:
        mask = _mask(weight, (len(weight), n), self.weight_drop, generator)
        return torch.cat([weight[:, :-n], weight[:, -n:] * mask], 1)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and saved: not the buffers of the last call."""
        return self.__dict__ | {"plan": None}

    def _prepared(self, input: Tensor | PackedSequence) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Inputs (T, B, input_size), which examples are alive (T, B), and the lengths of a packed sequence."""
        fit_input(input, self.input_size, self.weights[0].dtype, self.batch_first)
        if isinstance(input, Tensor):  # (T, d) is one sequence without a batch
            x = input[:, None] if input.ndim == 2 else input.transpose(0, 1) if self.batch_first else input
            return x, None, None
        x, lengths = pad_packed_sequence(input)
        steps = torch.arange(len(x), device=x.device)
        return x, steps[:, None] < lengths.to(x.device), lengths

    def _shown(self, x: Tensor | PackedSequence, output: Tensor, lengths: Tensor | None) -> Tensor | PackedSequence:
        """The output in the form of the input; zero after the end of an example."""
        if not isinstance(x, PackedSequence):
            if x.ndim == 2:
                return output[:, 0]
            return output.transpose(0, 1) if self.batch_first else output
        if not output.shape[2]:  # torch packs no empty tensor
            return PackedSequence(x.data[:, :0], *x[1:])
        assert lengths is not None  # those of the packed input
        order = x.sorted_indices  # the longest first; None where the batch came in this order
        if order is not None:
            output, lengths = output[:, order], lengths[order.cpu()]
        return PackedSequence(pack_padded_sequence(output, lengths).data, *x[1:])

    def _start(self, input: Tensor | PackedSequence, x: Tensor, given: Tensor | None, name: str) -> Tensor:
        """States (L, B, H), zero by default."""
        shape = (self.num_layers, x.shape[1], self.hidden_size)
        if given is None:
            return x.new_zeros(shape)
        alone = isinstance(input, Tensor) and input.ndim == 2
        fit_state(given, name, (shape[0], shape[2]) if alone else shape, x.dtype)
        return given.view(shape) if alone else given

    @staticmethod
    def _last(input: Tensor | PackedSequence, state: Tensor) -> Tensor:
        """Last states (L, B, H), or (L, H) for one sequence without a batch."""
        return state[:, 0] if isinstance(input, Tensor) and input.ndim == 2 else state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bits={self.bits}"


class RevGRU(_ReversibleRNN):
    """A gated recurrent unit that runs backwards exactly: h1 <- z1 h1 + (1 - z1) g1, then h2 from the new h1.

    Its backward pass restores the states of all steps from the last one, with the help of the bits that its gates
    forgot; so it stores those bits in the place of the states.

    Args:
        input_size: Number of inputs d.
        hidden_size: H, even; each half of the state has n = H / 2 units.
        num_layers: L.
        bits: The most bits that a unit forgets in a step, 0 (never) to 10; None for no limit but the format's.
        batch_first: Whether inputs and outputs are (B, T, .) in the place of (T, B, .).
        dropout: On the outputs of all layers but the last, one mask for a whole sequence.
        weight_drop: On the weights from state to gates, one mask for a whole sequence.
        keep: None for the output of torch.nn.GRU, (T, B, H). A number s, 0 to n, for an output (T, B, s) with only
            the first s units of h1 of the last layer: what an attention mechanism may look at. They are stored, and
            so need no buffer.
        reversible: False stores every state, as autograd does: the same outputs and gradients, to compare with.
        check: Keep all states too, and name the first step that is restored differently. Costs their memory.
        seed: Of the initialisation, U(-1/sqrt(H), 1/sqrt(H)).
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for a size or a rate out of range.

    Source: arXiv 1810.10999, sections 2.1 and 3. Chapter: ``book/reversible_rnn.ipynb``.

    >>> rnn = RevGRU(3, 8, num_layers=2, bits=3)
    >>> output, last = rnn(torch.ones(5, 2, 3))
    >>> output.shape, last.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 8]))
    """

    cell = GRU

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Outputs of the last layer and the last states, as from ``torch.nn.GRU``.

        Args:
            input: (T, B, d), or (B, T, d) with ``batch_first``, or (T, d) without a batch, or packed. B may be 0. An
                example's output depends on its batch by rounding: products of matrices are summed in another order, and
                a gate may then be another multiple of 1/1024.
            hx: First states h_0, (L, B, H), or (L, H) without a batch; by default zero. Rounded to multiples of 2^-23.
            generator: Of the dropout masks, on the device of ``input``; by default torch's global one.

        Returns:
            (T, B, H) or as ``input`` is, and (L, B, H), or (L, H) without a batch.

        Raises:
            ReversalError: in the backward pass, where it does not meet the states of the forward pass.
            TypeError: for inputs that are not float32 or float64, or in another dtype than the weights.
            ValueError: for another shape, numbers that are not finite, or states that may leave the format,
                |h| >= 2^29. (The published code keeps 32-bit states, which an LSTM's cell leaves at |c| = 256.)
        """
        inputs, alive, lengths = self._prepared(input)
        h = self._start(input, inputs, hx, "h_0")
        states = [list(part.chunk(2, 1)) for part in h]
        output, *last = self._sequence(inputs, states, alive, generator)
        h_n = torch.stack([torch.cat(last[i : i + 2], 1) for i in range(0, len(last), 2)])
        return self._shown(input, output, lengths), self._last(input, h_n)


class RevLSTM(_ReversibleRNN):
    """A long short-term memory that runs backwards exactly, with a gate p on the output state too.

    c1 <- z1 c1 + f1 g1;   h1 <- p1 h1 + o1 tanh(c1);   then c2 and h2 from the new h1.

    Args: see :class:`RevGRU`.

    Source: arXiv 1810.10999, section 2.2. Chapter: ``book/reversible_rnn.ipynb``.

    >>> rnn = RevLSTM(3, 8, bits=3)
    >>> output, (h, c) = rnn(torch.ones(5, 2, 3))
    >>> output.shape, h.shape, c.shape
    (torch.Size([5, 2, 8]), torch.Size([1, 2, 8]), torch.Size([1, 2, 8]))
    """

    cell = LSTM

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Outputs of the last layer and the last (h, c), as from ``torch.nn.LSTM``; see :meth:`RevGRU.forward`."""
        inputs, alive, lengths = self._prepared(input)
        if hx is not None and not (isinstance(hx, tuple | list) and len(hx) == 2):
            raise TypeError(f"hx, the state, must be a pair (h_0, c_0): got {shown(hx)}")
        h_0, c_0 = (None, None) if hx is None else hx
        h = self._start(input, inputs, h_0, "h_0")
        c = self._start(input, inputs, c_0, "c_0")
        halves = zip((p.chunk(2, 1) for p in h), (p.chunk(2, 1) for p in c), strict=True)
        states = [[h1, c1, h2, c2] for (h1, h2), (c1, c2) in halves]
        output, *last = self._sequence(inputs, states, alive, generator)
        h_n = torch.stack([torch.cat([last[i], last[i + 2]], 1) for i in range(0, len(last), 4)])
        c_n = torch.stack([torch.cat([last[i + 1], last[i + 3]], 1) for i in range(0, len(last), 4)])
        return self._shown(input, output, lengths), (self._last(input, h_n), self._last(input, c_n))


def fit_input(input: Tensor | PackedSequence, features: int, dtype: torch.dtype, batch_first: bool = False) -> None:
    """Refuse an input that is no sequence of such features, nor a batch of such, by shape and dtype."""
    if not isinstance(input, Tensor | PackedSequence):
        raise TypeError(f"input must be a tensor or a PackedSequence: got {shown(input)}")
    data, axes = (input, (2, 3)) if isinstance(input, Tensor) else (input.data, (2,))
    steps = data.shape[1 if batch_first and data.ndim == 3 else 0] if data.ndim else 0
    if data.ndim not in axes or data.shape[-1] != features or not steps:
        raise ValueError(
            f"input must be a sequence of at least one step, or a batch of such, with {features} features: got shape "
            f"{tuple(data.shape)}"
        )
    if data.dtype != dtype and not torch.is_autocast_enabled(data.device.type):
        raise TypeError(f"input must be {dtype}, as the weights are: got {data.dtype}")


def fit_state(state: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse first states of another shape, (layers, batch, hidden) or (layers, hidden) without a batch, or dtype."""
    if not isinstance(state, Tensor):
        raise TypeError(f"hx, the state: {name} must be a tensor: got {shown(state)}")
    if state.shape != shape:
        axes = "(layers, batch, hidden)" if len(shape) == 3 else "(layers, hidden)"
        raise ValueError(
            f"hx, the state: {name} must have shape {axes} = {shape} for this input or these tokens: got "
            f"{tuple(state.shape)}"
        )
    if state.dtype != dtype:
        raise TypeError(f"hx, the state: {name} must be {dtype}, as the input is: got {state.dtype}")


def variational_dropout(x: Tensor, rate: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """One dropout mask for all steps of a sequence, so that the way back meets the masks of the way forward.

    Args:
        x: (T, ...).
        rate: Share of zeros, in [0, 1).
        training: False returns x.
        generator: On the device of x.

    Source: arXiv 1512.05287, section 4. Chapter: ``book/reversible_rnn.ipynb``.

    >>> x = variational_dropout(torch.ones(3, 100), 0.5, True)
    >>> torch.equal(x[0], x[2]), sorted(set(x[0].tolist()))
    (True, [0.0, 2.0])
    """
    return x * _mask(x, x.shape[1:], rate, generator) if training and rate else x


def _mask(like: Tensor, shape: tuple[int, ...], rate: float, generator) -> Tensor:
    """Zero with probability ``rate``, else 1 / (1 - rate)."""
    keep = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device) >= rate
    return keep.to(like.dtype) / (1 - rate)
