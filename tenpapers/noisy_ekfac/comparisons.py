"""Which recorded runs are compared, paired by what, and what is equal between them: evidence of the chapter's tables.

Paper: arXiv 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from tenpapers.claims import Evidence, Sample, Unfair, held_equal, learned, paired
from tenpapers.noisy_ekfac import runs
from tenpapers.noisy_ekfac.workloads import KRONECKER, SMALL
from tenpapers.runs.table import NotRun

OVERLAP = 1 / 9  # of the standard splits: test over training examples
EKFAC, KFAC, EXACT, ADAM = "Noisy EK-FAC", "Noisy K-FAC", "Noisy K-FAC, exact damping", "Noisy Adam"
MOST_DISAGREEMENT = 1.05  # R-hat, as is usual
MEASURES = {"error": ("rmse", -1), "log likelihood": ("log_likelihood", 1)}  # and the sign of better


def with_variant(frame: pd.DataFrame) -> pd.DataFrame:
    """``variant`` tells noisy K-FAC's two dampings apart."""
    exact = (frame.method == KFAC) & (frame.damping_kind == "exact")
    return frame.assign(variant=frame.method.mask(exact, EXACT))


def regression(profile: str = "laptop") -> pd.DataFrame:
    """The short runs on regression sets at the Bayesian temperature."""
    frame = runs.uci.read(profile, kl_weight=1.0)
    return with_variant(frame[frame.on_basis_change.isna()])


def cooled(profile: str = "laptop") -> pd.DataFrame:
    """The runs at several temperatures."""
    return with_variant(runs.temperatures.read(profile))


def long_runs(profile: str = "laptop") -> pd.DataFrame:
    """The runs by the paper's protocol."""
    return with_variant(runs.protocol.read(profile))


def differences(frame: pd.DataFrame, column: str, ours: str, other: str) -> dict[str, Sample]:
    """For each set that has both, a column of one variant less that of another, split by split."""
    return {
        str(name): paired(part, column, "variant", ours, other, unit="split", overlap=OVERLAP)
        for name, part in frame.groupby("data")
        if {ours, other} <= set(part.variant)
    }


def means(frame: pd.DataFrame, by: Sequence[str], columns: Sequence[str], overlap: float = OVERLAP) -> pd.DataFrame:
    """Mean of each column and, beside it, two standard errors: of splits that overlap, or with 0 of seeds."""
    found = {}
    for key, part in frame.groupby(list(by), sort=False):
        row = {}
        for column in columns:
            values = Sample(tuple(part[column]), overlap)
            row |= {column: values.mean, f"± {column}": 2 * values.error}
        found[key] = row
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(list(by))


def gains(column: str, profile: str = "laptop") -> dict[str, Sample]:
    """For each network, a column of noisy EK-FAC less that of noisy K-FAC, seed by seed."""
    frame = runs.images.read(profile, kl_weight=0.1)
    return {str(name): paired(part, column, "method", EKFAC, KFAC) for name, part in frame.groupby("workload")}


def short_runs(profile: str) -> Evidence:
    """Error of noisy EK-FAC less noisy K-FAC's on each set, after as many passes."""
    frame = regression(profile)
    shown = differences(frame, "rmse", EKFAC, KFAC)
    for name, part in frame.groupby("data"):
        epochs = part.groupby("variant").epochs.mean()
        held_equal(f"epochs on {name}", {str(variant): float(n) for variant, n in epochs.items()}, ours=shown)
    return Evidence(shown, differences(frame, "rmse", KFAC, EKFAC))


def better(frame: pd.DataFrame, ours: str, other: str) -> dict[str, Sample]:
    """How far one variant is ahead of another in error and in log likelihood, set by set; positive where it is."""
    found = {}
    for measure, (column, sign) in MEASURES.items():
        first, second = (ours, other) if sign > 0 else (other, ours)
        for name, gain in differences(frame, column, first, second).items():
            found[f"{name}, {measure}"] = gain
    return found


