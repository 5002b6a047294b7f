"""How many gradients does K-FAC cost, and how many with other libraries? Ratios within one run, one thread, float32.

    OMP_NUM_THREADS=1 python benchmarks/curvature.py

Every number is a time over that of the plain gradient (forward and backward pass) of the same network and batch,
measured in turns with it: the median over rounds. One sampled target an example everywhere; pi-damping. Peers have no
optimiser, so what is compared is its parts: gradient, factors, inverse and one product with it, one after the other.
"""

import copy
import platform
import time
import warnings

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from nnlib.curvature import KFAC, factors, joint_weight, rescale
from nnlib.models import MLP, SmallCNN

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import backpack
    import curvlinops
    from backpack.extensions import KFAC as BackpackKFAC
    from nngeometry.metrics import FIM_MonteCarlo
    from nngeometry.object import PMatEKFAC, PMatKFAC, PVector

CASES = {
    "MLP 64-64-64-10, B=128": (lambda: MLP([64, 64, 64, 10]), (128, 64)),
    "MLP 64-128-128-10, B=1400": (lambda: MLP([64, 128, 128, 10]), (1400, 64)),
    "SmallCNN, B=128": (lambda: SmallCNN(), (128, 1, 28, 28)),
}
DAMPING = 1e-3
PERIOD = 100  # steps between two inverses; ten times as many as between two statistics
ROUNDS = 7


class OneBatch(DataLoader):
    """A loader that gives the whole batch at once, without collating it example by example."""

    def __iter__(self):
        yield self.dataset.tensors


def ours(model, x, y):
    """nnlib.curvature: what to time, by quantity."""
    found = factors(model, x, fisher="sampled")
    bases = {name: block.eigen() for name, block in found.items()}
    inverses = {name: block.damped(DAMPING).cholesky().inverse() for name, block in found.items()}
    grads = {name: joint_weight(model.get_submodule(name)) for name in found}
    watched = copy.deepcopy(model)
    optimizer = KFAC(watched, 1e-8, DAMPING)  # before its first step it takes statistics in every forward pass

    def gradient_and_factors():
        optimizer.zero_grad()
        cross_entropy(watched(x), y).backward()

    return {
        "gradient and factors": gradient_and_factors,
        "factors": lambda: factors(model, x, fisher="sampled"),
        "inverse": lambda: [block.damped(DAMPING).cholesky().inverse() for block in found.values()],
        "apply": lambda: [inverses[name].matvec(grad) for name, grad in grads.items()],
        "eigenbasis": lambda: [block.eigen() for block in found.values()],
        "EKFAC eigenvalues": lambda: rescale(model, x, bases, fisher="sampled"),
    }


def of_curvlinops(model, x, y):
    """curvlinops: its operators, told all that they would otherwise find out by passes over the data."""
    parameters = list(model.parameters())
    options = dict(fisher_type="mc", separate_weight_and_bias=False, check_deterministic=False)
    options |= dict(num_data=len(x), num_per_example_loss_terms=1)

    def operator(kind=curvlinops.KFACLinearOperator):
        made = kind(model, nn.CrossEntropyLoss(), parameters, [(x, y)], **options)
        made.compute_kronecker_factors()
        return made

    vector = [p.detach() for p in parameters]
    kfac, made = operator(), curvlinops.KFACInverseLinearOperator
    names = list(kfac._mapping)

    def inverse():
        result = made(kfac, DAMPING, use_heuristic_damping=True)
        for name in names:  # it computes them at the first product; so that no product is timed
            result._compute_or_get_cached_inverse(name)
        return result

    cached, ekfac = inverse(), operator(curvlinops.EKFACLinearOperator)
    ekfac._compute_eigenvectors()
    return {
        "factors": operator,
        "inverse": inverse,
        "apply": lambda: cached @ vector,
    }


