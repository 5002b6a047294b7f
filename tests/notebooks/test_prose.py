"""Numbers in sentences: from the record they name, and none that hides where it is from."""

import json
import math

import pytest

from tenpapers.page.prose import Unfilled, filled, written_like
from tools.prose import checked, each_text, loose, notebooks

BOOK = notebooks()
# Decimals, percentages and factors that no record could change: settings of runs, of papers, and mathematics.
GIVEN = {"nqm": "10,000 1.5 1.8 1.4 0.05 0.25 4 0.03 1.90 5", "noisy_ekfac": "15.11 10.08 0.20 0.13"}
# Chapters whose sentences still have numbers without a source.
LATER = set(
    "bcop curvature eigendamage functional_bnn groupsort natural_gradient reversible_rnn self_tuning "
    "weight_decay".split()
)


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_sentences_say_what_the_record_says(path):
    """Breaks if a record changes and its sentence does not: python tools/prose.py --write, and read the sentence."""
    assert checked(path) == []


@pytest.mark.parametrize("path", [path for path in BOOK if path.stem not in LATER], ids=lambda path: path.stem)
def test_numbers_without_a_source_are_settings_or_mathematics(path):
    """Breaks for a measured number that somebody typed."""
    found: list[str] = []
    each_text(json.loads(path.read_text(encoding="utf-8")), lambda text: found.extend(loose(text)) or text)
    assert set(found) <= set(GIVEN.get(path.stem, "").split())


def test_chapters_that_wait_exist_and_have_something_left_to_do():
    """Breaks if a chapter is done and still excused."""
    assert {path.stem for path in BOOK} >= LATER and not set(GIVEN) & LATER


@pytest.mark.parametrize(
    "shown, value, digits, right",
    [
        ("0.5", 0.26, None, "0.3"), ("12", 12.4, None, "12"), ("1,000", 65536.2, None, "65,536"),
        ("−0.2", 0.31, None, "0.3"), ("0.3", -0.31, None, "−0.3"), ("three", 3.6, None, "four"),
        ("Two", 3, None, "Three"), ("40", 38.9, 1, "40"), ("346", 351.2, 2, "350"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_the_number_that_stands_there(shown, value, digits, right):
    assert written_like(shown, value, digits) == right


@pytest.mark.parametrize("value", [21, -1, math.inf, math.nan])
def test_what_has_no_word_is_an_error(value):
    with pytest.raises(Unfilled):
        written_like("four", value)


def test_marked_numbers_are_filled_and_all_else_stays():
    text = '0.1<!--= gain["a"] --> points, two<!--= 3 --> times; 7 <!-- a remark --> and $0.5$, 40<!--~1= 52.1 --> %.'
    wanted = text.replace("0.1<", "2.3<").replace("two<", "three<").replace("40<", "50<")
    assert filled(text, {"gain": {"a": 2.34}}) == wanted
    assert filled(wanted, {"gain": {"a": 2.34}}) == wanted


@pytest.mark.parametrize("text", ["word<!--= 1 -->", "1.0<!--= unknown -->", "1.0<!--= 'text' -->", "1 <!--= 1 -->"])
def test_a_source_that_gives_no_number_is_an_error(text):
    with pytest.raises(Unfilled):
        filled(text, {})


def test_measured_looking_numbers_are_found_and_formulas_are_not():
    text = "Of 12 runs 3 %, 1.4 points; $0.7$, `0.8`, [0.9](x.md 0.2), 1907.04164; two times; 5 times; 0.6<!--= 1 -->"
    assert loose(text) == ["3", "1.4", "0.9", "5"]
