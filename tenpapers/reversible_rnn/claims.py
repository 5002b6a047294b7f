"""What the paper says of reversible recurrent networks, and what decides it here. Paper: arXiv 1810.10999."""

import torch

from nnlib.reversible_rnn import LanguageModel, ReversalError, RevGRU, RevLSTM, gradient_cosine
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, sample
from tenpapers.reversible_rnn import runs

TESTS = "tests/nnlib/reversible_rnn/"
LANGUAGE = "section 5.1, tables on Penn Treebank and WikiText-2; abstract"
AS_GOOD = 1.02  # a perplexity at most two percent higher counts as as good


def _repeated(bits: int):
    def evidence(profile: str) -> Evidence:
        return Evidence({"share of tokens": sample(runs.repeat.read(profile, bits=bits, length=20), "accuracy")})

    return evidence


repeat_without = Claim(
    "reversible_rnn",
    "repeat_without",
    "A reversible network that never forgets can't learn to repeat each token one step later "
    "(share of tokens, sequences of 20: below three quarters)",
    "section 3.1",
    Threshold(below=0.75),
    _repeated(0),
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_without_forgetting_a_network_cannot_repeat",
)
repeat_with = Claim(
    "reversible_rnn",
    "repeat_with",
    "With a learned gate a reversible network can repeat each token one step later "
    "(share of tokens, sequences of 20: above 95 %)",
    "section 3.1",
    Threshold(above=0.95),
    _repeated(3),
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_without_forgetting_a_network_cannot_repeat",
)


def _exact(profile: str) -> Evidence:
    tested = {}
    for kind, layers in ((RevGRU, 2), (RevLSTM, 1)):
        draw = torch.Generator().manual_seed(0)
        net = kind(4, 16, layers, bits=3, dropout=0.3, weight_drop=0.3, check=True, dtype=torch.float64)
        x = torch.randn(1000, 2, 4, generator=draw, dtype=torch.float64)
        output, _ = net(x, generator=draw)
        assert net.plan is not None  # there was a forward pass
        tested[f"{kind.__name__} puts words aside"] = any(buffer.saved for buffer in net.plan.buffers.values())
        try:
            output.square().sum().backward()  # check: every state is compared
            tested[f"{kind.__name__} is restored"] = True
        except ReversalError:
            tested[f"{kind.__name__} is restored"] = False
    return Evidence(tested)


exact = Claim(
    "reversible_rnn",
    "exact",
    "The reversal is exact: over 1,000 steps, with buffers put aside and dropout, every state is restored bit by bit",
    "section 3",
    Exact(0.0),
    _exact,
    same=("laptop", "paper"),
    test=TESTS + "test_rnn.py::test_a_thousand_steps_run_backwards_to_the_first_state",
)


def _gradients(profile: str) -> Evidence:
    tokens = torch.randint(9, (71, 4), generator=torch.Generator().manual_seed(0))
    tested = {}
    for kind in ("RevGRU", "RevLSTM"):
        for layers in (1, 2):
            model = LanguageModel(9, kind, 16, 8, layers, bits=2, dropout=0.3, weight_drop=0.3)
            tested[f"{kind}, {layers}: 1 - cosine"] = 1 - gradient_cosine(model, tokens[:-1], tokens[1:])
    return Evidence(tested)


gradients = Claim(
    "reversible_rnn",
    "gradients",
    "Gradients are those of backpropagation through time (smallest cosine over weights above 0.9999 in single "
    "precision, over 70 steps)",
    "section 3",
    Exact(1e-4),
    _gradients,
    same=("laptop", "paper"),
    test=TESTS + "test_language_model.py::test_gradients_of_the_whole_model_are_those_of_autograd_with_every_dropout",
)


def _models(profile: str, column: str, book: str, kind: str, limit: str) -> Sample:
    return sample(runs.language.read(profile, size=book, kind=kind, limit=limit), column)


def _ratio(profile: str, book: str, one: tuple[str, str], other: tuple[str, str]) -> Sample:
    """Perplexity of one kind over that of another, seed by seed, over the seeds that both have."""
    frames = (
        runs.language.read(profile, size=book, kind=k, limit=limit).set_index("seed") for k, limit in (one, other)
    )
    first, second = (frame.perplexity for frame in frames)
    return Sample(tuple((first / second).dropna()))


def _memory(profile: str) -> Evidence:
    limits = ("2 bits", "3 bits")
    return Evidence({limit: _models(profile, "paper", runs.PRIDE, "RevGRU", limit) for limit in limits})


language_memory = Claim(
    "reversible_rnn",
    "language_memory",
    "Limited to forgetting 2 or 3 bits, a language model keeps at least 10 times less "
    "(RevGRU, characters of Pride and Prejudice, counted as in the paper)",
    LANGUAGE,
    Threshold(above=10.0),
    _memory,
    test=TESTS + "test_memory.py::test_worst_case_of_the_paper_is_that_of_gates_at_their_limit",
)


def _limits(profile: str) -> Evidence:
    limits = ("2 bits", "3 bits")
    found = {limit: _ratio(profile, runs.PRIDE, ("RevGRU", limit), ("RevGRU", "no limit")) for limit in limits}
    one = {name: Sample(tuple(value - 1 for value in ratio.values)) for name, ratio in found.items()}
    return Evidence(found, one)


