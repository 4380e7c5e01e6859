"""A recipe by the data: what a training should do about imbalance and size, and why.

The rules are those of the literature (Cui et al. 2019, Class-balanced loss; Menon et al. 2021, Long-tail learning via
logit adjustment; Kang et al. 2020, Decoupling representation and classifier); the constants were chosen on validation
images. What they gain: benchmarks/ism/results.md.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Dataset
from toolkit.training.recipe import Recipe

LEVEL = 1.5  # largest to smallest class, up to which classes count as alike
STRONG = 10.0  # and from which equal classes would cost the largest one much
TAU = 0.4  # on the way from the shares of the images (0) to equal classes (1)
REPEATS = 80  # times that an image of the rarest class can be shown before it is known by heart
DECAY = 0.998  # of the average over weights
STEPS = 1000  # from which on such an average is over a small part of the training


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a choice hangs on. `images` and `groups` (parts) are those to be trained on, `counts` the images of each
    class, with task "labels" those that bear each mark; `size_px` is the side of the input; `pretrained` whether
    weights are given; `epochs` and `steps` how many the training takes at most."""

    images: int
    groups: int
    counts: list[int]
    size_px: int
    pretrained: bool
    task: str = "classes"
    epochs: int = 0
    steps: int = 0

    @property
    def imbalance(self) -> float:
        """Images of the largest class for one of the smallest."""
        return max(self.counts) / max(1, min(self.counts))

    @property
    def repeats(self) -> float:
        """How often each image of the smallest class is shown where all classes are shown alike often."""
        return self.epochs * self.images / (len(self.counts) * max(1, min(self.counts)))


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a Recipe that are to be set, and why, a sentence each."""

    overrides: dict[str, Any]
    reasons: list[str]


def facts_of(dataset: Dataset, rows: NDArray[np.integer], recipe: Recipe) -> Facts:
    """The facts of a training on the images `rows` of a data set."""
    labels = dataset.labels[rows]
    counts = np.bincount(labels, minlength=len(dataset.names))
    if recipe.task == "labels" and dataset.marks is not None:
        marks = dataset.marks[rows]
        counts = np.where([role == "good" for role in dataset.roles], (~marks.any(axis=1)).sum(), marks.sum(axis=0))
    return Facts(
        images=len(rows),
        groups=len(np.unique(dataset.groups[rows])),
        counts=counts.tolist(),
        size_px=recipe.architecture.size,
        pretrained=bool(recipe.weights),
        task=recipe.task,
        epochs=recipe.epochs,
        steps=recipe.epochs * -(-len(rows) // recipe.batch),
    )


def choose(facts: Facts) -> Choice:
    """What to set for a training, by rules on counts; no image is looked at.

    >>> choose(Facts(images=900, groups=900, counts=[300, 300, 300], size_px=96, pretrained=True)).overrides
    {'loss': 'cross-entropy'}
    >>> choose(Facts(images=930, groups=310, counts=[900, 30], size_px=96, pretrained=False, epochs=4)).overrides
    {'loss': 'logit-adjusted', 'adjust_tau': 0.4, 'sampling': 'balanced'}
    """
    overrides, reasons = _against_imbalance(facts)
    if not facts.pretrained and facts.steps >= STEPS:
        overrides["ema"] = DECAY
        reasons.append(f"{facts.steps} steps: an average of the weights is steadier than the last ones")
    if facts.pretrained:
        reasons.append("weights are given: what is kept is never worse on validation than the linear probe on them")
    if facts.groups < facts.images:
        reasons.append(f"{facts.images} images are of {facts.groups} parts: the split keeps each part on one side")
    return Choice(overrides=overrides, reasons=reasons)


def _against_imbalance(facts: Facts) -> tuple[dict[str, Any], list[str]]:
    ratio, rarest = facts.imbalance, min(facts.counts)
    if ratio <= LEVEL:
        return {"loss": "cross-entropy"}, [f"classes are alike ({ratio:.1f} to 1): plain cross entropy"]
    if facts.task == "labels":
        reason = f"marks from {rarest} to {max(facts.counts)} images: rare marks weigh more, at most 10 times"
        return {"loss": "class-balanced"}, [reason]
    if ratio < STRONG:
        reason = f"{ratio:.1f} to 1 is mild: every class counts alike by the weight of its images"
        return {"loss": "class-balanced"}, [reason]
    sampling = "balanced" if facts.repeats <= REPEATS else "natural"
    shown = (
        f"{ratio:.0f} to 1, {rarest} images in the rarest class, each shown {facts.repeats:.0f} times if all were alike"
    )
    meaning = {
        "balanced": f"{shown}: classes are shown alike often, so that rare ones are learnt as soon as the others",
        "natural": f"{shown}: they would be learnt by heart, so images are shown as they come",
    }
    return {"loss": "logit-adjusted", "adjust_tau": TAU, "sampling": sampling}, [
        meaning[sampling],
        f"logits are adjusted with tau {TAU:g}, between the shares of the images and equal classes, which would cost "
        "the largest class more images than the rare ones gain",
    ]
