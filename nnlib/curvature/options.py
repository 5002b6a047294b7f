"""Which layers does K-FAC precondition, which parameters decay, and which settings does it take?

Chapter: ``book/curvature.ipynb``.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from nnlib.arguments import one_of, whole, within
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
    one_of(fishers, fisher=fisher)
    one_of(LIKELIHOODS, likelihood=likelihood)
    one_of(INVERSES, inverse=inverse)
    one_of(DECAYS, decay=decay)


def check_numbers(factor_decay: float, kl_clip: float | None, factors_every: int, inverses_every: int) -> None:
    whole(1, update_factors_every=factors_every, update_inverses_every=inverses_every)
    if kl_clip is not None:
        within("(0, inf)", kl_clip=kl_clip)
    within("[0, 1)", factor_decay=factor_decay)


def check_group(group: dict[str, Any]) -> None:
    within("(0, inf)", lr=group["lr"], damping=group["damping"])
    within("[0, 1)", momentum=group["momentum"])
    within("[0, inf)", weight_decay=group["weight_decay"])
