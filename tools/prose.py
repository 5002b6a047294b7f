"""Are the numbers in the book's sentences those of the records?

    python tools/prose.py [paths]              name those that are not; exit code 1 if any
    python tools/prose.py --write [paths]      write them anew

See ``tenpapers/page/prose.py`` for how a sentence says where a number is from.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tenpapers.page.prose import COMMENT, MARKED, Unfilled, each_text, filled, names_of
from tools.notebooks import notebooks

# What is no measured number: formulas, code, addresses, names of figures and the like, numbers of papers.
ASIDE = re.compile(
    r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|`[^`]*`|\]\([^)]*\)|\{[\w:]+\}|^:\w+:.*$|^\(.*\)=$|\d{4}\.\d{5}", re.S | re.M
)
MEASURED = re.compile(r"(?<![\w.,])[−-]?(?:\d[\d,]*\.\d+|\d[\d,]*(?=(?:\s|\u202f)?(?:%| times| points)))")


def loose(text: str) -> list[str]:
    """Decimals, percentages and factors in a text whose source is not named."""
    return MEASURED.findall(ASIDE.sub(" ", COMMENT.sub("", MARKED.sub(" ", text))))


def checked(path: Path, write: bool = False) -> list[str]:
    """What differs from the records in a notebook; with ``write``, nothing afterwards."""
    text = path.read_text(encoding="utf-8")
    notebook, wrong = json.loads(text), []
    names = names_of(path.stem) if COMMENT.search(text) else {}

    def fill(source: str) -> str:
        try:
            right = filled(source, names)
        except Unfilled as error:
            wrong.append(str(error))
            return source
        pairs = zip(MARKED.finditer(source), MARKED.finditer(right), strict=True)
        wrong.extend(f"{a['shown']} should be {b['shown']}: {a['source'].strip()}" for a, b in pairs if a[0] != b[0])
        return right

    each_text(notebook, fill)
    if write:
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    bad = False
    for path in notebooks(arguments.paths):
        found = checked(path, arguments.write)
        bad |= bool(found) and not arguments.write
        for line in found:
            print(f"{path.name}: {line}")
    sys.exit(bad)


if __name__ == "__main__":
    main()
