"""How can a decoder look at states that were not stored? It looks at a slice of them, at the words, or at both.

An encoder reads the source, a decoder writes the target from the encoder's last state, and at each step attends to a
*context*: one vector for each source word. With ``hidden`` the context is all states of the encoder, which must then be
stored. ``slice`` takes s units of them, ``embedding`` the words' embeddings, which cost nothing, ``slice + embedding``
both.
Paper: arXiv 1810.10999, section 4. Chapter: ``book/reversible_rnn.ipynb``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnlib.arguments import one_of, real, shown, typed, whole
from nnlib.reversible_rnn.language_model import State, embedded, recurrent, uniform_
from nnlib.reversible_rnn.rnn import variational_dropout

CONTEXTS = ("hidden", "slice", "embedding", "slice + embedding")


@typed
def attend(queries: Tensor, context: Tensor, alive: Tensor) -> Tensor:
    """Global attention: the mean of the context under softmax weights of the inner products with each query.

    c_t = sum_s a_ts e_s,   a_ts = exp(q_t . e_s) / sum over source words that are there

    Args:
        queries: q, (T, B, C): decoder states times a matrix ("general" attention).
        context: e, (S, B, C).
        alive: Which source words are there, booleans (S, B), at least one for each example.

    Returns:
        (T, B, C).

    Raises:
        TypeError: for other dtypes.
        ValueError: for other shapes, numbers that are not finite, or an example without a word.

    Source: arXiv 1508.04025, section 3.1. Chapter: ``book/reversible_rnn.ipynb``.

    >>> alive = torch.tensor([[True], [False]])
    >>> attend(torch.ones(1, 1, 1), torch.tensor([[[2.0]], [[5.0]]]), alive).item()
    2.0
    """
    real("T B C", queries=queries)
    real("S B C", context=context)
    if context.shape[1:] != queries.shape[1:] or alive.shape != context.shape[:2]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (queries, context, alive))
        raise ValueError(f"queries (T, B, C), context (S, B, C) and alive (S, B) must fit: got shapes {shapes}")
    if alive.dtype != torch.bool or not bool(alive.any(0).all()):
        raise ValueError(f"alive must hold booleans, at least one of them true for each example: got {shown(alive)}")
    return _attend(queries, context, alive)


def _attend(queries: Tensor, context: Tensor, alive: Tensor) -> Tensor:
    scores = torch.einsum("tbc,sbc->tbs", queries, context)
    weights = scores.masked_fill(~alive.T, float("-inf")).softmax(2)
    return torch.einsum("tbs,sbc->tbc", weights, context)


@typed
class Translator(nn.Module):
    """Encoder, decoder and attention with one of four contexts.

    Args:
        source: Number of source tokens.
        target: Number of target tokens.
        kind: Of both networks, one of ``KINDS``.
        context: One of ``CONTEXTS``; torch's own networks store all states anyway and take ``hidden``.
        hidden_size: H.
        embedding_size: E.
        num_layers: L of both.
        width: s, of the slice: 1 to H / 2.
        bits: The most bits that a unit forgets in a step; for reversible kinds.
        dropout: On embeddings, between layers and before the last map; one mask for a whole sequence.
        reversible: False stores every state of a reversible kind, to compare with.
        seed: Of the initialisation.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for another kind or context, a context that this kind can't have, or a size or a rate out of range.

    Source: arXiv 1810.10999, sections 4 and 5.2. Chapter: ``book/reversible_rnn.ipynb``.

    >>> model = Translator(9, 7, "RevGRU", "slice + embedding", 8, 4, width=2, bits=3)
    >>> x, y = torch.tensor([[5, 6, 3], [4, 3, 0]]), torch.tensor([[2, 5], [2, 4]])
    >>> model(x, y).shape
    torch.Size([2, 2, 7])
    """

    match: Tensor
    combine: Tensor
    weight: Tensor

    def __init__(
        self,
        source: int,
        target: int,
        kind: str,
        context: str,
        hidden_size: int,
        embedding_size: int,
        num_layers: int = 1,
        *,
        width: int = 16,
        bits: int | None = None,
        dropout: float = 0.0,
        reversible: bool = True,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        one_of(CONTEXTS, context=context)
        whole(1, source=source, target=target, embedding_size=embedding_size)
        whole(2, hidden_size=hidden_size)
        whole(0, 2**59, seed=seed)
        if kind in ("GRU", "LSTM") and context != "hidden":
            raise ValueError(f"a {kind} stores all of its states: its context must be 'hidden', got {context!r}")
        if "slice" in context:
            whole(1, hidden_size // 2, width=width)
        self.context, self.dropout = context, dropout
        keep = {"hidden": None, "embedding": 0}.get(context, width)
        seen = hidden_size if keep is None else keep  # C, units of the encoder's states that the decoder looks at
        size = seen + (embedding_size if "embedding" in context else 0)
        where = {"device": device, "dtype": dtype}
        shapes = {
            "source": (source, embedding_size),
            "target": (target, embedding_size),
            "match": (size, hidden_size),  # W_a of the scores e' W_a h
            "combine": (hidden_size, size + hidden_size),
            "weight": (target, hidden_size),
        }
        for i, (name, shape) in enumerate(shapes.items()):
            parameter = nn.Parameter(torch.empty(shape, **where))
            setattr(self, name, parameter)
            words = name in ("source", "target")
            uniform_([parameter], 1.0 if words else 1 / math.sqrt(shape[1]), seed=10 * seed + i)
        self.bias = nn.Parameter(torch.zeros(target, **where))
        options = {"bits": bits, "reversible": reversible, "dropout": dropout, **where}
        sizes = (embedding_size, hidden_size, num_layers)
        self.encoder = recurrent(kind, *sizes, keep=keep, seed=10 * seed + 6, **options)
        self.decoder = recurrent(kind, *sizes, seed=10 * seed + 7, **options)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[State, Tensor, Tensor]:
        """The encoder's last state, the context (S, B, C), and which source words are there, (S, B).

        Args:
            x: (B, S), 0 where a sentence has ended, each of at least one word.
            generator: Of the dropout masks.

        Raises:
            TypeError: if x holds no whole numbers.
            ValueError: for another shape, an unknown token, an empty sentence, or a word after its end.
        """
        words = self.words(x, "source", generator)  # (S, B, E)
        there = x.to("cpu") != 0  # (B, S)
        if not there[:, 0].all() or (there[:, 1:] & ~there[:, :-1]).any():
            raise ValueError(
                f"x must hold sentences of at least one word, with zeros at their ends alone: got {shown(x.tolist())}"
            )
        packed = pack_padded_sequence(words, there.sum(1), enforce_sorted=False)
        output, state = self.encoder(packed, generator=generator)
        parts = [words] if "embedding" in self.context else []
        if self.context != "embedding":
            parts.append(pad_packed_sequence(output, total_length=len(words))[0])  # (S, B, H) or (S, B, s)
        return state, torch.cat(parts, 2), (x != 0).T

    def decode(
        self,
        y: Tensor,
        state: State,
        context: Tensor,
        alive: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """Logits of the word after each of y, and the decoder's last state.

        h~ = tanh(W_c [c; h]),   logits = W h~ + b

        Args:
            y: (B, T).
            state: Of the encoder, or of the decoder after the word before.
            context: As :meth:`encode` returns it.
            alive: As :meth:`encode` returns it.
            generator: Of the dropout masks.

        Returns:
            (T, B, target), and the state.
        """
        h, state = self.decoder(self.words(y, "target", generator), state, generator)  # (T, B, H)
        found = _attend(linear(h, self.match), context, alive)
        mixed = linear(torch.cat([found, h], 2), self.combine).tanh()
        mixed = variational_dropout(mixed, self.dropout, self.training, generator)
        return linear(mixed, self.weight, self.bias), state

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (T, B, target) of the word after each of y, (B, T), given the source x, (B, S); see :meth:`encode`."""
        if isinstance(x, Tensor) and isinstance(y, Tensor) and len(y) != len(x):
            raise ValueError(f"y must have as many sentences as x, {len(x)}: got {len(y)}")
        state, context, alive = self.encode(x, generator)
        return self.decode(y, state, context, alive, generator)[0]

    def words(self, tokens: Tensor, side: str, generator: torch.Generator | None = None) -> Tensor:
        """Embeddings (T, B, E) of tokens (B, T), of the side ``source`` or ``target``."""
        x = embedded(getattr(self, side), **{"x" if side == "source" else "y": tokens})  # (B, T, E)
        return variational_dropout(x.transpose(0, 1), self.dropout, self.training, generator)


