"""Which words come next, and in which other language? Two books, and verses in English and Spanish.

Chapter: ``book/reversible_rnn.ipynb``.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from nnlib.training import Dataset, Split
from tenpapers.data.images import FILES

PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<bos>", "<eos>"
SPECIAL = [PAD, UNKNOWN, BEGIN, END]  # the first ids of a vocabulary of pairs; a book has <unk> only
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|\n")  # a word, a mark, or the end of a line
HELD_OUT = 500  # pairs of sentences for validation, and as many for test


def pride_prejudice(*, tokens: str = "characters", vocabulary: int | None = None) -> Dataset:
    """Jane Austen's Pride and Prejudice, a paragraph a line: see :func:`tenpapers.data.load`."""
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", _file("pride_prejudice.txt.gz"))  # lines end where the printer's page did
    text = re.sub(r"\n{2,}", "\n", text.replace("_", ""))  # underscores stand for italics
    return _book("Pride and Prejudice", text, tokens, vocabulary, "public domain, J. Austen, 1813")


def kjv(*, tokens: str = "characters", vocabulary: int | None = None) -> Dataset:
    """The King James Bible, a verse a line: see :func:`tenpapers.data.load`."""
    return _book("King James Bible", _file("kjv.txt.gz"), tokens, vocabulary, "public domain, 1611, text of 1769")


def _book(title: str, text: str, tokens: str, vocabulary: int | None, licence: str) -> Dataset:
    pieces = tokenise(text, tokens)
    n = len(pieces) // 20
    parts = pieces[: -2 * n], pieces[-2 * n : -n], pieces[-n:]
    known = _vocabulary(parts[0], vocabulary, [UNKNOWN])
    ids = [_encode(part, _numbers(known)) for part in parts]
    train, validation, test = (Split(t[:-1], t[1:]) for t in ids)
    sizes = "/".join(f"{len(t):,}" for t in ids)
    return Dataset(
        train,
        validation,
        test,
        info={"vocabulary": known, "tokens": tokens, "shape": (), "separator": _separator(tokens)},
        source=f"{title}, all {len(pieces):,} {tokens} in the order of the text, split {sizes}, "
        f"vocabulary of {len(known):,}",
        licence=licence,
    )


def english_spanish(*, tokens: str = "words", vocabulary: int | None = None) -> Dataset:
    """Bible verses in English and Spanish, of at most 20 words a side: see :func:`tenpapers.data.load`."""
    pairs = [line.split("\t") for line in _file("kjv_rv1909_en_es_short.tsv.gz").splitlines()]
    seen: tuple[set[str], set[str]] = (set(), set())
    single = []
    for pair in pairs:  # a verse that returns word by word, in either language, must not be in two splits
        words = [" ".join(tokenise(side, "words")) for side in pair]
        if not any(side in before for side, before in zip(words, seen, strict=True)):
            single.append([tokenise(side, tokens) for side in pair])
        for side, before in zip(words, seen, strict=True):
            before.add(side)
    order = np.random.default_rng(0).permutation(len(single))  # the books of the Bible differ: each split has of all
    shuffled = [single[i] for i in order]
    n = len(shuffled) - 2 * HELD_OUT
    parts = shuffled[:n], shuffled[n:-HELD_OUT], shuffled[-HELD_OUT:]
    known = [_vocabulary(chain(*(pair[k] for pair in parts[0])), vocabulary, SPECIAL) for k in (0, 1)]
    english, spanish = map(_numbers, known)
    train, validation, test = (
        Split(
            _padded([_encode([*en, END], english) for en, _ in part]),
            _padded([_encode([BEGIN, *es, END], spanish) for _, es in part]),
        )
        for part in parts
    )
    return Dataset(
        train,
        validation,
        test,
        info={
            "vocabulary": {"english": known[0], "spanish": known[1]},
            "tokens": tokens,
            "shape": train.x.shape[1:],
            "separator": _separator(tokens),
        },
        source=f"English and Spanish verses (King James, Reina-Valera 1909), {len(single):,} pairs that differ in both "
        f"languages of {len(pairs):,}, split {n:,}/{HELD_OUT}/{HELD_OUT}, {tokens}, "
        f"vocabularies of {len(known[0]):,} and {len(known[1]):,}",
        licence="public domain: King James Bible, text of 1769; Reina-Valera, 1909",
    )