def of_nngeometry(model, x, y):
    """nngeometry: Monte Carlo Fisher with one trial."""
    loader = OneBatch(TensorDataset(x, y), batch_size=len(x))
    kfac, ekfac = (FIM_MonteCarlo(model, loader, kind) for kind in (PMatKFAC, PMatEKFAC))
    inverse, vector = kfac.inverse(DAMPING), PVector.from_model(model)
    return {
        "factors": lambda: FIM_MonteCarlo(model, loader, PMatKFAC),
        "inverse": lambda: kfac.inverse(DAMPING),
        "apply": lambda: inverse.mv(vector),
        "EKFAC eigenvalues": lambda: ekfac.update_diag(loader),
    }


def of_backpack(model, x, y):
    """BackPACK: gradient and factors come together; it has no inverse."""
    extended, loss = backpack.extend(copy.deepcopy(model).layers), backpack.extend(nn.CrossEntropyLoss())

    def gradient_and_factors():
        extended.zero_grad()
        value = loss(extended(x), y)
        with backpack.backpack(BackpackKFAC(mc_samples=1)):
            value.backward()

    return {"gradient and factors": gradient_and_factors}


def training(model, x, y, optimizer):
    """A function that takes one step of an ordinary training loop."""

    def step():
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def optimisers(make, x, y):
    """Whole steps: on average over a period, and with everything renewed at every step."""
    model = make()
    result = {"SGD, momentum": (training(model, x, y, torch.optim.SGD(model.parameters(), 1e-8, momentum=0.9)), PERIOD)}
    for inverse in ("factored", "exact", "ekfac"):
        for name, options in (("average", {}), ("refresh", dict(update_factors_every=1, update_inverses_every=1))):
            model = make()
            step = training(model, x, y, KFAC(model, 1e-8, DAMPING, inverse=inverse, **options))
            result[f"KFAC({inverse}), {name}"] = (step, PERIOD if name == "average" else 5)
    return result


def ratios(functions, gradient):
    """Median over rounds of the time of each function over that of the gradient, measured beside it."""
    found = {name: [] for name in functions}
    base = []
    for _ in range(ROUNDS):
        for name, (function, calls) in functions.items():
            base.append(seconds(gradient, max(calls // 2, 5)))
            found[name].append(seconds(function, calls) / base[-1])
    return {name: float(np.median(values)) for name, values in found.items()}, float(np.median(base))


def seconds(function, calls):
    """Processor time of a call, on average over a few: on one thread, wall time without what else the machine does."""
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls


def measure(make, shape):
    """A table of ratios for one network."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(shape[0]) % 10
    model = make()

    def gradient():
        model.zero_grad()
        cross_entropy(model(x), y).backward()

    libraries = {"nnlib": ours, "curvlinops": of_curvlinops, "nngeometry": of_nngeometry, "BackPACK": of_backpack}
    functions = {
        (quantity, library): (function, 5)
        for library, parts in libraries.items()
        for quantity, function in parts(copy.deepcopy(model), x, y).items()
    }
    functions |= {(name, "nnlib"): step for name, step in optimisers(make, x, y).items()}
    for function, calls in functions.values():
        for _ in range(min(calls, 3)):
            function()
    found, base = ratios(functions, gradient)
    table = pd.Series(found).unstack().reindex(columns=list(libraries))
    all_parts = "gradient, factors, inverse, apply"  # without a step, which the others don't have
    for library in ("curvlinops", "nngeometry"):
        table.loc["gradient and factors", library] = 1 + table.loc["factors", library]
        table.loc[all_parts, library] = 1 + table.loc[["factors", "inverse", "apply"], library].sum()
    table.loc[all_parts, "nnlib"] = table.loc[["gradient and factors", "inverse", "apply"], "nnlib"].sum()
    return table, base


def main():
    """Print a table for each network."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread\n")
    for name, (make, shape) in CASES.items():
        table, base = measure(make, shape)
        print(f"{name}: gradient {base * 1e3:.3f} ms; times in gradients")
        print(table.to_string(float_format=lambda v: f"{v:.2f}", na_rep="-") + "\n")


if __name__ == "__main__":
    main()