language_limit = Claim(
    "reversible_rnn",
    "language_limit",
    "Limited to forgetting 2 or 3 bits, a language model has about the perplexity of one without a limit "
    "(RevGRU, characters of Pride and Prejudice, 2,000 steps of training: ratio, within 2 %)",
    LANGUAGE,
    Equal(AS_GOOD - 1),
    _limits,
    equal="text, steps, learning rate, units",
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_training_lowers_the_perplexity",
)


def _gru(profile: str) -> Evidence:
    return Evidence({book: _ratio(profile, book, ("RevGRU", "3 bits"), ("GRU", "–")) for book in runs.BOOKS})


language_gru = Claim(
    "reversible_rnn",
    "language_gru",
    "RevGRU with a limit of 3 bits is as good a language model as a GRU (perplexity over that of the GRU, below 1.02)",
    LANGUAGE,
    Threshold(below=AS_GOOD),
    _gru,
    equal="text, steps, learning rate, units",
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_training_lowers_the_perplexity",
)


def _lstm(profile: str) -> Evidence:
    return Evidence({"": _ratio(profile, runs.PRIDE, ("RevLSTM", "3 bits"), ("LSTM", "–"))})


language_lstm = Claim(
    "reversible_rnn",
    "language_lstm",
    "RevLSTM with a limit of 3 bits is as good a language model as an LSTM (perplexity over that of the LSTM, below "
    "1.02, characters of Pride and Prejudice)",
    LANGUAGE,
    Threshold(below=AS_GOOD),
    _lstm,
    equal="text, steps, units; RevLSTM diverges at the LSTM's learning rate and has a fifth of it",
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_training_lowers_the_perplexity",
)


def _one_bit(profile: str) -> Evidence:
    return Evidence({"": _ratio(profile, runs.PRIDE, ("RevGRU", "1 bit"), ("RevGRU", "3 bits"))})


one_bit = Claim(
    "reversible_rnn",
    "one_bit",
    "A limit of one bit costs perplexity (that of RevGRU with 1 bit over that with 3 bits, characters of Pride and "
    "Prejudice)",
    LANGUAGE,
    Threshold(above=1.0),
    _one_bit,
    equal="text, steps, learning rate, units",
    test="tests/tenpapers/reversible_rnn/test_measure.py::test_training_lowers_the_perplexity",
)


def _held(profile: str) -> Evidence:
    found = {f"{b} bits": _models(profile, "with output", runs.PRIDE, "RevGRU", f"{b} bits") for b in (2, 3)}
    return Evidence(found)


held = Claim(
    "reversible_rnn",
    "held",
    "Bytes that wait for the backward pass, output included, are ten times fewer than those of the same cell under "
    "autograd, at 2 and 3 bits over 70 steps (times fewer)",
    "our own measure; the paper counts states and buffers",
    Threshold(above=10.0),
    _held,
    test=TESTS + "test_memory.py::test_bytes_held_are_those_of_last_states_and_buffers",
)


def _translators(profile: str) -> Evidence:
    frame = runs.translation.read(profile, kind="RevGRU", context="slice + embedding")
    found = {side: sample(frame, f"{side} paper") for side in ("encoder", "decoder")}
    least = {"encoder": 5.0, "decoder": 10.0}
    over = {
        f"{side} over {least[side]:g}": Sample(tuple(v - least[side] for v in x.values)) for side, x in found.items()
    }
    return Evidence(found, over)


translation_memory = Claim(
    "reversible_rnn",
    "translation_memory",
    "With attention to a slice and the embeddings, the encoder keeps at least 5 times less and the decoder at least 10 "
    "times less (at most 3 bits; counted as in the paper)",
    "abstract; section 5.2",
    Direction(),
    _translators,
    test=TESTS + "test_memory.py::test_units_that_are_kept_for_attention_count_as_stored_and_as_not_forgotten",
)


def _contexts(profile: str) -> Evidence:
    frame = runs.translation.read(profile, kind="RevGRU")
    table = frame.pivot(index="seed", columns="context", values="perplexity").astype(float)
    ratios = {c: Sample(tuple(table[c] / table["hidden"])) for c in table.columns if c != "hidden"}
    return Evidence(ratios, {"slice + embedding": ratios["slice + embedding"]})


contexts = Claim(
    "reversible_rnn",
    "contexts",
    "Attention to a slice and the embeddings is as good as attention to all states (test perplexity over that with "
    "all states, below 1.02)",
    "section 5.2",
    Threshold(below=AS_GOOD),
    _contexts,
    equal="sentences, steps, learning rate, units",
    test=TESTS + "test_translation.py::test_contexts_have_their_widths_and_the_slice_is_the_encoders_first_units",
)
paper_sizes = Claim(
    "reversible_rnn",
    "paper_sizes",
    "The paper's own language models (1,150 units) and translators (300 and 600 units) on Penn Treebank, WikiText-2, "
    "Multi30k and IWSLT",
    "section 5",
    Threshold(below=AS_GOOD),
    missing="these texts, which have no loader here, and a GPU",
)