def windows(split: Split, batch_size: int, steps: int) -> Iterator[Split]:
    """A text read in ``batch_size`` places at once, ``steps`` tokens at a time, each window where the last ended.

    Args:
        split: Token ids (n,), as from a book.
        batch_size: B; the rows of a batch are B equal pieces of the text, and what is left over is dropped.
        steps: T.

    Yields:
        ``x`` and ``y`` of shape (T, B); the last window may be shorter.

    Raises:
        ValueError: for a text shorter than the batch.

    Chapter: ``book/reversible_rnn.ipynb``.

    >>> text = torch.arange(11)
    >>> [window.x.tolist() for window in windows(Split(text[:-1], text[1:]), batch_size=2, steps=3)]
    [[[0, 5], [1, 6], [2, 7]], [[3, 8], [4, 9]]]
    """
    n = len(split.x) // batch_size
    if batch_size < 1 or steps < 1 or n < 1:
        raise ValueError(f"a text of {len(split.x)} tokens can't be read in {batch_size} places, {steps} at a time")
    x, y = (t[: n * batch_size].view(batch_size, n).T for t in split)  # (n, B)
    for start in range(0, n, steps):
        yield Split(x[start : start + steps], y[start : start + steps])


def padded_batches(split: Split, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Split]:
    """Batches of pairs of sentences, cut to the longest of each batch.

    Args:
        split: Ids (n, S) and (n, T), 0 where a sentence has ended.
        batch_size: B.
        generator: Of the order, on the CPU; None keeps the order of the split.

    Yields:
        ``x`` (B, S') and ``y`` (B, T'); the last batch may be smaller.

    Chapter: ``book/reversible_rnn.ipynb``.

    >>> pairs = Split(torch.tensor([[5, 3, 0, 0], [6, 7, 3, 0]]), torch.tensor([[2, 3, 0], [2, 4, 3]]))
    >>> [tuple(batch.x.shape) for batch in padded_batches(pairs, 1)]
    [(1, 2), (1, 3)]
    """
    n = len(split.x)
    order = torch.arange(n, device="cpu") if generator is None else torch.randperm(n, generator=generator, device="cpu")
    for rows in order.split(batch_size):
        batch = [t[rows.to(t.device)] for t in split]
        yield Split(*(t[:, : int((t != 0).sum(1).max())] for t in batch))


def tokenise(text: str, tokens: str) -> list[str]:
    """Characters, or words in lower case with marks and line ends apart.

    >>> tokenise("It's so,\\nMr. Bennet", "words")
    ["it's", 'so', ',', '\\n', 'mr', '.', 'bennet']
    """
    if tokens not in ("characters", "words"):
        raise ValueError(f"tokens must be 'characters' or 'words': got {tokens!r}")
    return list(text) if tokens == "characters" else WORD.findall(text.lower())


def decode(ids: Tensor | Sequence[int], vocabulary: Sequence[str], separator: str) -> str:
    """Text of token ids, up to the first end mark; padding and begin marks are left out.

    >>> decode([2, 4, 5, 3, 4], [*SPECIAL, "the", "sea"], " ")
    'the sea'
    """
    words = [vocabulary[int(i)] for i in ids]
    if END in words:
        words = words[: words.index(END)]
    return separator.join(w for w in words if w not in (PAD, BEGIN))


def _file(name: str) -> str:
    with gzip.open(FILES / name, "rt", encoding="utf-8", newline="\n") as file:
        return file.read()


def _separator(tokens: str) -> str:
    return "" if tokens == "characters" else " "


def _vocabulary(pieces, size: int | None, special: list[str]) -> list[str]:
    """Special marks, then the most frequent pieces; without a size those that occur twice: <unk> needs examples."""
    if size is not None and size <= len(special):
        raise ValueError(f"vocabulary must be larger than the {len(special)} special marks: got {size}")
    counts = Counter(pieces)
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    if size is None:
        return special + [piece for piece in ranked if counts[piece] > 1]
    return special + ranked[: size - len(special)]


def _numbers(vocabulary: list[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(vocabulary)}


def _encode(pieces: Sequence[str], numbers: dict[str, int]) -> Tensor:
    unknown = numbers[UNKNOWN]
    return torch.tensor([numbers.get(piece, unknown) for piece in pieces], dtype=torch.int64, device="cpu")


def _padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # with 0, <pad>
