"""Simulate the bounds of the planned looks: the table `_CHANCES` of `dynrcnn_ray.statistics.looks`.

Command:  python -m benchmarks.look_bounds [PATHS]
"""

import sys
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from dynrcnn_ray.statistics.looks import LOOKS, SHARES, standard_paths

SEED = 31
PATHS = 100_000_000
POINTS = (
    *(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 7e-3, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.4),
)
"""The values of v; at 2.8 and above the chance is one."""
_CHUNK = 500_000


def chances(points: Sequence[float], paths: int, seed: int) -> np.ndarray:
    """How often the smallest p_k / w_k of all looks is at most each point, where there is no effect.

    Args:
        points: rising.
        paths: how many to simulate.
        seed: of the random numbers.
    """
    generator = np.random.default_rng(seed)
    seeds = np.array(LOOKS)[:, None]
    shares = np.array(SHARES)[:, None]
    counts = np.zeros(len(points), dtype=np.int64)
    for start in range(0, paths, _CHUNK):
        means, deviations = standard_paths(generator, min(_CHUNK, paths - start))
        p_values = stdtr(seeds - 1, -means / deviations * np.sqrt(seeds))
        worst = np.sort((p_values / shares).min(axis=0))
        counts += np.searchsorted(worst, points, side="right")
    return counts / paths


def main() -> None:
    """Print the table."""
    paths = int(sys.argv[1]) if len(sys.argv) > 1 else PATHS
    for point, chance in zip(POINTS, chances(POINTS, paths, SEED), strict=True):
        print(f"    ({point:g}, {chance:.4g}),", flush=True)


if __name__ == "__main__":
    main()
