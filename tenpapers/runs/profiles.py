"""How large is an experiment? Three sizes, chosen by one word in a chapter's ``parameters`` cell."""

from types import SimpleNamespace
from typing import Any

import torch

PROFILES = ("quick", "laptop", "paper")


def profile(name: str, *, quick: dict[str, Any], laptop: dict[str, Any], paper: dict[str, Any]) -> SimpleNamespace:
    """The settings of one profile, as attributes, with ``name`` and ``dtype`` beside them.

    *quick* is what the page shows and the tests re-run, at most 60 seconds on one thread; *laptop* is what
    ``results/`` holds, at most 30 minutes on 2 cores; *paper* has the paper's own sizes. ``dtype`` is float64 in
    *quick*, so that its text is the same on another CPU, and float32 otherwise, unless a profile sets its own.
    Nothing global is changed: threads are the business of the command that runs the notebook.

    Args:
        name: ``quick``, ``laptop`` or ``paper``.
        quick: Settings of that profile.
        laptop: Settings of that profile, with the same keys.
        paper: Settings of that profile, with the same keys.

    Returns:
        A namespace.

    Raises:
        ValueError: for another name, or where the three do not have the same keys.

    Chapter: ``book/nqm.ipynb``.

    >>> settings = profile("quick", quick={"seeds": 1}, laptop={"seeds": 3}, paper={"seeds": 5})
    >>> settings.seeds, settings.dtype
    (1, torch.float64)
    """
    choices = {"quick": quick, "laptop": laptop, "paper": paper}
    if name not in choices:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}: got {name!r}")
    keys = set(quick) | set(laptop) | set(paper)
    for which, settings in choices.items():
        if missing := keys - set(settings):
            raise ValueError(f"profile {which!r} lacks {', '.join(sorted(missing))}, which another profile sets")
    default = {"name": name, "dtype": torch.float64 if name == "quick" else torch.float32}
    return SimpleNamespace(**(default | choices[name]))
