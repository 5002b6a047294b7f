"""Numbers and tables as stable text."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from tenpapers.page import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.00"),
        (0.5, "0.500"),
        (-12.345, "−12.3"),
        (9.999, "10.0"),
        (999.9, "1,000"),
        (123_456.0, "123,000"),
        (999_999.0, "1.00×10⁶"),
        (1.234e-4, "0.000123"),
        (1.234e-5, "1.23×10⁻⁵"),
        (6.02e23, "6.02×10²³"),
        (12_345, "12,345"),
        (-7, "−7"),
        (10**9, "1,000,000,000"),
        (True, "yes"),
        (False, "no"),
        (None, "–"),
        (math.nan, "–"),
        (pd.NA, "–"),
        (pd.NaT, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        ((1, 2.5), "1 to 2.50"),
        ("as it is", "as it is"),
        (np.float32(0.1), "0.100"),
        (np.int64(4096), "4,096"),
        (np.bool_(True), "yes"),
        (torch.tensor(0.25), "0.250"),
    ],
)
def test_number_writes_three_significant_digits(value, expected):
    # Breaks if a kind of value is taken for another: a boolean for an integer, NaN for a real, 9.999 for "10.00".
    assert text.number(value) == expected


def test_noise_in_the_last_bits_does_not_change_the_text():
    # Ties such as 0.1225 round by their last bit unless the noise is cut off first; another CPU differs in that bit.
    for tie in (0.1225, 2.675, 1.005, 0.0004445, 123.5):
        neighbours = {text.number(np.nextafter(tie, direction)) for direction in (-math.inf, math.inf)}
        assert neighbours == {text.number(tie)}


def test_significant_digits_agree_with_pythons_own_rounding():
    # An oracle for the values between the ties: format's own %.3g.
    values = np.random.default_rng(0).lognormal(0, 3, 2000)
    for value in values[(values > 1e-4) & (values < 1e5)]:
        assert float(text.number(value).replace(",", "")) == float(f"{value:.3g}")


def test_number_refuses_what_is_no_number():
    with pytest.raises(ValueError, match=r"real numbers.*\[1, 2\]"):
        text.number([1, 2])


def test_table_is_markdown_with_numbers_to_the_right():
    frame = pd.DataFrame({"a|b": ["x|y", None], "n": [1000, 2], "ok": [True, False]})
    assert text.table(frame)._repr_markdown_() == (
        "| a\\|b | n | ok |\n| :--- | ---: | :--- |\n| x\\|y | 1,000 | yes |\n| – | 2 | no |"
    )


def test_table_shows_an_index_that_means_something():
    # A row count is left out; a named or grouped index would be lost without reset_index.
    frame = pd.DataFrame({"steps": [3.0, 4.0]}, index=pd.Index(["SGD", "EMA"], name="method"))
    assert str(text.table(frame)) == "method  steps\nSGD      3.00\nEMA      4.00"
    assert "index" not in str(text.table(frame.reset_index()))


def test_table_refuses_what_is_no_frame():
    with pytest.raises(ValueError, match="DataFrame"):
        text.table([1, 2])
