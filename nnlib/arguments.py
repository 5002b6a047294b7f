"""Is an argument what a function asks for? Checks at the boundary; each names argument, value and what is allowed.

Of which class it must be, the annotation says, and :func:`typed` looks. What a number or a tensor must hold, the first
lines of the function say; an argument is given by its name there, so that name and value can't part:
``within("(0, 1]", momentum=momentum)``.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
# What stands for what: numpy's numbers are numbers, and a graph of torch.fx holds proxies in the place of tensors.
_STANDS_FOR: dict[Any, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (int, Integral),
    float: (float, Real, Tensor),
    Tensor: (Tensor, torch.fx.Proxy),
    Sequence: (Sequence, np.ndarray, Tensor),
}


def typed(decorated: Decorated) -> Decorated:
    """A function, or a class with its ``__init__``, that refuses arguments of other classes than it is annotated with.

    Of a union each member counts, of a generic its origin alone (``list[int]`` is any list). A text is no sequence of
    texts, and a float may be any real number or a tensor (:func:`within` looks further). What Python can't tell apart
    (``Any``, type variables, protocols that are not ``runtime_checkable``) is let pass, and everything while
    ``torch.compile`` records a graph.

    Raises:
        TypeError: from what is returned: with argument, annotation and value.

    >>> @typed
    ... def scaled(x: Tensor, by: float = 1.0) -> Tensor:
    ...     return by * x
    >>> scaled([1.0])
    Traceback (most recent call last):
    TypeError: x must be Tensor: got [1.0]
    """
    if isinstance(decorated, type):
        decorated.__init__ = typed(decorated.__init__)
        return typing.cast(Decorated, decorated)
    parameters = inspect.signature(decorated).parameters
    single = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    in_order = [name for name in single if parameters[name].kind != inspect.Parameter.KEYWORD_ONLY]

    @functools.lru_cache(maxsize=1)  # at the first call, when all names of the module are known
    def wanted() -> dict[str, tuple[list[Any], tuple[type, ...]]]:
        hints = typing.get_type_hints(decorated)
        members = {name: _members(hints[name]) for name in single if name in hints}
        kinds = {name: [_kinds(member) for member in each] for name, each in members.items()}
        return {name: (members[name], sum(each, ())) for name, each in kinds.items() if all(each)}

    @functools.wraps(decorated)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            # Not signature.bind, which costs more than the checks; what is missing or too much, the call itself tells.
            given = dict(zip(in_order, args, strict=False)) | kwargs
            for name, (members, kinds) in wanted().items():
                if name in given and type(given[name]) not in kinds and not _is_one_of(kinds, given[name]):
                    allowed = " or ".join("None" if m is type(None) else m.__name__ for m in members)
                    raise TypeError(f"{name} must be {allowed}: got {shown(given[name])}")
        return decorated(*args, **kwargs)

    return typing.cast(Decorated, checked)


def _members(hint: Any) -> list[Any]:
    """Of a union its members, of a generic its origin."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [typing.get_origin(member) or member for member in (typing.get_args(hint) if union else [hint])]


def _kinds(member: Any) -> tuple[type, ...]:
    """The classes that may stand where this one is asked for; none where it can't be told."""
    if member in _STANDS_FOR:
        return _STANDS_FOR[member]
    protocol = getattr(member, "_is_protocol", False) and not getattr(member, "_is_runtime_protocol", False)
    return (member,) if isinstance(member, type) and member is not Any and not protocol else ()


def _is_one_of(kinds: tuple[type, ...], value: Any) -> bool:
    return type(value) in kinds or object in kinds if isinstance(value, str | bytes) else isinstance(value, kinds)


