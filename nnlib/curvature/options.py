"""Which layers does K-FAC precondition, which parameters decay, and which settings does it take?

Chapter: ``book/curvature.ipynb``.
"""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from nnlib.curvature.layers import Layer, blocks, chosen, listed, shared, unfit
from nnlib.curvature.outputs import FISHERS, LIKELIHOODS

INVERSES = ("factored", "exact", "ekfac")
DECAYS = ("decoupled", "l2", None)


def watched_layers(model: nn.Module, names: Iterable[str] | None, exclude: Iterable[str]) -> dict[str, Layer]:
    """Layers whose parameters are all trained, their own and of no other module; ``names`` alone, or all but some."""
    modules, out = dict(model.named_modules()), listed("exclude", exclude)
    tied = shared(modules)
    for name in out:
        if name not in modules:
            raise ValueError(f"exclude names {name!r}, which the model does not have: it has {', '.join(modules)}")
    found = {}
    for name, layer in (blocks(model) if names is None else chosen(modules, names)).items():
        reason = unfit(layer, tied.get(name))
        if names is not None and reason is not None:
            raise ValueError(f"layers names {name!r}, which can't be preconditioned: {reason}")
        if reason is None and not any(name == other or name.startswith(f"{other}.") for other in out):
            found[name] = layer
    if not found:
        raise ValueError("the model has no layer to precondition: a trainable nn.Linear or ungrouped nn.Conv2d")
    return found


def decaying_parameters(model: nn.Module, names: Iterable[str] | None) -> set[Tensor] | None:
    """The parameters that decay; None for all."""
    if names is None:
        return None
    modules, found = dict(model.named_modules()), set()
    for name in listed("decay_layers", names):
        if name not in modules:
            raise ValueError(f"decay_layers names {name!r}, which the model does not have: it has {', '.join(modules)}")
        found |= set(modules[name].parameters(recurse=False))
    return found


def check_choices(fisher: str, likelihood: str, inverse: str, decay: str | None) -> None:
    fishers = tuple(name for name in FISHERS if name != "empirical")  # the hook does not see the true targets
    known = {"fisher": fishers, "likelihood": LIKELIHOODS, "inverse": INVERSES, "decay": DECAYS}
    for name, value in (("fisher", fisher), ("likelihood", likelihood), ("inverse", inverse), ("decay", decay)):
        if value not in known[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known[name]))}: got {value!r}")


def check_numbers(factor_decay: float, kl_clip: float | None, factors_every: int, inverses_every: int) -> None:
    for name, every in (("update_factors_every", factors_every), ("update_inverses_every", inverses_every)):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"{name} must be a whole number of at least 1: got {every}")
    if kl_clip is not None and not 0 < kl_clip < math.inf:
        raise ValueError(f"kl_clip must be positive and finite, or None: got {kl_clip}")
    if not 0 <= factor_decay < 1:
        raise ValueError(f"factor_decay must lie in [0, 1): got {factor_decay}")


def check_group(group: dict[str, Any]) -> None:
    for name in ("lr", "damping"):
        if not 0 < group[name] < math.inf:
            raise ValueError(f"{name} must be positive and finite: got {group[name]}")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum must lie in [0, 1): got {group['momentum']}")
    if not 0 <= group["weight_decay"] < math.inf:
        raise ValueError(f"weight_decay must be finite and not negative: got {group['weight_decay']}")
