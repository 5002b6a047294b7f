"""Claims about the books and the pairs of verses: what is loaded is the text, in its order, and nothing leaks."""

import pytest
import torch

from nnlib.training import Split
from tenpapers.data import decode, load, padded_batches, windows
from tenpapers.data.text import _file, tokenise

BOOKS = ["pride_prejudice", "kjv"]


def pieces(ids, data):
    return [data.info["vocabulary"][i] for i in ids.tolist()]


@pytest.mark.parametrize("tokens", ["characters", "words"])
@pytest.mark.parametrize("name", BOOKS)
def test_targets_are_the_tokens_that_come_next_and_parts_follow_each_other(name, tokens):
    """Breaks if the shift is lost, or a part begins before the last one has ended."""
    data = load(name, tokens=tokens)
    parts = (data.train, data.validation, data.test)
    for part in parts:
        assert part.x.dtype == part.y.dtype == torch.int64 and torch.equal(part.x[1:], part.y[:-1])
        assert 0 <= part.x.min() and part.x.max() < len(data.info["vocabulary"])
    total = sum(len(part.x) + 1 for part in parts)
    assert f"all {total:,} {tokens}" in data.source and data.licence.startswith("public domain")
    assert len(parts[1].x) == len(parts[2].x) == total // 20 - 1


def test_a_book_of_characters_can_be_read_back():
    """The King James file is kept as it is, but for characters that occur once."""
    data, text = load("kjv"), _file("kjv.txt.gz")
    for part, start in ((data.train, 0), (data.validation, len(data.train.x) + 1)):
        for place, piece in enumerate(pieces(part.x[:20_000], data)):
            assert piece in ("<unk>", text[start + place])
    assert decode(data.test.y[-1:], data.info["vocabulary"], "") == text[-1]


def test_a_paragraph_of_the_novel_is_a_line():
    data = load("pride_prejudice")
    text = decode(data.train.x[:400], data.info["vocabulary"], data.info["separator"])
    assert text.split("\n")[3].endswith("must be in want of a wife.") and "_" not in data.info["vocabulary"]


def test_words_are_lower_case_with_marks_and_line_ends_apart():
    assert tokenise('"It is," said Mr. Bennet.\nWell-a-day', "words") == (
        ['"', "it", "is", ",", '"', "said", "mr", ".", "bennet", ".", "\n", "well-a-day"]
    )


def test_the_vocabulary_is_of_the_training_part_in_the_order_of_frequency():
    """Breaks if validation words have an id of their own, or a word that occurs once."""
    data = load("pride_prejudice", tokens="words")
    known, counts = data.info["vocabulary"], torch.bincount(data.train.x).tolist()
    assert known[0] == "<unk>" and len(set(known)) == len(known)
    assert counts[1:] == sorted(counts[1:], reverse=True) and min(counts[1:]) >= 1
    small = load("pride_prejudice", tokens="words", vocabulary=100)
    assert small.info["vocabulary"] == known[:100] and small.train.x.max() == 99
    assert (data.test.x == 0).any() and (small.test.x == 0).sum() > (data.test.x == 0).sum()


@pytest.fixture(scope="module")
def pairs():
    return load("english_spanish")


def test_pairs_begin_end_and_are_padded(pairs):
    """x: words, <eos>, padding; y: <bos>, words, <eos>, padding."""
    for part in (pairs.train, pairs.validation, pairs.test):
        assert (part.y[:, 0] == 2).all() and not (part.x == 2).any()
        for ids in part:
            lengths = (ids != 0).sum(1)
            assert (ids[torch.arange(len(ids)), lengths - 1] == 3).all() and ((ids == 3).sum(1) == 1).all()
    assert len(pairs.validation.x) == len(pairs.test.x) == 500


def test_a_pair_says_the_same_in_both_languages(pairs):
    """Breaks if the sides are shuffled apart, or a word is lost or changes its place."""
    lines = [line.split("\t") for line in _file("kjv_rv1909_en_es_short.tsv.gz").splitlines()]
    together = {tuple(" ".join(tokenise(side, "words")) for side in line) for line in lines}
    known, checked = pairs.info["vocabulary"], 0
    for x, y in zip(*pairs.test, strict=True):
        pair = decode(x, known["english"], " "), decode(y, known["spanish"], " ")
        if "<unk>" not in pair[0] + pair[1]:
            assert pair in together
            checked += 1
    assert checked > 100


def test_no_verse_is_in_two_splits_in_either_language():
    """Many verses return word by word; breaks if they are not taken out."""
    data = load("english_spanish", tokens="characters")
    for side in (0, 1):
        known = data.info["vocabulary"][("english", "spanish")[side]]
        parts = (data.train, data.validation, data.test)
        seen = [{" ".join(tokenise(decode(row, known, ""), "words")) for row in part[side]} for part in parts]
        assert len(seen[0]) > 10_000 and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_windows_go_on_where_the_last_ended_and_cover_the_text():
    text = torch.arange(1001)
    found = list(windows(Split(text[:-1], text[1:]), batch_size=7, steps=30))
    whole = torch.cat([window.x for window in found])  # (142, 7)
    assert whole.T.flatten().tolist() == list(range(7 * 142))
    assert all(torch.equal(window.y, window.x + 1) for window in found)
    assert {len(window.x) for window in found[:-1]} == {30}


def test_padded_batches_hold_each_pair_once_and_are_cut_to_the_longest(pairs):
    found = list(padded_batches(pairs.test, 64, torch.Generator().manual_seed(0)))
    assert sum(len(batch.x) for batch in found) == 500
    rows = sorted(tuple(row[row != 0].tolist()) for batch in found for row in batch.y)
    assert rows == sorted(tuple(row[row != 0].tolist()) for row in pairs.test.y)
    assert all((batch.x[:, -1] != 0).any() and (batch.y[:, -1] != 0).any() for batch in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "bytes"}, "'characters' or 'words': got 'bytes'"),
        ({"vocabulary": 1}, "larger than the 1 special marks: got 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load("pride_prejudice", **options)
    with pytest.raises(ValueError, match="can't be read in 5 places"):
        next(windows(Split(torch.arange(3), torch.arange(3)), 5, 1))
