"""Do device and dtype come from the inputs? With `meta` as default device, a tensor made without one has no storage."""

from collections.abc import Callable

import torch
from torch import Tensor


def same_without_a_default_device(compute: Callable[[], dict[str, Tensor | list[Tensor]]]) -> dict[str, list[Tensor]]:
    """Compute twice, plainly and under the default device `meta`: everything must lie on the CPU and be the same.

    Args:
        compute: Makes its inputs on the CPU, and returns by name what the functions under test make of them.

    Returns:
        What was found the second time, each as a list: for assertions on dtypes.
    """
    plain = _listed(compute())
    with torch.device("meta"):
        found = _listed(compute())
    for name, tensors in plain.items():
        for tensor, expected in zip(found[name], tensors, strict=True):
            assert tensor.device.type == "cpu", name
            torch.testing.assert_close(tensor, expected, rtol=0, atol=0, msg=name)
    return found


def _listed(found: dict[str, Tensor | list[Tensor]]) -> dict[str, list[Tensor]]:
    return {name: [value] if isinstance(value, Tensor) else list(value) for name, value in found.items()}
