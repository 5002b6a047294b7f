"""Claims about the translator: what the decoder looks at, what the encoder keeps for it, and its gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nnlib.reversible_rnn import CONTEXTS, Translator, attend, translate
from tests.devices import same_without_a_default_device

close = torch.testing.assert_close
X = torch.tensor([[5, 6, 7, 3], [4, 3, 0, 0], [8, 7, 3, 0]], device="cpu")
Y = torch.tensor([[2, 4, 5, 6, 3], [2, 5, 3, 0, 0], [2, 4, 4, 3, 0]], device="cpu")


def build(kind="RevGRU", context="slice + embedding", **options):
    options = {"width": 3, "bits": 2, "dtype": torch.float64, "device": "cpu"} | options
    return Translator(9, 7, kind, context, 8, 6, 2, **options)


def loss(model, seed=0):
    logits = model(X, Y[:, :-1], torch.Generator("cpu").manual_seed(seed))
    return cross_entropy(logits.flatten(0, 1), Y[:, 1:].T.flatten(), ignore_index=0)


@pytest.mark.parametrize("kind", ["RevGRU", "RevLSTM"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_are_those_of_autograd_for_every_context(kind, context):
    """Through encoder, kept slice, attention and decoder, with dropout and sentences of different lengths."""
    found = []
    for reversible in (True, False):
        model = build(kind, context, dropout=0.3, reversible=reversible)
        value = loss(model)
        found.append((value.detach(), torch.autograd.grad(value, list(model.parameters()))))
    close(found[0][0], found[1][0], rtol=0, atol=0)
    close(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


def test_attention_is_the_weighted_mean_of_the_words_that_are_there():
    """Against a loop over queries; breaks if a word after the end of a sentence gets a weight."""
    generator = torch.Generator().manual_seed(0)
    q, e = (torch.randn(n, 2, 3, generator=generator, dtype=torch.float64) for n in (4, 5))
    alive = torch.tensor([[True] * 5, [True, True, False, False, False]]).T
    found = attend(q, e, alive)
    for t in range(4):
        for b in range(2):
            there = e[alive[:, b], b]
            weights = (there @ q[t, b]).softmax(0)
            close(found[t, b], weights @ there)


@pytest.mark.parametrize(
    ("context", "width"), [("hidden", 8), ("slice", 3), ("embedding", 6), ("slice + embedding", 9)]
)
def test_contexts_have_their_widths_and_the_slice_is_the_encoders_first_units(context, width):
    model = build(context=context)
    _, seen, alive = model.encode(X)
    assert seen.shape == (4, 3, width) and alive.sum().item() == 9
    if context == "slice":
        _, whole, _ = build(context="hidden").encode(X)
        # The buffer of the two differs, and with it the rounding of a product, by at most 2^-13 a step.
        close(seen[alive], whole[..., :3][alive], rtol=0, atol=4 * 2**-12)


@pytest.mark.parametrize("kind", ["RevGRU", "LSTM"])
def test_a_sentence_is_translated_alike_alone_and_in_a_batch(kind):
    """Breaks if padding reaches the encoder's state or the attention."""
    model = build(kind, "hidden", bits=None).eval()
    together = model(X, Y[:, :4])
    for b, n in enumerate((X != 0).sum(1).tolist()):
        close(model(X[b : b + 1, :n], Y[b : b + 1, :4])[:, 0], together[:, b], rtol=1e-4, atol=1e-3)


def test_words_written_one_at_a_time_are_the_likeliest_under_the_whole_sentence():
    """Greedy words fed back all at once must be their own successors; breaks if the state is not carried."""
    model = build("GRU", "hidden").eval()
    written = translate(model, X, begin=2, end=3, longest=6)
    fed = torch.cat([torch.full((3, 1), 2), written[:, :-1]], 1)
    assert torch.equal(model(X, fed).argmax(2).T, written)


def test_writing_stops_where_every_sentence_has_ended():
    model = build("GRU", "hidden").eval()
    model.bias.data[3] = 100.0
    assert translate(model, X, begin=2, end=3, longest=6).tolist() == [[3], [3], [3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("context", CONTEXTS)
def test_device_and_dtype_are_those_asked_for(context, dtype):
    def compute():
        model = build(context=context, dropout=0.2, dtype=dtype)
        loss(model).backward()
        words = translate(model.eval(), X, begin=2, end=3, longest=3)
        return {"words": words, "gradients": [p.grad for p in model.parameters()]}

    found = same_without_a_default_device(compute)
    assert all(tensor.dtype == dtype for tensor in found["gradients"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "none"}, "context must be one of hidden, .*: got 'none'"),
        ({"kind": "GRU"}, "a GRU stores all of its states: its context must be 'hidden', got 'slice"),
        ({"width": 5}, "width must be a whole number from 1 to 4: got 5"),
    ],
)
def test_contexts_that_cannot_be_had_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
