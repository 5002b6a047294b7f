"""Claims about the language model: whichever way its past is found, loss and gradients are the same."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnlib.descent import descend
from nnlib.reversible_rnn import KINDS, LanguageModel, Stored, gradient_cosine
from nnlib.reversible_rnn.language_model import detached, recurrent
from tests.devices import same_without_a_default_device

close = torch.testing.assert_close


def tokens(steps=60, batch=3, vocabulary=9, seed=0):
    drawn = torch.randint(
        vocabulary, (steps + 1, batch), generator=torch.Generator("cpu").manual_seed(seed), device="cpu"
    )
    return drawn[:-1], drawn[1:]


@pytest.mark.parametrize("kind", ["RevGRU", "RevLSTM"])
@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_of_the_whole_model_are_those_of_autograd_with_every_dropout(kind, layers):
    """Cosine above 0.9999 in single precision; breaks if a mask of the inputs or the outputs is drawn twice."""
    x, y = tokens()
    model = LanguageModel(9, kind, 12, 6, layers, bits=2, dropout=0.3, weight_drop=0.3, seed=1)
    assert gradient_cosine(model, x, y) > 0.9999


@pytest.mark.parametrize("kind", ["RevGRU", "RevLSTM"])
def test_loss_and_gradients_agree_to_rounding_in_double_precision(kind):
    x, y = tokens()
    found = []
    for reversible in (True, False):
        model = LanguageModel(9, kind, 12, 6, 2, bits=3, dropout=0.3, reversible=reversible, dtype=torch.float64)
        loss = cross_entropy(model(x, None, torch.Generator().manual_seed(3))[0].flatten(0, 1), y.flatten())
        found.append((loss.detach(), torch.autograd.grad(loss, list(model.parameters()))))
    close(found[0][0], found[1][0], rtol=0, atol=0)
    close(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


def test_gradient_cosine_sees_a_gradient_that_is_wrong(monkeypatch):
    """A negative control: with the derivative of one gate halved, the angle is no longer zero."""
    from nnlib.reversible_rnn import cells

    true = cells.GRU.updates[0].gradients
    halved = cells.GRU.updates[0]._replace(gradients=lambda b, f, d_z, d_u, w, t: true(b, f, d_z / 2, d_u, w, t))
    wrong = cells.GRU._replace(updates=(halved, cells.GRU.updates[1]))
    monkeypatch.setattr("nnlib.reversible_rnn.rnn.RevGRU.cell", wrong)
    x, y = tokens()
    assert gradient_cosine(LanguageModel(9, "RevGRU", 12, 6, bits=2), x, y) < 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_one_mask_serves_a_whole_sequence_and_none_is_used_in_evaluation(kind):
    """With the same token at each step, inputs are the same vector at each step; half of it is zero."""
    model = LanguageModel(5, kind, 400, dropout=0.5)
    same = torch.full((6, 2), 3)
    x = model.inputs(same, torch.Generator().manual_seed(0))
    close(x, x[:1].expand_as(x), rtol=0, atol=0)
    assert 0.3 < (x == 0).double().mean() < 0.7 and not torch.equal(x[:, 0], x[:, 1])
    model.eval()
    assert (model.inputs(same) != 0).all()


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_stored_layers_are_torchs_own(kind):
    """With torch's weights and no dropout: the same outputs and states; breaks if states of layers are swapped."""
    ours, x = Stored(kind, 3, 8, 2, dtype=torch.float64), torch.randn(7, 2, 3, dtype=torch.float64)
    theirs = (nn.GRU if kind == "GRU" else nn.LSTM)(3, 8, 2, dtype=torch.float64)
    for i, layer in enumerate(ours.layers):
        for name, weight in layer.named_parameters():
            getattr(theirs, name.replace("l0", f"l{i}")).data.copy_(weight.data)
    first, state = ours(x[:4])
    close(first, theirs(x[:4])[0])
    second, last = ours(x[4:], state)
    wanted, end = theirs(x)
    close(second, wanted[4:])
    pairs = zip(last, end, strict=True) if kind == "LSTM" else [(last, end)]
    for a, b in pairs:
        close(a, b)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_stored_layers_with_dropout_take_packed_sequences(kind):
    rnn, x = Stored(kind, 3, 8, 2, dropout=0.5), torch.randn(6, 3, 3)
    packed = pack_padded_sequence(x, torch.tensor([2, 6, 4]), enforce_sorted=False)
    output, _ = rnn(packed, generator=torch.Generator().manual_seed(1))
    padded, lengths = pad_packed_sequence(output)
    assert padded.shape == (6, 3, 8) and lengths.tolist() == [2, 6, 4]


