"""Which data did a run really load? ``load`` notes it, and whoever runs something can listen.

So that no record says by hand where its data came from.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

_listening: ContextVar[tuple[list[str], ...]] = ContextVar("_listening", default=())


def note(*sources: str) -> None:
    """Say that these were loaded, each once, to all who listen."""
    for heard in _listening.get():
        heard += [source for source in sources if source not in heard]


@contextmanager
def noted() -> Iterator[list[str]]:
    """Listen: the list fills with the sources of what is loaded inside.

    >>> with noted() as sources:
    ...     note("digits")
    >>> sources
    ['digits']
    """
    heard: list[str] = []
    token = _listening.set((*_listening.get(), heard))
    try:
        yield heard
    finally:
        _listening.reset(token)


def own_files() -> list[tuple[str, int, int]]:
    """Name, size and time of the last change of each file in ``$NNLIB_DATA``: other files are other data."""
    own = os.environ.get("NNLIB_DATA")
    if not own or not Path(own).is_dir():
        return []
    found = [(path.name, path.stat()) for path in sorted(Path(own).iterdir()) if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def remember(maxsize: int = 16) -> Callable[[Callable], Callable]:
    """``lru_cache`` for what loads data: an answer from memory notes again what was loaded to make it.

    Answers made from other files in ``$NNLIB_DATA`` do not count.

    >>> @remember()
    ... def trained(seed):
    ...     note("digits")
    ...     return seed
    >>> def sources(seed):
    ...     with noted() as heard:
    ...         trained(seed)
    ...     return heard
    >>> sources(0), sources(0)
    (['digits'], ['digits'])
    """

    def decorate(function: Callable) -> Callable:
        kept: dict[Any, tuple[Any, list[str]]] = {}

        @wraps(function)
        def remembered(*args: Any, **options: Any) -> Any:
            key = (args, tuple(sorted(options.items())), tuple(own_files()))
            if key not in kept:
                with noted() as heard:
                    value = function(*args, **options)
                if len(kept) >= maxsize:
                    del kept[next(iter(kept))]  # the oldest
                kept[key] = value, heard
                return value
            value, heard = kept[key]
            note(*heard)
            return value

        remembered.cache_clear = kept.clear  # type: ignore[attr-defined]
        return remembered

    return decorate
