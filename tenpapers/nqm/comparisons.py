"""Networks compared, seed by seed: the numbers that the chapter's claims on networks are judged by.

Steps are those of the tuned settings on seeds that they were not tuned on. Ratios are shown, and their logarithms
tested: the mean of a ratio is above one even where neither side is ahead.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tenpapers.claims import Evidence, Sample, Unfair, held_equal, sample
from tenpapers.nqm import runs
from tenpapers.runs import NotRun

OPTIMIZERS = ("SGD", "Momentum", "Adam", "K-FAC")
Steps = dict[str, dict[int, Sample]]  # by method ("SGD, averaged" is one) and batch size


def steps_of(profile: str, *methods: str, networks: Collection[str] = ()) -> dict[str, Steps]:
    """Steps by network, method and batch size, one value a seed.

    Args:
        profile: Whose runs.
        methods: Of whom; all of them are checked.
        networks: Only these; by default all.

    Raises:
        NotRun: where the profile has none of them.
        Unfair: where a method's best learning rate is at the end of what was tried, where the numbers of seeds differ,
            or where a run did not reach the target.
    """
    frame = repeated(profile)
    frame = frame[frame.method.isin(methods) & (frame.workload.isin(networks) if networks else True)]
    if frame.empty:
        raise NotRun(f"no run on {' or '.join(networks)} under {profile}")
    if frame.seed.isna().any():
        raise NotRun(f"some of the tuned settings were not run again: {runs.by_seed.how(profile)}")
    if (at_end := frame[frame.edge.str.contains("lr")]).size:
        told = ", ".join(dict.fromkeys(at_end.method + " on " + at_end.workload))
        raise Unfair(f"best learning rate at the end of its grid: {told}")
    held_equal("seeds", {method: part.seed.nunique() for (method,), part in cases(frame, "method")})
    lost = frame[frame.steps.isna()]
    if not lost.empty:
        told = ", ".join(f"{row.method} on {row.workload} at B = {row.batch_size}" for row in lost.itertuples())
        raise Unfair(f"{len(lost)} of {len(frame)} runs did not reach the target: {told}")
    found: dict[str, Steps] = {}
    for (network, method, batch_size), part in cases(frame, "workload", "method", "batch_size"):
        found.setdefault(network, {}).setdefault(method, {})[batch_size] = sample(part, "steps")
    return found


def repeated(profile: str) -> pd.DataFrame:
    """The tuned settings, each with its ``method``, beside their steps on other seeds: one row a setting and seed."""
    best = runs.networks.read(profile)
    best = best.assign(method=best.optimizer + np.where(best.average, ", averaged", ""))
    settings = ["workload", "optimizer", "batch_size", "lr", "momentum", "decay"]
    again = runs.by_seed.read(profile)[[*settings, "seed", "steps"]]
    return best[[*settings, "method", "edge"]].merge(again, "left", on=settings)


def medians(profile: str) -> pd.DataFrame:
    """Median steps on these seeds: one row a network and batch size, one column an optimiser.

    A run that did not reach the target counts as infinitely long.
    """
    frame = repeated(profile)
    frame = frame[frame.method.isin(OPTIMIZERS)]
    frame = frame.assign(steps=frame.steps.fillna(np.inf))
    index = ["workload", "batch_size"]
    table = frame.pivot_table("steps", index, "method", aggfunc="median")[list(OPTIMIZERS)]
    return table.rename_axis(columns=None).reset_index()


def best_rates(profile: str) -> dict[str, dict[int, Sample]]:
    """SGD's best learning rate by network and batch size, one value a seed."""
    found: dict[str, dict[int, Sample]] = {}
    recorded = runs.rates.read(profile)
    if recorded.attrs["waiting"]:  # the best rate at the largest batches is the question
        raise NotRun(f"some rates are not recorded yet: {runs.rates.how(profile)}")
    for (network, batch_size), part in cases(recorded, "workload", "batch_size"):
        found.setdefault(network, {})[batch_size] = sample(part, "lr")
    return found


