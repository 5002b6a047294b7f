"""What does a function stand on that its arguments do not show? Code, classes, objects and values, as a hash.

Of what the reader wrote (in a notebook, a script, a module of his own) the code that is in memory counts, and all that
it reads: edited in place, it has another hash. Of the book's packages and of installed ones the names are enough:
``tenpapers.runs.cache`` hashes the former's source.
"""

import dis
import hashlib
import sys
import types
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

HOUSES = ("nnlib", "tenpapers")
INSTALLED = ("site-packages", "dist-packages")
# What a class has without having been written.
MACHINERY = {"__dict__", "__weakref__", "__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__firstlineno__"}
MACHINERY |= {"__static_attributes__", "__annotate_func__", "__annotations_cache__"}


class Indescribable(TypeError):
    """Something has no hash: what stands on it must not be remembered."""


def described(value: Any) -> str:
    """A hash of a value and of all that it stands on.

    Raises:
        Indescribable: where something in it can neither be taken apart nor pickled.
    """
    digest = hashlib.sha256()
    try:
        for part in _parts(value, {}):
            digest.update(repr(part).encode() + b"\0")
    except Indescribable:
        raise
    except Exception as caught:
        raise Indescribable(f"{type(value).__name__} has no hash: {caught}") from caught
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def own(module: str | None) -> bool:
    """Whether a module is the reader's own: neither the book's, nor installed, nor Python's."""
    top = (module or "").partition(".")[0]
    if top in HOUSES or top in sys.builtin_module_names:
        return False
    if top == "__main__" or not top:
        return True
    if top in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(top)
    place = getattr(loaded, "__file__", None) if loaded else getattr(find_spec(top), "origin", None)
    return not any(part in INSTALLED for part in Path(place or "").parts)


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """What is hashed, as a flat sequence of plain things; ``seen`` keeps what was met, so that no circle is run."""
    if own(type(value).__module__):
        yield from _parts(type(value), seen)
    if value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        yield type(value).__name__, value
        return
    if id(value) in seen:
        yield "again", list(seen).index(id(value))
        return
    seen[id(value)] = value  # kept, or its id could be given to something else
    if isinstance(value, torch.Tensor):
        yield "tensor", str(value.dtype), str(value.device), value.requires_grad, tuple(value.shape), _numbers(value)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield "array", str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    elif isinstance(value, torch.Generator):
        yield "generator", _numbers(value.get_state())
    elif isinstance(value, list | tuple):
        yield type(value).__name__, len(value)
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, dict):
        yield type(value).__name__, len(value)
        for key, item in value.items():
            yield from _parts(key, seen)
            yield from _parts(item, seen)
    elif isinstance(value, set | frozenset):
        yield type(value).__name__, sorted(described(item) for item in value)
    elif isinstance(value, partial):
        yield "partial"
        yield from _parts([value.func, value.args, value.keywords], seen)
    elif isinstance(value, types.MethodType):
        yield "method"
        yield from _parts([value.__func__, value.__self__], seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, types.CodeType):
        yield from _code(value, seen)
    elif isinstance(value, types.ModuleType):
        yield "module", value.__name__
        if own(value.__name__):
            names = sorted(name for name in vars(value) if not name.startswith("__"))
            for name in names:
                yield name
                yield from _parts(vars(value)[name], seen)
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, staticmethod | classmethod):
        yield type(value).__name__
        yield from _parts(value.__func__, seen)
    elif isinstance(value, property):
        yield "property"
        yield from _parts([value.fget, value.fset, value.fdel], seen)
    else:
        yield from _object(value, seen)


def _function(function: types.FunctionType, seen: dict[int, Any]) -> Iterator[Any]:
    """Code, defaults, what is closed over, and the globals that it reads; of the functions of others their name."""
    yield "function", function.__module__, function.__qualname__
    if not own(function.__module__):
        return
    yield from _parts([function.__code__, function.__defaults__, function.__kwdefaults__], seen)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents if cell != types.CellType() else None, seen)
    for name in sorted(_globals_read(function.__code__)):
        if name in function.__globals__:
            yield name
            yield from _parts(function.__globals__[name], seen)
    if wrapped := getattr(function, "__wrapped__", None):
        yield from _parts(wrapped, seen)


def _code(code: types.CodeType, seen: dict[int, Any]) -> Iterator[Any]:
    """What a piece of code does; not where it stands, so that a cell run again is the same."""
    yield "code", code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount
    yield code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags, code.co_exceptiontable
    yield from _parts(code.co_consts, seen)


def _globals_read(code: types.CodeType) -> set[str]:
    """Names of globals, also of those that inner functions, lambdas and comprehensions read."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= _globals_read(inner)
    return found


def _class(kind: type, seen: dict[int, Any]) -> Iterator[Any]:
    """A class of the reader's by all that is written in it and in its bases; another by its name."""
    yield "class", kind.__module__, kind.__qualname__
    if own(kind.__module__):
        yield from _parts(list(kind.__bases__), seen)
        for name, member in vars(kind).items():
            if name not in MACHINERY and not isinstance(
                member, types.MemberDescriptorType | types.GetSetDescriptorType
            ):
                yield name
                yield from _parts(member, seen)


def _object(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """An object by its class and its state, or, where it shows none, by its pickle."""
    yield from _class(type(value), seen) if not own(type(value).__module__) else ()
    state = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        state |= {n: getattr(value, n) for n in ([slots] if isinstance(slots, str) else slots) if hasattr(value, n)}
    if callable(value) and not state and isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
        yield value.__qualname__
    elif own(type(value).__module__) or (state and type(value).__module__.split(".")[0] in (*HOUSES, "torch")):
        yield from _parts(state, seen)
    else:
        yield joblib.hash(value)


def _numbers(value: torch.Tensor) -> str:
    """A hash of the numbers of a dense tensor, byte by byte: numpy does not have all of torch's types."""
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()
