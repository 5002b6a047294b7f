"""Which data did a run really load? ``load`` notes it, and whoever runs something can listen.

So that no record says by hand where its data came from.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
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


def remember(maxsize: int = 16) -> Callable[[Callable], Callable]:
    """``lru_cache`` for what loads data: an answer from memory notes again what was loaded to make it.

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
            key = (args, tuple(sorted(options.items())))
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