@typed
@torch.no_grad()
def translate(model: Translator, x: Tensor, *, begin: int, end: int, longest: int) -> Tensor:
    """The likeliest word at each step, given those before.

    Args:
        model: In evaluation mode.
        x: (B, S), 0 where a sentence has ended.
        begin: The token that every target begins with.
        end: The token that every target ends with.
        longest: T, the most words to write.

    Returns:
        (B, T) tokens, without the first; after the end mark they mean nothing.

    Raises:
        TypeError: for arguments of another class.
        ValueError: for marks that are no target tokens, or sources that :meth:`Translator.encode` refuses.

    Chapter: ``book/reversible_rnn.ipynb``.

    >>> model = Translator(9, 7, "GRU", "hidden", 8, 4).eval()
    >>> translate(model, torch.tensor([[5, 6, 3]]), begin=2, end=3, longest=4).shape[0]
    1
    """
    whole(0, len(model.bias) - 1, begin=begin, end=end)
    whole(1, longest=longest)
    state, context, alive = model.encode(x)
    word = torch.full((len(x), 1), begin, device=x.device)
    ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    written = []
    for _ in range(longest):
        logits, state = model.decode(word, state, context, alive)
        word = logits[0].argmax(1, keepdim=True)  # (B, 1)
        written.append(word)
        ended |= word[:, 0] == end
        if ended.all():
            break
    return torch.cat(written, 1)