def at_equal_kl(profile: str) -> Evidence:
    """Noisy K-FAC at the Bayesian temperature beside noisy EK-FAC at the warmest one with no larger KL to the prior."""
    frame = with_variant(runs.uci.read(profile, data=list(runs.COOLED)))
    frame, picked = frame[frame.on_basis_change.isna()], []
    for name, part in frame.groupby("data"):
        kl = part.groupby(["variant", "kl_weight"]).kl.mean()
        most, ours = kl[KFAC, 1.0], kl[EKFAC]
        allowed = ours[ours <= most]
        if allowed.empty:
            raise Unfair(f"on {name} every posterior of {EKFAC} is farther from the prior than that of {KFAC}")
        tau = allowed.idxmax()  # the largest KL that is not larger
        picked += [part[(part.variant == KFAC) & (part.kl_weight == 1.0)]]
        picked += [part[(part.variant == EKFAC) & (part.kl_weight == tau)]]
    return Evidence(better(pd.concat(picked), EKFAC, KFAC))


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """Only the sets of which both methods have run at every temperature: the others can't be chosen from yet."""
    taus = frame.groupby(["data", "variant"]).kl_weight.nunique().unstack("variant")
    done = [name for name, row in taus.iterrows() if row[[EKFAC, KFAC]].min() == len(runs.COOLED[str(name)])]
    return frame[frame.data.isin(done)]


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each variant on each split, the run whose temperature has the best log likelihood of what was held out."""
    return frame.loc[frame.groupby(["data", "variant", "split"]).validation.idxmax()]


def at_chosen_temperature(profile: str) -> Evidence:
    """Noisy EK-FAC beside noisy K-FAC, each at the temperature that validation chooses on each split."""
    shown = better(chosen(complete(cooled(profile))), EKFAC, KFAC)
    return Evidence(shown, shown | waiting(shown, list(runs.COOLED)))


def waiting(shown: Mapping[str, Sample], sets: Sequence[str]) -> dict[str, Sample]:
    """For each set whose rows are not recorded one value of which nothing is known: it can't decide a claim for it."""
    return {f"{name} (not run yet)": Sample((0.0,)) for name in sets if not any(key.startswith(name) for key in shown)}


def by_protocol(profile: str, measure: str, other: str = KFAC) -> Evidence:
    """By the paper's protocol, how far noisy EK-FAC is ahead of another variant on the paper's small sets."""
    column, sign = MEASURES[measure]
    frame = long_runs(profile)
    shown = differences(frame[frame.data.isin(SMALL)], column, *((EKFAC, other) if sign > 0 else (other, EKFAC)))
    return Evidence(shown, shown | waiting(shown, SMALL))


def noisy_kfac(profile: str) -> Evidence:
    """Error and log likelihood of noisy K-FAC by the paper's protocol, on the paper's small sets that were run."""
    frame = long_runs(profile)
    frame = frame[(frame.variant == KFAC) & frame.data.isin(SMALL)]
    if frame.empty:
        raise NotRun("noisy K-FAC was not run by the paper's protocol")
    shown = {
        f"{name}, {measure}": Sample(tuple(part[column]), OVERLAP)
        for measure, (column, _) in MEASURES.items()
        for name, part in frame.groupby("data")
    }
    return Evidence(shown)


def released(profile: str) -> Evidence:
    """Log likelihood of what the released code computes less noisy K-FAC's, by the paper's protocol."""
    frame = long_runs(profile)
    shown = differences(frame[frame.data.isin(SMALL)], "log_likelihood", f"{EKFAC}, as released", KFAC)
    return Evidence(shown, shown | waiting(shown, SMALL))