def test_weight_drop_changes_the_weights_from_state_to_gates_alone():
    rnn = Stored("GRU", 3, 8, weight_drop=0.5)
    first = torch.ones(1, 2, 3)
    close(rnn(first)[0], rnn.eval()(first)[0])  # from a zero state the dropped weights meet nothing but zeros
    longer, generator = torch.ones(3, 2, 3), torch.Generator().manual_seed(0)
    assert not torch.allclose(rnn.train()(longer, generator=generator)[0], rnn.eval()(longer)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_device_and_dtype_are_those_asked_for(kind, dtype):
    def compute():
        x, y = tokens(steps=12)
        model = LanguageModel(9, kind, 8, 4, 2, bits=2, dropout=0.3, weight_drop=0.3, device="cpu", dtype=dtype)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        masks = torch.Generator("cpu").manual_seed(0)
        descend(lambda: cross_entropy(model(x, None, masks)[0].flatten(0, 1), y.flatten()), optimizer, 2)
        logits, _ = model.eval()(x)
        return {"logits": logits.detach(), "parameters": [p.detach() for p in model.parameters()]}

    found = same_without_a_default_device(compute)
    assert all(tensor.dtype == dtype for tensors in found.values() for tensor in tensors)


def test_detached_states_have_no_past():
    for kind in ("RevGRU", "RevLSTM"):
        rnn = recurrent(kind, 3, 8)
        state = detached(rnn(torch.ones(4, 2, 3))[1])
        assert not any(part.requires_grad for part in (state if isinstance(state, tuple) else (state,)))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x, h: (x[..., :2], h), ValueError, r"input must be .* with 3 features: got shape \(5, 2, 2\)"),
        (lambda x, h: (x[:0], h), ValueError, r"at least one step.* got shape \(0, 2, 3\)"),
        (lambda x, h: (x[None], h), ValueError, r"input must be a sequence"),
        (
            lambda x, h: (x.double(), h),
            TypeError,
            r"input must be torch\.float32, as the weights are: got torch.float64",
        ),
        (lambda x, h: (x.tolist(), h), TypeError, r"input must be a tensor or a PackedSequence"),
        (lambda x, h: (x, h[:, :1]), ValueError, r"h_0 must have shape .* = \(1, 2, 8\) .*: got \(1, 1, 8\)"),
        (lambda x, h: (x[:, 0], h), ValueError, r"h_0 must have shape \(layers, hidden\) = \(1, 8\)"),
        (lambda x, h: (pack_padded_sequence(x, torch.tensor([5, 3])), h[:, :1]), ValueError, r"= \(1, 2, 8\)"),
        (lambda x, h: (x, h.double()), TypeError, r"h_0 must be torch\.float32, as the input is"),
        (lambda x, h: (x, 1.0), TypeError, "hx, the state"),
    ],
)
def test_inputs_and_states_of_torchs_networks_are_refused_by_name(kind, spoil, error, message):
    """Breaks if torch's own errors, which name neither, come through; right ones pass, packed and without a batch."""
    rnn, x, h = Stored(kind, 3, 8), torch.ones(5, 2, 3), torch.zeros(1, 2, 8)
    given = lambda state: (state, state) if kind == "LSTM" and isinstance(state, torch.Tensor) else state  # noqa: E731
    for right, state in ((x, h), (x[:, 0], h[:, 0]), (pack_padded_sequence(x, torch.tensor([5, 3])), h)):
        rnn(right, given(state))
    input, state = spoil(x, h)
    with pytest.raises(error, match=message):
        rnn(input, given(state))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recurrent("Elman", 3, 8), "kind must be one of RevGRU, RevLSTM, GRU, LSTM: got 'Elman'"),
        (lambda: Stored("RevGRU", 3, 8), "kind must be one of GRU, LSTM: got 'RevGRU'"),
        (
            lambda: LanguageModel(5, "GRU", 8, 4, tied=True),
            "tied weights need embedding_size = hidden_size: got 4 and 8",
        ),
    ],
)
def test_names_and_sizes_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
