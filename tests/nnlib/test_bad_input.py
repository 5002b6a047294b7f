"""Bad input is refused by name, or the answer is right: every public call of ``nnlib``, one argument spoilt at a time.

A new public name without a call in ``tests/nnlib/calls`` fails here; ``--hypothesis-profile=long`` tries 1,000 inputs
each.
"""

import importlib
import inspect
import math
import operator
import pkgutil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nnlib
import tests.nnlib.calls as calls

ROOMS = sorted(module.name for module in pkgutil.iter_modules(nnlib.__path__) if module.name != "arguments")
COVERED = sorted(module.name for module in pkgutil.iter_modules(calls.__path__))


def public(room: str) -> list[str]:
    """Names of functions and classes that a room gives to others; errors and protocols take no input."""
    module = importlib.import_module(f"nnlib.{room}")
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    found = []
    for name in names:
        value = getattr(module, name)
        wanted = inspect.isfunction(value) or inspect.isclass(value)
        if wanted and not (inspect.isclass(value) and (issubclass(value, Exception) or _given(value))):
            found.append(name)
    return found


def _given(kind: type) -> bool:
    """Whether this is a record that functions return, or a protocol: no user fills it."""
    return getattr(kind, "_is_protocol", False) or hasattr(kind, "_fields")


def test_every_room_has_a_table():
    """Breaks if a room is added without one."""
    assert COVERED == ROOMS


@pytest.mark.parametrize("room", COVERED)
def test_every_public_name_has_a_call_or_says_where_its_table_is(room):
    here = importlib.import_module(f"tests.nnlib.calls.{room}")
    functions = {name for name in here.CALLS if "." not in name}
    assert functions | set(here.ELSEWHERE) == set(public(room))
    assert not functions & set(here.ELSEWHERE)
    assert set(getattr(here, "ORACLES", {})) <= set(here.CALLS)


TABLES = {room: importlib.import_module(f"tests.nnlib.calls.{room}") for room in COVERED}
CALLS = {
    f"{room}.{name}": (operator.attrgetter(name)(importlib.import_module(f"nnlib.{room}")), arguments)
    for room, table in TABLES.items()
    for name, arguments in table.CALLS.items()
}
ORACLES = {f"{room}.{name}": way for room, t in TABLES.items() for name, way in getattr(t, "ORACLES", {}).items()}

NUMBERS = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, 1e-300, True, None, "a", 1j, [1.0]]
WHOLES = [-1, 0, 2.5, math.nan, True, None, "a", -(10**20)]
TEXTS = ["", "no such", None, 3, ["zeros"]]
OTHERS = [None, "a", 3, [], {}, object]


def _changed(t: Tensor, value: float) -> Tensor:
    t = t.detach().clone(memory_format=torch.contiguous_format)
    t.view(-1)[-1] = value
    return t


SPOILT = {
    "NaN": lambda t: _changed(t, math.nan),
    "infinite": lambda t: _changed(t, -math.inf),
    "huge": lambda t: _changed(t, 1e30),
    "negative": lambda t: ~t if t.dtype == torch.bool else -t,
    "zero": torch.zeros_like,
    "whole": lambda t: t.round().long() if t.is_floating_point() else t.double(),
    "boolean": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
    "no examples": lambda t: t[:0],
    "empty last axis": lambda t: t[..., :0],
    "an axis more": lambda t: t[None],
    "an axis less": lambda t: t[0],
    "one row more": lambda t: torch.cat([t, t[:1]]),
    "one row less": lambda t: t[:-1],
    "one column more": lambda t: torch.cat([t, t[..., :1]], -1),
    "a list": lambda t: t.tolist(),
    "an array": lambda t: t.detach().numpy(),
    "nothing": lambda t: None,
    "text": lambda t: "a",
    "labels too large": lambda t: t + 1000,
}


def spoil(value: Any, draw: st.DataObject) -> Any:
    """Something else in the place of an argument."""
    if isinstance(value, Tensor):
        kinds = [name for name in SPOILT if value.is_floating_point() or name not in ("NaN", "infinite", "huge")]
        kinds = [name for name in kinds if value.dim() or name not in _NEED_AXES]
        return SPOILT[draw.draw(st.sampled_from(kinds))](value)
    if isinstance(value, bool):
        return draw.draw(st.sampled_from(OTHERS))
    if isinstance(value, int):
        return draw.draw(st.sampled_from(WHOLES))
    if isinstance(value, float):
        return draw.draw(st.sampled_from(NUMBERS))
    return draw.draw(st.sampled_from(TEXTS if isinstance(value, str) else OTHERS))


_NEED_AXES = {
    "no examples", "empty last axis", "an axis less", "one row more", "one row less", "one column more",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_call_is_right_as_it_stands(name):
    function, arguments = CALLS[name]
    assert not holds_nan(function(**arguments()))
    if name in ORACLES:
        torch.testing.assert_close(function(**arguments()), ORACLES[name](**arguments()), rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
@settings(suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_spoilt_argument_is_refused_by_name_or_the_answer_is_a_number(name, draw):
    """Breaks for a bare KeyError, IndexError or LinAlgError, a message without the argument, and NaN as an answer."""
    function, arguments = CALLS[name]
    right = arguments()
    which = draw.draw(
        st.sampled_from(sorted(set(right) - {"device", "dtype", "self"}))
    )  # the first two in torch's words
    spoilt = spoil(right[which], draw)
    try:
        answer = function(**right | {which: spoilt})
    except (ValueError, TypeError) as refusal:
        assert which in str(refusal), f"{which} = {spoilt!r}: {refusal}"
    else:
        assert not holds_nan(answer), f"{which} = {spoilt!r} gives {answer!r}"
        if name in ORACLES:
            right = ORACLES[name](**arguments() | {which: spoilt})
            torch.testing.assert_close(
                answer, right, rtol=1e-6, atol=1e-9, msg=lambda told: f"{which} = {spoilt!r}: {told}"
            )


def holds_nan(value: Any) -> bool:
    """Whether a result has NaN anywhere."""
    if isinstance(value, Tensor):
        return bool(value.isnan().any())
    if isinstance(value, nn.Module):
        return any(holds_nan(part) for part in value.state_dict().values() if isinstance(part, Tensor))
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and bool(np.isnan(value).any())
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, dict):
        return any(map(holds_nan, value.values()))
    if isinstance(value, tuple | list):
        return any(map(holds_nan, value))
    return False
