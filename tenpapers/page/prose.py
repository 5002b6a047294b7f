"""Numbers in sentences that come from a record: the sentence says from where, and can't drift from it.

In a text cell, a comment behind a number names its source. A reader sees it neither in the book nor in Jupyter:

    K-FAC gains 2.1<!--= largest_gain.number("K-FAC, BN") --> points in thirteen<!--= longer() --> times the time.

The source is an expression, which may use the chapter's claims and tables and what ``tenpapers/<chapter>/prose.py``
defines. The value is written as the number is, with as many decimals, or as a word up to twenty; ``<!--~2= … -->``
rounds to two significant digits first. ``tools/prose.py --write`` writes all of them anew.
"""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
# A number, or a word for one, and behind it the comment.
MARKED = re.compile(
    rf"(?P<shown>[−-]?\d[\d,]*(?:\.\d+)?|\b(?:{'|'.join(WORDS)})\b)<!--(?:~(?P<digits>\d+))?=(?P<source>.*?)-->",
    re.I | re.S,
)
COMMENT = re.compile(r"<!--(?:~\d+)?=.*?-->", re.S)


class Unfilled(ValueError):
    """A comment names something that gives no number, or stands behind none."""


def written_like(shown: str, value: float, digits: int | None = None) -> str:
    """A value as this number is written: its decimals, its commas, or a word.

    Args:
        shown: The number as it stands in the sentence.
        value: What it should be.
        digits: Significant digits to round to before it is written.

    >>> written_like("0.50", 0.123), written_like("7,000", 65536), written_like("Three", 13.2), written_like("4", 39, 1)
    ('0.12', '65,536', 'Thirteen', '40')
    """
    if digits is not None:
        value = float(f"{value:.{digits - 1}e}")
    if shown.lower() in WORDS:
        if not -0.5 < value < len(WORDS) - 0.5:
            raise Unfilled(f"{value:g} has no word here: write it in digits")
        word = WORDS[round(value)]
        return word.capitalize() if shown[0].isupper() else word
    decimals = len(shown.partition(".")[2])
    return f"{value:{',' if value >= 1000 else ''}.{decimals}f}".replace("-", "−")


def filled(text: str, names: Mapping[str, Any]) -> str:
    """A text whose marked numbers are those of their sources.

    Raises:
        Unfilled: where a source fails or gives no number, or a comment stands behind no number.
    """

    def fill(found: re.Match) -> str:
        source = found["source"].strip()
        try:
            value = float(eval(source, {}, dict(names)))
        except Exception as error:
            raise Unfilled(f"{source}: {type(error).__name__}: {error}") from error
        digits = int(found["digits"]) if found["digits"] else None
        return found[0].replace(found["shown"], written_like(found["shown"], value, digits), 1)

    if len(COMMENT.findall(text)) != len(MARKED.findall(text)):
        behind = [found[0] for found in COMMENT.finditer(MARKED.sub("", text))]
        raise Unfilled(f"a comment must stand right behind a number: {', '.join(behind)}")
    return MARKED.sub(fill, text)


def names_of(chapter: str) -> dict[str, Any]:
    """What a chapter's comments may use: its claims and tables, and what its ``prose`` defines."""
    found: dict[str, Any] = {}
    for room in ("claims", "runs", "prose"):
        if find_spec(f"tenpapers.{chapter}.{room}"):
            module = import_module(f"tenpapers.{chapter}.{room}")
            found |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return found


def each_text(notebook: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change, in place, every text cell of a notebook as it is read from JSON."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = cell["source"]
            text = change(source if isinstance(source, str) else "".join(source))
            cell["source"] = text if isinstance(source, str) else text.splitlines(keepends=True)
