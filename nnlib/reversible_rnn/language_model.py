"""What does a reversible network cost as a language model? The same model around four recurrent networks.

Word (or character) in, distribution of the next one out: embedding, recurrent layers, a linear map. Every dropout mask
is drawn once for a whole sequence, so that a network that runs backwards meets the masks it met on the way forward.
Paper: arXiv 1810.10999, section 5.1. Chapter: ``book/reversible_rnn.ipynb``.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import embedding, linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nnlib.arguments import one_of, seeded, shown, typed, whole, within
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM, _mask, fit_input, fit_state, variational_dropout

KINDS = ("RevGRU", "RevLSTM", "GRU", "LSTM")
State = Tensor | tuple[Tensor, Tensor]


@typed
class Stored(nn.Module):
    """``torch.nn.GRU`` or ``torch.nn.LSTM`` with the dropout of :class:`RevGRU`: one mask for a whole sequence.

    Args:
        kind: ``GRU`` or ``LSTM``.
        input_size: d.
        hidden_size: H.
        num_layers: L.
        dropout: On the outputs of all layers but the last.
        weight_drop: On the weights from state to gates.
        seed: Of the initialisation, U(-1/sqrt(H), 1/sqrt(H)).
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for another kind, or a size or a rate out of range.

    Source: arXiv 1708.02182, sections 2 and 4.1, for the masks. Chapter: ``book/reversible_rnn.ipynb``.

    >>> output, last = Stored("GRU", 3, 8, num_layers=2)(torch.ones(5, 4, 3))
    >>> output.shape, last.shape
    (torch.Size([5, 4, 8]), torch.Size([2, 4, 8]))
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        one_of(("GRU", "LSTM"), kind=kind)
        whole(1, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        within("[0, 1)", dropout=dropout, weight_drop=weight_drop)
        self.dropout, self.weight_drop = dropout, weight_drop
        self.input_size, self.hidden_size = input_size, hidden_size
        make = nn.GRU if kind == "GRU" else nn.LSTM
        with torch.random.fork_rng(devices=[]):  # torch draws first weights, which are replaced
            self.layers = nn.ModuleList(
                make(hidden_size if i else input_size, hidden_size, device=device, dtype=dtype)
                for i in range(num_layers)
            )
        uniform_(self, 1 / math.sqrt(hidden_size), seed)

    def forward(
        self, x: Tensor | PackedSequence, state: State | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Outputs of the last layer and the last states, as from ``torch.nn.GRU`` or ``torch.nn.LSTM``.

        Raises:
            TypeError: for another dtype than that of the weights, or a state that is no tensor, or for an LSTM no pair.
            ValueError: for another shape.
        """
        self._fit(x, state)
        last = []
        for i, layer in enumerate(self.layers):
            weights = {}
            if self.training and self.weight_drop:
                W = layer.get_parameter("weight_hh_l0")
                weights["weight_hh_l0"] = W * _mask(W, W.shape, self.weight_drop, generator)
            start = None if state is None else _layer(state, i)
            x, end = functional_call(layer, weights, (x, start))
            last.append(end)
            if self.training and self.dropout and i < len(self.layers) - 1:
                if isinstance(x, PackedSequence):
                    padded, lengths = pad_packed_sequence(x)
                    padded = variational_dropout(padded, self.dropout, self.training, generator)
                    x = pack_padded_sequence(padded, lengths, enforce_sorted=False)
                else:
                    x = variational_dropout(x, self.dropout, self.training, generator)
        if isinstance(last[0], tuple):
            h, c = (torch.cat(parts) for parts in zip(*last, strict=True))
            return x, (h, c)
        return x, torch.cat(last)

    def _fit(self, input: Tensor | PackedSequence, state: State | None) -> None:
        """Refuse inputs and states of other shapes and dtypes than torch's network takes."""
        first = self.layers[0]
        dtype = first.get_parameter("weight_hh_l0").dtype
        fit_input(input, self.input_size, dtype)
        if state is None:
            return
        parts: dict[str, Any] = {"h_0": state}
        if isinstance(first, nn.LSTM):
            if not (isinstance(state, tuple | list) and len(state) == 2):
                raise TypeError(f"hx, the state, must be a pair (h_0, c_0): got {shown(state)}")
            parts = dict(zip(("h_0", "c_0"), state, strict=True))
        batch = [int(input.batch_sizes[0])] if isinstance(input, PackedSequence) else list(input.shape[1:-1])
        for name, part in parts.items():
            fit_state(part, name, (len(self.layers), *batch, self.hidden_size), dtype)


def _layer(state: State, i: int) -> State:
    """The part (1, B, H) of a state that belongs to a layer."""
    return (state[0][i : i + 1], state[1][i : i + 1]) if isinstance(state, tuple) else state[i : i + 1]


@typed
def recurrent(
    kind: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bits: int | None = None,
    keep: int | None = None,
    reversible: bool = True,
    **options,
) -> RevGRU | RevLSTM | Stored:
    """A recurrent network of one of ``KINDS``.

    Args:
        kind: ``RevGRU``, ``RevLSTM``, ``GRU`` or ``LSTM``; torch's own have no use for ``bits``, ``keep`` and
            ``reversible``.
        input_size: d.
        hidden_size: H.
        num_layers: L.
        bits: See :class:`RevGRU`.
        keep: See :class:`RevGRU`.
        reversible: See :class:`RevGRU`.
        options: ``dropout``, ``weight_drop``, ``seed``, ``device``, ``dtype``.

    Raises:
        ValueError: for another kind.

    >>> type(recurrent("RevLSTM", 3, 8, bits=2)).__name__
    'RevLSTM'
    """
    one_of(KINDS, kind=kind)
    if kind in ("GRU", "LSTM"):
        return Stored(kind, input_size, hidden_size, num_layers, **options)
    make = RevGRU if kind == "RevGRU" else RevLSTM
    return make(input_size, hidden_size, num_layers, bits=bits, keep=keep, reversible=reversible, **options)


@typed
class LanguageModel(nn.Module):
    """Logits of the next token from the tokens so far.

    Args:
        vocabulary: Number of tokens V.
        kind: One of ``KINDS``.
        hidden_size: H.
        embedding_size: E; by default H.
        num_layers: L.
        bits: The most bits that a unit forgets in a step; for reversible kinds.
        tied: Use the embedding as the weight of the last map too; E must be H.
        dropout: On embeddings, between layers, and on outputs.
        weight_drop: On the weights from state to gates.
        reversible: False stores every state of a reversible kind, to compare with.
        seed: Of the initialisation.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for another kind, a size or a rate out of range, or tied weights of different sizes.

    Source: arXiv 1810.10999, section 5.1; the masks are those of arXiv 1708.02182. Chapter:
    ``book/reversible_rnn.ipynb``.

    >>> model = LanguageModel(10, "RevGRU", 8, bits=3)
    >>> logits, state = model(torch.zeros(5, 2, dtype=torch.int64))
    >>> logits.shape, state.shape
    (torch.Size([5, 2, 10]), torch.Size([1, 2, 8]))
    """

    def __init__(
        self,
        vocabulary: int,
        kind: str,
        hidden_size: int,
        embedding_size: int | None = None,
        num_layers: int = 1,
        *,
        bits: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        reversible: bool = True,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        size = hidden_size if embedding_size is None else embedding_size
        whole(1, vocabulary=vocabulary, hidden_size=hidden_size, embedding_size=size)
        whole(0, 2**63 - 3, seed=seed)
        if tied and size != hidden_size:
            raise ValueError(f"tied weights need embedding_size = hidden_size: got {size} and {hidden_size}")
        where = {"device": device, "dtype": dtype}
        self.dropout = dropout
        self.embedding = nn.Parameter(torch.empty(vocabulary, size, **where))
        self.weight = self.embedding if tied else nn.Parameter(torch.empty(vocabulary, hidden_size, **where))
        self.bias = nn.Parameter(torch.zeros(vocabulary, **where))
        uniform_([self.weight], 0.1, seed + 1)
        if not tied:  # inputs of about unit size: small ones make the first steps slow
            uniform_([self.embedding], 1.0, seed + 2)
        options = {"dropout": dropout, "weight_drop": weight_drop, "seed": seed, **where}
        self.rnn = recurrent(kind, size, hidden_size, num_layers, bits=bits, reversible=reversible, **options)

    def inputs(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Embeddings of tokens, (T, B) to (T, B, E), under one mask for the whole sequence."""
        return variational_dropout(embedded(self.embedding, tokens=tokens), self.dropout, self.training, generator)

    def forward(
        self, tokens: Tensor, state: State | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Logits and the last state.

        Args:
            tokens: (T, B), int64.
            state: Of the end of the window before, as the recurrent network returns it; by default zero.
            generator: Of the dropout masks, on the device of the tokens.

        Returns:
            (T, B, V), and the state.

        Raises:
            TypeError: for tokens that are no whole numbers, or a state of another class or dtype.
            ValueError: for another shape, or a token that is none of the vocabulary.
        """
        output, last = self.rnn(self.inputs(tokens, generator), state, generator)  # (T, B, H)
        output = variational_dropout(output, self.dropout, self.training, generator)
        return linear(output, self.weight, self.bias), last


def embedded(weight: Tensor, **named: Tensor) -> Tensor:
    """Rows of an embedding (V, E) for tokens of two axes, given by the name that they have for the user.

    On the CPU an unknown token is refused by its name; a GPU's own assertion tells of it without waiting.
    """
    ((name, tokens),) = named.items()
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be a tensor of whole numbers: got {shown(tokens)}")
    if tokens.ndim != 2 or not tokens.numel():
        raise ValueError(f"{name} must have two axes, none of them empty: got shape {tuple(tokens.shape)}")
    try:
        return embedding(tokens, weight)
    except IndexError:
        worst = int(tokens.min()) if tokens.min() < 0 else int(tokens.max())
        raise ValueError(f"{name} must hold tokens from 0 to {len(weight) - 1}: got {worst}") from None


def detached(state: State) -> State:
    """The same state without its past: gradients stop at the border of a window."""
    return (state[0].detach(), state[1].detach()) if isinstance(state, tuple) else state.detach()


def uniform_(parameters: nn.Module | list[Tensor], bound: float, seed: int) -> None:
    """Fill parameters in place with draws from U(-bound, bound), the same on every device and in every dtype."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in _tensors(parameters):
            drawn = torch.empty(p.shape, dtype=torch.float64, device="cpu")
            p.copy_(drawn.uniform_(-bound, bound, generator=generator))


def _tensors(parameters: nn.Module | list[Tensor]) -> Iterator[Tensor]:
    return parameters.parameters() if isinstance(parameters, nn.Module) else iter(parameters)
