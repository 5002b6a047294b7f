"""How much does a noisy EK-FAC step cost beside a noisy K-FAC step and a plain one? Ratios in one run, one thread.

    OMP_NUM_THREADS=1 python benchmarks/bayes.py

Limit: noisy EK-FAC at most 2 times noisy K-FAC with the same schedule. Then: what a split of Concrete costs at the
paper's settings, ten splits trained together; limit 60 s.
"""

import time

import torch
from torch.nn.functional import cross_entropy

from nnlib.models import MLP
from nnlib.noisy_ekfac import OPTIMIZERS
from tenpapers.noisy_ekfac.regression import regress
from tenpapers.noisy_ekfac.workloads import KRONECKER

STEPS, ROUNDS = 50, 3
SPLITS, EPOCHS = 10, 4


def noisy(method, x, y):
    """Seconds of STEPS steps."""
    model = MLP([64, 50, 10], seed=0)
    options = {"update_basis_every": 5} if method in KRONECKER else {}
    optimizer = OPTIMIZERS[method](model, 1000, 0.01, damping=1e-2, **options)
    start = time.perf_counter()
    for _ in range(STEPS):
        with optimizer.sample():
            cross_entropy(model(x), y).backward()
        optimizer.step()
    return time.perf_counter() - start


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 64, generator=generator), torch.randint(10, (50,), generator=generator)
    best = {method: min(noisy(method, x, y) for _ in range(ROUNDS)) for method in OPTIMIZERS}
    for method, seconds in best.items():
        print(f"{method:18} {seconds / best['Noisy K-FAC']:.2f} of a noisy K-FAC step")
    ratio = best["Noisy EK-FAC"] / best["Noisy K-FAC"]
    print(f"limit 2: {'kept' if ratio <= 2 else 'MISSED'}")
    start = time.process_time()
    regress("concrete", "Noisy EK-FAC", range(SPLITS), epochs=EPOCHS, update_basis_every=5)
    each = 1000 * (time.process_time() - start) / SPLITS / EPOCHS
    print(
        f"Concrete, batch 10, 10 particles, 1,000 epochs: {each:,.0f} CPU s a split, from {EPOCHS} epochs of all splits"
    )
    print(f"limit 60 s: {'kept' if each <= 60 else 'MISSED'}")


if __name__ == "__main__":
    main()
