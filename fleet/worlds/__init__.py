"""Simulated lines with known truth, on which every drift detector can be judged: per-minute class x bin counts.

A calibrated classifier looks at parts. The probability of a defect comes from a mixture: bulk good parts, Beta(0.6,
250) or Beta(0.6, 180) in shares of the device's own; ambiguous ones, Beta(1.2, 1.5), about 1 %; plain defects,
Beta(20, 1), about 0.5 %. Frames repeat the one before them with probability exp(-dt / dwell). Rates move harmlessly
with the day, the site and the device. A fault starts at a minute and changes the mixture.

world      what moves on a line, harmless or not        classifier   how parts are answered
sampler    counts of correlated frames                  stream       the days of all sites
"""

from fleet.worlds.classifier import AMBIGUOUS, DEFECT, GOOD_A, GOOD_B, SHIFTED, STRANGE, classifier, components
from fleet.worlds.stream import Day, simulate, simulate_sites, site_rng
from fleet.worlds.world import DAY, FAULTS, MEANING, WORLDS, Fault, World, affected, world_named

__all__ = [
    "AMBIGUOUS",
    "DAY",
    "DEFECT",
    "FAULTS",
    "GOOD_A",
    "GOOD_B",
    "MEANING",
    "SHIFTED",
    "STRANGE",
    "WORLDS",
    "Day",
    "Fault",
    "World",
    "affected",
    "classifier",
    "components",
    "simulate",
    "simulate_sites",
    "site_rng",
    "world_named",
]
