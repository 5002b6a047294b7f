"""The paper's claims, checked again: exactness and gradients from nnlib, trained networks from the recorded runs."""

import json
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest
import torch

from nnlib.reversible_rnn import LanguageModel, RevGRU, RevLSTM, gradient_cosine

RESULTS = Path(__file__).parents[3] / "tenpapers" / "results" / "reversible_rnn.json"
BOOK = "Pride and Prejudice, characters"
SIDES = ("encoder", "decoder")


@lru_cache
def record():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def table(name):
    entry = record()["tables"][name]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def ours(claim):
    return record()["claims"][claim]["runs"]["laptop"]["ours"]


def verdict(claim):
    return record()["claims"][claim]["verdict"]


def mean(book, kind, limit, column):
    runs = table("language")
    part = runs[(runs["size"] == book) & (runs.kind == kind) & (runs.limit == limit)]
    assert len(part)
    return part[column].astype(float).mean()


def worse(book, one, other):
    """Perplexity of one (kind, limit) over that of another: mean over the seeds that both have."""
    runs = table("language")
    part = runs[runs["size"] == book].set_index(["kind", "limit", "seed"]).perplexity.sort_index()
    return (part[one] / part[other]).mean()


def graded(value, good=1.02, near=1.05):
    """The verdict by the chapter's rule, of a number that should be small."""
    return "agrees" if value <= good else "agrees in trend" if value <= near else "disagrees"


def test_without_forgetting_a_network_cannot_repeat():
    runs = table("repeat")
    mean = runs.groupby(["bits", "length"]).accuracy.mean()
    assert (mean[0] < 0.8).all() and (mean[3] > 0.95).all()
    assert (runs["bits asked"] < runs["bits held"]).all()  # long before the bound


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_every_state_is_restored_over_a_thousand_steps(kind):
    """With check=True every state is compared; the backward pass raises where one differs."""
    rnn = kind(4, 16, 2, bits=3, dropout=0.3, weight_drop=0.3, check=True)
    output, _ = rnn(torch.randn(1000, 2, 4, generator=torch.Generator().manual_seed(0)))
    assert any(buffer.saved for buffer in rnn.plan.buffers.values())
    output.square().sum().backward()
    assert all(ours("exact").values())


@pytest.mark.parametrize("kind", ["RevGRU", "RevLSTM"])
@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_are_those_of_autograd(kind, layers):
    model = LanguageModel(9, kind, 16, 8, layers, bits=2, dropout=0.3, weight_drop=0.3)
    tokens = torch.randint(9, (71, 4), generator=torch.Generator().manual_seed(0))
    assert gradient_cosine(model, tokens[:-1], tokens[1:]) > 0.9999
    assert ours("gradients")[f"{kind}, {layers}"] is True


def test_two_or_three_bits_save_memory_at_the_recorded_perplexity():
    """From the rows of the table: factors, perplexities over that without a limit, and the verdict by its rule."""
    factors = [mean(BOOK, "RevGRU", limit, "paper") for limit in ("2 bits", "3 bits")]
    ratios = [worse(BOOK, ("RevGRU", limit), ("RevGRU", "no limit")) for limit in ("2 bits", "3 bits")]
    found = ours("language-memory")
    assert list(found.values()) == pytest.approx([factors[0], ratios[0], factors[1], ratios[1]])
    assert factors[0] > factors[1] > 1.5 * mean(BOOK, "RevGRU", "no limit", "paper")
    expected = graded(max(ratios)) if max(factors) >= 10 else "disagrees"
    if expected == "agrees" and min(factors) < 10:
        expected = "agrees in trend"
    assert verdict("language-memory") == expected


def test_revgru_is_compared_with_gru():
    found = ours("language-gru")
    assert len(found) == 3
    for book, ratio in found.items():
        assert ratio == pytest.approx(worse(book, ("RevGRU", "3 bits"), ("GRU", "–")))
    assert verdict("language-gru") == graded(max(found.values()))
    assert max(found.values()) < 1.2


def test_one_bit_is_too_few():
    ratio = worse(BOOK, ("RevGRU", "1 bit"), ("RevGRU", "3 bits"))
    assert ours("one-bit") == pytest.approx(ratio)
    assert (ratio > 1.01) == (verdict("one-bit") == "agrees")


def test_bytes_held_fall_with_the_buffers():
    found = ours("held")
    assert found["2 bits"] > found["3 bits"] > 1
    assert verdict("held") == graded(-min(found.values()), -10, -8)
    for limit, value in found.items():
        assert value == pytest.approx(mean(BOOK, "RevGRU", limit, "with output"))


def test_trained_networks_forget_less_than_their_limit():
    runs = table("language")
    for limit, most in (("1 bit", 1), ("2 bits", 2), ("3 bits", 3)):
        forgotten = runs[runs.limit == limit].forgotten.astype(float)
        assert ((0.3 * most < forgotten) & (forgotten < most)).all()


def test_encoder_and_decoder_keep_less():
    """Also that a slice costs the encoder, and that all states cost everything."""
    runs = table("translation")
    assert runs.groupby(["kind", "context"]).seed.nunique().eq(3).all()
    runs = runs[runs.kind == "RevGRU"]
    encoder, decoder = (runs[f"{side} paper"].astype(float).groupby(runs.context).mean() for side in SIDES)
    assert encoder["hidden"] < 1 < encoder["slice + embedding"] < encoder["embedding"]
    found = ours("translation-memory")
    assert found == pytest.approx({"encoder": encoder["slice + embedding"], "decoder": decoder["slice + embedding"]})
    share = min(found["encoder"] / 5, found["decoder"] / 10)
    assert verdict("translation-memory") == graded(-share, -1, -0.8)


def test_contexts_are_compared():
    runs = table("translation")
    runs = runs[runs.kind == "RevGRU"].pivot(index="seed", columns="context", values="perplexity")
    ratio = (runs["slice + embedding"] / runs["hidden"]).mean()
    assert ours("contexts")["slice + embedding"] == pytest.approx(ratio)
    assert verdict("contexts") == graded(ratio, 1.02, 1.05)