def cases(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows of each case, in their order, after the case's entries."""
    for _, part in frame.groupby(list(columns), sort=False):
        yield tuple(part[list(columns)].iloc[0].tolist()), part


def ratio(a: Sample, b: Sample) -> Sample:
    """a over b, seed by seed."""
    return Sample(tuple(x / y for x, y in zip(a.values, b.values, strict=True)))


def log(values: Sample) -> Sample:
    """Their logarithms."""
    return Sample(tuple(map(math.log, values.values)))


def tested_by_log(ratios: Mapping[str, Sample]) -> Evidence:
    """Ratios shown, their logarithms tested."""
    return Evidence(ratios, {name: log(value) for name, value in ratios.items()})


def gain(profile: str, end: Callable[[Any], int]) -> Evidence:
    """SGD's steps over momentum's at one end of the batch sizes, ``min`` or ``max``."""
    ratios = {}
    for network, steps in steps_of(profile, "SGD", "Momentum").items():
        batch_size = end(steps["SGD"])
        ratios[f"{network}, B = {batch_size}"] = ratio(steps["SGD"][batch_size], steps["Momentum"][batch_size])
    return tested_by_log(ratios)


def averaging(profile: str) -> Evidence:
    """SGD's steps over its average's at both ends; tested is the first over the second."""
    ours, tested = {}, {}
    for network, steps in steps_of(profile, "SGD", "SGD, averaged").items():
        sizes = [end(steps["SGD"]) for end in (min, max)]
        small, large = (ratio(steps["SGD"][size], steps["SGD, averaged"][size]) for size in sizes)
        ours |= {f"{network}, B = {size}": value for size, value in zip(sizes, (small, large), strict=True)}
        tested[network] = log(small) - log(large)
    return Evidence(ours, tested)


def knees(steps: Steps) -> dict[str, Sample]:
    """Where each method's asymptotes cross: smallest batch size times its steps, over the steps at the largest."""
    found = {}
    for method, at in steps.items():
        small, large = min(at), max(at)
        found[method] = Sample(tuple(small * value for value in ratio(at[small], at[large]).values))
    return found


def critical(profile: str, ahead: Mapping[str, tuple[str, ...]], networks: Collection[str] = ()) -> Evidence:
    """Critical batch sizes by network and method; tested is each method's over those of others.

    Args:
        profile: Whose runs.
        ahead: By method, those than which it should have a larger one.
        networks: As in :func:`steps_of`.
    """
    ours, tested = {}, {}
    methods = {*ahead, *(other for others in ahead.values() for other in others)}
    for network, steps in steps_of(profile, *methods, networks=networks).items():
        at = knees(steps)
        ours |= {f"{network}, {method}": at[method] for method in OPTIMIZERS if method in at}
        for one, others in ahead.items():
            tested |= {f"{network}, {one} over {other}": log(ratio(at[one], at[other])) for other in others}
    return Evidence(ours, tested)


def kfac(profile: str) -> Evidence:
    """Fewest steps of SGD, momentum and Adam on a seed over K-FAC's, at every batch size."""
    ratios = {}
    for network, steps in steps_of(profile, *OPTIMIZERS).items():
        for batch_size, ours in steps["K-FAC"].items():
            others = zip(*(steps[name][batch_size].values for name in OPTIMIZERS if name != "K-FAC"), strict=True)
            ratios[f"{network}, B = {batch_size}"] = ratio(Sample(tuple(map(min, others))), ours)
    return tested_by_log(ratios)


def rate_grows(profile: str) -> Evidence:
    """SGD's best learning rate at every batch size; tested is the largest batch size's over the smallest's."""
    rates = best_rates(profile)
    ours = {f"{network}, B = {batch_size}": at[batch_size] for network, at in rates.items() for batch_size in at}
    return Evidence(ours, {network: log(ratio(at[max(at)], at[min(at)])) for network, at in rates.items()})


def rate_stays(profile: str) -> Evidence:
    """SGD's best learning rate at the largest batch size over that at the one before."""
    ratios = {}
    for network, at in best_rates(profile).items():
        before, last = sorted(at)[-2:]
        ratios[f"{network}, B = {last} over {before}"] = ratio(at[last], at[before])
    return tested_by_log(ratios)
