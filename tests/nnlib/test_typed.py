"""The annotation is the check of an argument's class."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nnlib.arguments import typed

Kind = TypeVar("Kind")


class Unseen(Protocol):
    def fit(self) -> None: ...


def hinted(hint: Any) -> Callable[..., Any]:
    """A function of one argument with that annotation."""

    def given(x):
        return x

    given.__annotations__["x"] = hint
    return typed(given)


RIGHT = [
    (int, 3), (int, np.int64(3)), (float, 3), (float, np.float32(0.5)), (float, torch.tensor(0.5)), (bool, np.True_),
    (str, "a"), (str | None, None), (int | None, None), (Tensor, torch.ones(2)), (Tensor, nn.Parameter(torch.ones(2))),
    (Sequence[int], [1]), (Sequence[int], np.ones(2)), (Sequence[int], torch.ones(2)), (Sequence[str] | str, "a"),
    (Iterable[str], {"a": 1}), (nn.Module, nn.Linear(1, 1)), (nn.Linear | nn.Conv2d, nn.Conv2d(1, 1, 1)),
    (type[nn.Module], nn.Linear), (Callable[[int], int] | None, abs), (NDArray[np.float64], np.ones(2)),
    (tuple[int, int] | None, (1, 2)), (Any, object()), (Kind, 3), (Unseen, 3), (Literal["a", "b"], "a"), (object, "a"),
]  # fmt: skip

WRONG = [
    (int, 2.5, "int"), (int, "a", "int"), (int, None, "int"), (float, "a", "float"), (float, None, "float"),
    (float, [1.0], "float"), (float, 1j, "float"), (bool, 1, "bool"), (str, 3, "str"), (str | None, 3, "str or None"),
    (Tensor, [1.0], "Tensor"), (Tensor, np.ones(2), "Tensor"), (Sequence[str], "ab", "Sequence"),
    (Sequence[int], {1: 2}, "Sequence"), (Iterable[str], "ab", "Iterable"),
    (Iterable[str] | None, 3, "Iterable or None"),
    (nn.Module, nn.Linear, "Module"), (type[nn.Module], nn.Linear(1, 1), "type"), (Callable[[int], int], 3, "Callable"),
    (nn.Linear | nn.Conv2d, nn.ReLU(), "Linear or Conv2d"), (NDArray[np.float64], [1.0], "ndarray"),
    (torch.device | str | None, 3, "device or str or None"), (Path, "a", "Path"),
]  # fmt: skip


@pytest.mark.parametrize("hint, value", RIGHT)
def test_what_is_annotated_passes_unchanged(hint, value):
    assert hinted(hint)(value) is value


@pytest.mark.parametrize("hint, value, allowed", WRONG)
def test_another_class_is_refused_by_name(hint, value, allowed):
    with pytest.raises(TypeError, match=f"^x must be {allowed}: got "):
        hinted(hint)(value)


def test_a_class_is_checked_by_its_init_and_stays_a_class():
    @typed
    @dataclass(frozen=True)
    class Point:
        """A docstring."""

        x: float
        name: str = "p"

    assert Point(1.0).x == 1.0 and isinstance(Point(1, name="q"), Point) and Point.__doc__ == "A docstring."
    with pytest.raises(TypeError, match="name must be str: got 3"):
        Point(1.0, 3)  # pyright: ignore[reportArgumentType]


def test_missing_and_surplus_arguments_are_told_by_python():
    with pytest.raises(TypeError, match="x"):
        hinted(int)()
    with pytest.raises(TypeError, match="y"):
        hinted(int)(3, y=1)


def test_arguments_without_a_name_of_their_own_are_not_looked_at():
    @typed
    def many(x: int, *more: int, **options: str) -> tuple:
        return x, more, options

    assert many(1, 2, "a", b=3) == (1, (2, "a"), {"b": 3})


def test_networks_with_typed_functions_are_traced_and_compiled_whole():
    """Breaks if the check looks at values, or draws from Python's generator, as other checkers do."""

    @typed
    def twice(x: Tensor, by: float = 2.0, shape: Sequence[int] = (1,)) -> Tensor:
        return by * x

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return twice(x)

    x = torch.ones(2)
    assert torch.equal(torch.fx.symbolic_trace(Net())(x), 2 * x)
    assert torch.equal(torch.compile(Net(), fullgraph=True, backend="eager")(x), 2 * x)
    assert torch.equal(torch.export.export(Net(), (x,)).module()(x), 2 * x)
