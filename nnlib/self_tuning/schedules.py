"""How does an ordinary network follow what a tuner found? Its history, as a function of the step.

Chapter: ``book/self_tuning.ipynb``.
"""

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nnlib.arguments import typed


@typed
def replay(history: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Callable[[int], dict[str, float]]:
    """The schedule that a tuner left behind, as a function of the step, for ``train``.

    Args:
        history: The rows of ``SelfTuner.fit``, or what was read back of them.
        names: Of the hyperparameters.

    Returns:
        ``schedule(step)``: the values that the tuner used at that training step. A row holds those used up to its step;
        after the last row, its values stay.

    Raises:
        ValueError: where a row lacks one of them, or the steps do not rise.

    >>> history = [{"step": 5, "rate": 0.1}, {"step": 10, "rate": 0.2}]
    >>> schedule = replay(history, ["rate"])
    >>> [schedule(step)["rate"] for step in (0, 4, 5, 99)]
    [0.1, 0.1, 0.2, 0.2]
    """
    names = list(names)
    if missing := {name for row in history for name in ("step", *names) if name not in row}:
        raise ValueError(f"the history lacks {', '.join(sorted(missing))}")
    steps = [row["step"] for row in history]
    if not steps or steps != sorted(set(steps)):
        raise ValueError("the steps of a history must rise, and there must be at least one")
    rows = [{name: row[name] for name in names} for row in history]

    def schedule(step: int) -> dict[str, float]:
        return rows[min(bisect.bisect_left(steps, step + 1), len(rows) - 1)]

    return schedule