def within(interval: str, /, **named: Any) -> None:
    """Real numbers, finite and in an interval.

    Args:
        interval: As in mathematics: ``[0, 1)`` holds 0 and not 1; an end may be ``inf`` or ``-inf``, and open.
        named: Each a Python or numpy number, or a tensor of one element; no boolean.

    Raises:
        TypeError: one of them is no real number.
        ValueError: one is not finite, or outside.

    >>> within("[0, inf)", damping=0.0)
    >>> within("(0, 1)", decay=1.0)
    Traceback (most recent call last):
    ValueError: decay must be a number in (0, 1): got 1.0
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in named.items():
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool:
            value = value.item()
        if not _is_number(value):
            raise TypeError(f"{name} must be a number in {interval}: got {shown(value)}")
        above = value > low if interval[0] == "(" else value >= low
        below = value < high if interval[-1] == ")" else value <= high
        if not (above and below and math.isfinite(value)):
            raise ValueError(f"{name} must be a number in {interval}: got {shown(value)}")


def whole(least: int, most: int | None = None, /, **named: Any) -> None:
    """Whole numbers of at least ``least`` and at most ``most``.

    Raises:
        TypeError: one of them is no number (a boolean is none).
        ValueError: one is not whole, or outside; 2.0 is not whole.

    >>> whole(1, steps=0)
    Traceback (most recent call last):
    ValueError: steps must be a whole number of at least 1: got 0
    """
    wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
    for name, value in named.items():
        if not _is_number(value):
            raise TypeError(f"{name} must be a whole number {wanted}: got {shown(value)}")
        if not isinstance(value, Integral) or not least <= int(value) <= (int(value) if most is None else most):
            raise ValueError(f"{name} must be a whole number {wanted}: got {shown(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def one_of(allowed: Collection[Any], /, **named: Any) -> None:
    """Values of a list.

    Raises:
        ValueError: one is not in it.

    >>> one_of(("zeros", "circular"), padding="reflect")
    Traceback (most recent call last):
    ValueError: padding must be one of zeros, circular: got 'reflect'
    """
    for name, value in named.items():
        if not any(type(value) is type(known) and value == known for known in allowed):
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}: got {shown(value)}")


def real(shape: str, sizes: dict[str, int] | None = None, /, *, finite: bool = True, **named: Any) -> dict[str, int]:
    """Tensors of real floating-point numbers, finite, of a shape.

    Args:
        shape: Names and numbers of the axes, as ``n 3``; ``...`` at its end stands for any further axes. The same
            name is the same size, in all tensors; no axis is empty.
        sizes: Those of names that are known from other arguments.
        finite: Whether infinite numbers and NaN are refused. Looking waits for the device.
        named: The tensors.

    Returns:
        The size of each name.

    Raises:
        TypeError: one is no tensor, or none of floating-point numbers.
        ValueError: one has another shape, or holds what is not finite.

    >>> real("n d", x=torch.ones(3, 2)) == {"n": 3, "d": 2}
    True
    >>> real("n", {"n": 4}, y=torch.ones(3))
    Traceback (most recent call last):
    ValueError: y must have shape (n), where n = 4, no axis empty: got (3,)
    """
    return _tensors(shape, sizes, named, "real numbers", lambda t: t.is_floating_point(), finite)


def labels(classes: int | None, shape: str, sizes: dict[str, int] | None = None, /, **named: Any) -> dict[str, int]:
    """Tensors of labels 0, ..., classes - 1 (any that are not negative where ``classes`` is None); see :func:`real`.

    >>> labels(3, "n", y=torch.tensor([0, 3]))
    Traceback (most recent call last):
    ValueError: y must hold labels from 0 to 2: got 3
    """
    found = _tensors(shape, sizes, named, "whole numbers", _is_whole, False)
    for name, value in named.items():
        low, high = int(value.min()), int(value.max())
        if low < 0 or (classes is not None and high >= classes):
            wanted = "labels of at least 0" if classes is None else f"labels from 0 to {classes - 1}"
            raise ValueError(f"{name} must hold {wanted}: got {low if low < 0 else high}")
    return found


def _is_whole(t: Tensor) -> bool:
    return not (t.is_floating_point() or t.is_complex() or t.dtype == torch.bool)


def _tensors(shape: str, sizes: dict[str, int] | None, named: dict[str, Any], kind: str, right, finite: bool):
    known = dict(sizes or {})
    axes = shape.split()
    more = bool(axes) and axes[-1] == "..."
    axes = axes[:-1] if more else axes
    for name, value in named.items():
        if not isinstance(value, Tensor) or not right(value):
            raise TypeError(f"{name} must be a tensor of {kind}: got {shown(value)}")
        ahead = value.shape[: len(axes)]
        fits = value.dim() >= len(axes) if more else value.dim() == len(axes)
        wanted = {axis: int(axis) if axis.isdigit() else known.get(axis) for axis in axes}
        fits = fits and all(wanted[axis] in (None, n) for axis, n in zip(axes, ahead, strict=True))
        found = dict(zip(axes, ahead, strict=False))  # a name that stands twice must have one size
        fits = fits and 0 not in value.shape and all(found[axis] == n for axis, n in zip(axes, ahead, strict=True))
        if not fits:
            told = [f"{axis} = {n}" for axis, n in wanted.items() if n is not None and not axis.isdigit()]
            where = f", where {', '.join(told)}" if told else ""
            text = ", ".join([*axes, *(["..."] if more else [])])
            raise ValueError(f"{name} must have shape ({text}){where}, no axis empty: got {tuple(value.shape)}")
        known |= {axis: n for axis, n in found.items() if not axis.isdigit()}
        if finite and not bool(value.isfinite().all()):
            bad = value[~value.isfinite()].flatten()[0].item()
            raise ValueError(f"{name} must hold finite numbers: got {bad}")
    return known


def function(**named: Any) -> None:
    """What can be called: a function, a module or None, but no class, whose call makes an object of it.

    Raises:
        TypeError: one is a class, as ``nn.MSELoss`` in the place of ``nn.MSELoss()``, or can't be called.

    >>> function(loss=torch.nn.MSELoss)
    Traceback (most recent call last):
    TypeError: loss must be a function, not a class: got <class 'torch.nn.modules.loss.MSELoss'>
    """
    for name, value in named.items():
        if isinstance(value, type) or not (callable(value) or value is None):
            raise TypeError(f"{name} must be a function, not a class: got {shown(value)}")


class passing:
    """Inputs on their way through a network of the user's: its errors are told as errors of these inputs.

    Raises:
        ValueError: where the network does not run on them, for whatever reason but lack of memory.

    >>> with passing(x=torch.ones(2, 3)):
    ...     raise RuntimeError("too narrow")
    Traceback (most recent call last):
    ValueError: x must be what the model takes: got a tensor of float32, shape (2, 3) (too narrow)
    """

    ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)

    def __init__(self, **named: Tensor):
        self.named = named

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, self.ERRORS) and not isinstance(error, torch.OutOfMemoryError):
            inputs, given = " and ".join(self.named), ", ".join(map(shown, self.named.values()))
            raise ValueError(f"{inputs} must be what the model takes: got {given} ({error})") from error


def examples(x: Any) -> None:
    """Refuse inputs that are no tensor (B, ...) of at least one example.

    >>> examples(torch.ones(0, 3))
    Traceback (most recent call last):
    ValueError: x must hold at least one example: got a tensor of float32, shape (0, 3)
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor of inputs (B, ...): got {shown(x)}")
    if not x.ndim or not x.numel():
        raise ValueError(f"x must hold at least one example: got {shown(x)}")


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own from a seed, a whole number from 0 to 2^63 - 1.

    >>> torch.equal(torch.randn(2, generator=seeded(1)), torch.randn(2, generator=seeded(1)))
    True
    """
    whole(0, 2**63 - 1, seed=seed)
    return torch.Generator(device).manual_seed(seed)


def shown(value: Any) -> str:
    """A value as a message shows it: short, and a tensor by its dtype and shape."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
