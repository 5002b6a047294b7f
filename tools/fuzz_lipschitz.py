"""Is any slope of a random network steeper than the bound that is proven for it?

    python tools/fuzz_lipschitz.py [--networks 100000] [--first 0]

Networks with residual sums, concatenations, layers that run twice, strides, circular padding, groups, hooks, subclasses
and whatever else ``tests/oracles/random_networks.py`` draws. Exit code 1 if a bound is broken.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.oracles.random_networks import judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, bounded, closest = time.monotonic(), 0, 0.0
    broken = []
    for seed in range(options.first, options.first + options.networks):
        bound, slope = judge(seed)
        if bound is None:
            continue
        bounded += 1
        closest = max(closest, slope / bound if bound else 0.0)
        if slope > bound * (1 + 1e-9) + 1e-12:
            broken.append(seed)
            print(f"seed {seed}: bound {bound:.6g}, slope {slope:.6g}", flush=True)
    seconds = time.monotonic() - start
    print(
        f"{options.networks} networks in {seconds:.0f} s, {bounded} bounded and the others refused by name; "
        f"largest slope {closest:.4f} of its bound; {len(broken)} bounds broken"
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