def bound(profile: str, ours: str, other: str) -> Evidence:
    """Evidence lower bound of one variant less that of another, in nats an example, at the Bayesian temperature."""
    frame = cooled(profile)
    shown = differences(frame[frame.kl_weight == 1.0], "elbo", ours, other)
    found = differences(long_runs(profile), "elbo", ours, other)
    shown |= {f"{name}, 1,000 passes": gain for name, gain in found.items() if name in runs.COOLED}
    return Evidence(shown, shown | waiting(shown, list(runs.COOLED)))


def deviation_error(name: str, reference: str, profile: str = "laptop") -> Sample:
    """Root mean square over the weights of the log of a posterior's deviation over the reference's, seed by seed."""
    values = []
    for _, part in runs.marginals.read(profile).groupby("seed"):
        logs = (part[name] / part[reference]).map(math.log)
        values.append(math.sqrt((logs**2).mean()))
    return Sample(tuple(values))


def deviations(profile: str, ours: str, other: str) -> Evidence:
    """How much farther from each reference the deviations of one posterior are than those of another."""
    shown = {
        told: deviation_error(other, reference, profile) - deviation_error(ours, reference, profile)
        for told, reference in (("layer's inverse Fisher matrix", "block"), ("Hamiltonian Monte Carlo", "hmc"))
    }
    worst = runs.marginals.read(profile).rhat.max()
    if not worst < MOST_DISAGREEMENT:
        raise Unfair(f"the chains disagree: R-hat is {worst:.3f}", shown)
    return Evidence(shown)


def cost(profile: str, other: str) -> Evidence:
    """Seconds of a run of noisy EK-FAC over those of another variant, set by set."""
    frame = regression(profile)
    seconds = frame.groupby(["data", "variant"]).cpu_seconds.mean().unstack("variant")
    ratio = (seconds[EKFAC] / seconds[other]).dropna()  # of sets that both have run
    return Evidence({"mean over sets": Sample(tuple(ratio))})


def basis_change(profile: str) -> Evidence:
    """Log likelihood with R reset or kept, less that with R projected, set by set and by how often the axes change."""
    frame, found = runs.basis.read(profile), {}
    for (name, every), part in frame.groupby(["data", "update_basis_every"]):
        for kind in ("reset", "keep"):
            if {kind, "project"} <= set(part.on_basis_change):
                gain = paired(part, "log_likelihood", "on_basis_change", kind, "project", "split", OVERLAP)
                found[f"{name}, {kind}, every {every:,}"] = gain
    return Evidence(found)


def classifies_better(profile: str) -> Evidence:
    """Accuracy of noisy EK-FAC less that of noisy K-FAC, where both learned."""
    found = gains("accuracy", profile)
    frame = runs.images.read(profile, kl_weight=0.1, method=list(KRONECKER))
    for (workload, method), part in frame.groupby(["workload", "method"]):
        learned(f"{method}, {workload}", part.accuracy.mean(), chance=0.1, ours=found)
    return Evidence(found)


def on_cifar(profile: str) -> Evidence:
    """The same on CIFAR-10, with and without batch normalisation and augmentation; settings not run yet wait."""
    frame, shown, waits = runs.cifar10.read(profile), {}, {}
    for batch_norm, augmented in product((True, False), (True, False)):
        name = f"{'with' if batch_norm else 'without'} BN, {'augmented' if augmented else 'plain'}"
        part = frame[(frame.batch_norm == batch_norm) & (frame.augmented == augmented)]
        seeds = [set(part[part.method == method].seed) for method in (EKFAC, KFAC)]
        part = part[part.seed.isin(seeds[0] & seeds[1])]
        if part.empty:
            waits[f"{name} (not run yet)"] = Sample((0.0,))
        else:
            shown[name] = paired(part, "accuracy", "method", EKFAC, KFAC)
            learned(f"{KFAC}, {name}", part[part.method == KFAC].accuracy.mean(), chance=0.1, ours=shown)
    if not shown:
        raise NotRun("no setting of CIFAR-10 has both methods on one seed")
    return Evidence(shown, shown | waits)
