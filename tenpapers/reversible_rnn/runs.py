"""The tables of the chapter. Chapter: ``book/reversible_rnn.ipynb``."""

from nnlib.reversible_rnn import CONTEXTS
from tenpapers.reversible_rnn.language import language as language_run
from tenpapers.reversible_rnn.repeat import repeat_task
from tenpapers.reversible_rnn.reversal import reversal as reversal_run
from tenpapers.reversible_rnn.translation import translation as translation_run
from tenpapers.runs import Table

PRIDE, KING_JAMES, WORDS = BOOKS = (
    "Pride and Prejudice, characters",
    "King James Bible, characters",
    "Pride and Prejudice, words",
)
SEEDS = (0, 1, 2)
UNDONE = 60  # steps


def _repeats(lengths):
    return [{"bits": bits, "length": n, "seed": seed} for bits in (0, 3) for n in lengths for seed in SEEDS]


def _languages():
    small = [{"size": "small", "kind": "RevGRU", "limit": "3 bits", "seed": s, "dtype": "float64"} for s in SEEDS]
    four = [("RevGRU", "2 bits"), ("RevGRU", "3 bits"), ("RevGRU", "no limit"), ("GRU", "–")]
    once = [("RevGRU", "1 bit"), ("RevLSTM", "3 bits"), ("RevLSTM", "no limit"), ("LSTM", "–")]
    runs = [(PRIDE, kind, limit, seed) for seed in SEEDS for kind, limit in four]
    runs += [(PRIDE, kind, limit, 0) for kind, limit in once]
    runs += [(book, kind, limit, 0) for book in (KING_JAMES, WORDS) for kind, limit in (four[1], four[3])]
    names = ("size", "kind", "limit", "seed")
    return small + [dict(zip(names, run, strict=True)) for run in runs]


def _languages_of_the_paper():
    limits = ("2 bits", "3 bits", "5 bits", "no limit")
    runs = [(kind, limit) for kind in ("RevGRU", "RevLSTM") for limit in limits] + [("GRU", "–"), ("LSTM", "–")]
    return [{"size": "paper", "kind": kind, "limit": limit, "seed": 0, "device": "auto"} for kind, limit in runs]


def _translations(**options):
    pairs = [("GRU", "hidden"), *(("RevGRU", context) for context in CONTEXTS[::-1])]
    return [{"kind": kind, "context": context, "seed": s, **options} for s in SEEDS for kind, context in pairs]


reversal = Table(
    "reversible_rnn",
    "reversal",
    reversal_run,
    {
        "laptop": lambda: [
            {"bits": bits, "dtype": dtype, "steps": UNDONE} for bits in (1, 2, 3, 5) for dtype in ("float32", "float64")
        ]
    },
    columns=("bits", "dtype", "step", "error"),
    probe={"bits": 1, "dtype": "float64", "steps": 8},
    tolerance=0.75,  # rounding errors: the same to a factor of four on another processor
)
repeat = Table(
    "reversible_rnn",
    "repeat",
    repeat_task,
    {"laptop": lambda: _repeats((5, 10, 20)), "paper": lambda: _repeats((5, 10, 20, 80))},
    columns=("bits", "length", "seed", "accuracy", "last", "bits asked", "bits held"),
    probe={"bits": 3, "length": 6, "seed": 7, "steps": 20, "dtype": "float64"},
)
language = Table(
    "reversible_rnn",
    "language",
    language_run,
    {"laptop": _languages, "paper": _languages_of_the_paper},
    columns=(
        *("size", "kind", "limit", "seed", "perplexity", "bits a token"),
        *("forgotten", "paper", "ideal", "held", "with output"),
    ),
    probe={"size": "small", "kind": "RevGRU", "limit": "3 bits", "seed": 7, "dtype": "float64", "steps": 10},
    hours=0.9,
)
translation = Table(
    "reversible_rnn",
    "translation",
    translation_run,
    {
        "laptop": lambda: _translations(size="laptop"),
        "paper": lambda: _translations(size="paper", device="auto"),
    },
    columns=(
        *("kind", "context", "seed", "perplexity", "BLEU", "encoder paper", "encoder ideal", "encoder held"),
        *("decoder paper", "decoder ideal", "decoder held"),
    ),
    probe={
        **{"kind": "RevGRU", "context": "slice + embedding", "seed": 7},
        **{"size": "small", "dtype": "float64", "steps": 5},
    },
)
