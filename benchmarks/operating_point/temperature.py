"""How strongly a temperature that is fitted on few images has to be held near 1, where the truth is known.

python benchmarks/operating_point/temperature.py [--worlds 40]

Honest logits are drawn and labels by their softmax; the model then overstates them by a known temperature. What is
printed is the true calibration error (mean of |confidence - true chance|, in %) after a temperature was fitted on so
many images: for each strength of the prior, for softer targets without a prior (Platt 1999), and for none at all.
Measured: temperature.md.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.calibration import fit_temperature
from toolkit.evaluation.metrics import softmax

CLASSES, SEED = 7, 0
APART = (6.0, 10.0, 16.0)  # accuracy about 85, 94 and 98 %
TRUE = np.exp([-0.5, -0.25, 0.0, 0.25, 0.5])
PHOTOGRAPHS = (1, 4)  # of a part; those of one part share their luck
IMAGES = (50, 134, 500, 2000)
STRENGTHS = (0.0, 3.0, 10.0, 30.0)
Logits = NDArray[np.float64]


def draw(rng: np.random.Generator, images: int, photographs: int, apart: float) -> tuple[Logits, NDArray[np.int64]]:
    """Honest logits (images, classes) and labels (images,)."""
    parts = -(-images // photographs)
    centre = rng.normal(0, 1.5, (parts, CLASSES))
    centre[np.arange(parts), rng.integers(0, CLASSES, parts)] += rng.gamma(4, apart / 4, parts)
    part = np.arange(images) // photographs
    logits = centre[part] + (rng.normal(0, 1, (images, CLASSES)) if photographs > 1 else 0)
    return logits, (logits + rng.gumbel(size=(parts, CLASSES))[part]).argmax(axis=1)


def softer(logits: Logits, labels: NDArray[np.int64]) -> float:
    """The temperature with the true class at 1 - 1/(n + 2) of each target, the others sharing the rest."""
    from scipy.optimize import minimize_scalar

    missed = 1 / (len(labels) + 2)
    target = np.full(logits.shape, missed / (CLASSES - 1))
    target[np.arange(len(labels)), labels] = 1 - missed

    def loss(cold: float) -> float:
        return -float((target * np.log(np.maximum(softmax(logits * np.exp(cold)), 1e-300))).sum())

    return float(np.exp(-minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def errors(worlds: int, images: int) -> NDArray[np.float64]:
    """True calibration errors (settings, ways), each the mean over `worlds` fits."""
    rng, rows = np.random.default_rng(SEED), []
    for apart, photographs, true in itertools.product(APART, PHOTOGRAPHS, TRUE):
        fresh, _ = draw(rng, 3000, 1, apart)
        chance = softmax(fresh).max(axis=1)

        def off(temperature: float, fresh: Logits = fresh, chance: Logits = chance, true: float = true) -> float:
            return float(np.abs(softmax(fresh * true / temperature).max(axis=1) - chance).mean())

        found = []
        for _ in range(worlds):
            logits, labels = draw(rng, images, photographs, apart)
            fits = [fit_temperature(logits * true, labels, strength=strength) for strength in STRENGTHS]
            found.append([off(one) for one in (*fits, softer(logits * true, labels), 1.0)])
        rows.append(np.mean(found, axis=0))
    return 100 * np.array(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=40, help="fits a setting (default 40)")
    worlds = parser.parse_args().worlds
    ways = [*(f"strength {one:g}" for one in STRENGTHS), "softer targets", "T = 1"]
    print(
        f"Seed {SEED}, {worlds} fits for each of {len(APART) * len(PHOTOGRAPHS) * len(TRUE)} settings; mean (worst)\n"
    )
    print(f"| images | {' | '.join(ways)} |\n| {' | '.join(['---'] * (len(ways) + 1))} |")
    for images in IMAGES:
        found = errors(max(worlds * 134 // max(images, 134), 2), images)
        cells = (f"{mean:.2f} ({worst:.2f})" for mean, worst in zip(found.mean(axis=0), found.max(axis=0), strict=True))
        print(f"| {images} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
