"""Vector scaling: a factor and an offset a class instead of one temperature, where that is better on images of other
groups."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.calibration import error, fit_temperature
from toolkit.evaluation.metrics import softmax

Kind = Literal["temperature", "vector"]
FACTOR_SPREAD, OFFSET_SPREAD = 0.5, 1.0
BY_CHANCE = 1.645  # standard errors: one in twenty


class Affine(NamedTuple):
    """Calibrated logits are logits * scale + shift, both (classes,)."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Softmax (n, classes) of calibrated logits (n, classes)."""
        return softmax(np.asarray(logits, np.float64) * self.scale + self.shift)


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration that was chosen, and why: negative log-likelihood in nats and expected calibration error (15
    equal-mass bins) of both kinds, on images whose group took no part in fitting. `top_changed` is the share of these
    images whose top class vector scaling changes: unlike a temperature it can."""

    kind: Kind
    scale: list[float]
    shift: list[float]
    temperature: float
    nll: dict[Kind, float]
    ece: dict[Kind, float]
    top_changed: float
    images: int
    groups: int

    @property
    def affine(self) -> Affine:
        """As arrays."""
        return Affine(np.array(self.scale), np.array(self.shift))


def fit_vector(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> Affine:
    """Factors and offsets (classes,) with the least negative log-likelihood (Guo et al. 2017, vector scaling).

    They are drawn towards the temperature by normal priors (factors 0.5 around 1, in units of 1 / temperature; offsets
    1.0 around 0), so that a class of a few images cannot run away.

    Args:
        logits: (n, classes), finite.
        labels: (n,) true classes.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 2000)
    >>> truth = np.stack([rng.normal(-labels, 1), rng.normal(labels, 1)], axis=1)
    >>> fit_vector(truth + [0.0, 3.0], labels, 1.0).shift.round(1).tolist()
    [1.9, -1.9]
    """
    from scipy.optimize import minimize

    scores = np.asarray(logits, np.float64) / temperature
    count, classes = scores.shape
    target = np.zeros((count, classes))
    target[np.arange(count), labels] = 1

    def loss(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor, offset = packed[:classes], packed[classes:]
        chance = softmax(scores * factor + offset)
        value = -np.log(np.maximum((chance * target).sum(axis=1), 1e-300)).sum()
        value += (((factor - 1) / FACTOR_SPREAD) ** 2).sum() / 2 + ((offset / OFFSET_SPREAD) ** 2).sum() / 2
        slope = chance - target
        return float(value), np.concatenate(
            [
                (slope * scores).sum(axis=0) + (factor - 1) / FACTOR_SPREAD**2,
                slope.sum(axis=0) + offset / OFFSET_SPREAD**2,
            ]
        )

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.05, 20)] * classes + [(-20, 20)] * classes).x
    return Affine(found[:classes] / temperature, found[classes:])


def by_temperature(temperature: float, classes: int) -> Affine:
    """A temperature as a calibration of each class."""
    return Affine(np.full(classes, 1 / temperature), np.zeros(classes))


def choose_scaling(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.generic],
    temperature: float,
    *,
    kind: Kind | None = None,
    folds: int = 5,
) -> Scaling:
    """Temperature, or vector scaling where it is better on images of other groups: its likelihood by more than chance
    (a paired test over groups at 5 %), and its calibration error no worse.

    Args:
        logits: (n, classes), finite.
        labels: (n,) true classes.
        groups: (n,) names.
        temperature: the artifact's, fitted on these images.
        kind: this one, whatever is better.
    """
    _, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    fold = np.random.default_rng(0).permutation(int(group.max()) + 1)[group] % folds
    held: dict[Kind, NDArray[np.float64]] = {"temperature": np.empty(logits.shape), "vector": np.empty(logits.shape)}
    for one in np.unique(fold):
        out, fit_on = fold == one, fold != one
        fit_on = fit_on if fit_on.any() else out
        fold_temperature = fit_temperature(logits[fit_on], labels[fit_on])
        held["temperature"][out] = softmax(np.asarray(logits[out], np.float64) / fold_temperature)
        held["vector"][out] = fit_vector(logits[fit_on], labels[fit_on], fold_temperature).probabilities(logits[out])
    surprise = {name: -np.log(np.maximum(each[np.arange(len(labels)), labels], 1e-12)) for name, each in held.items()}
    ece = {name: error(each, labels) for name, each in held.items()}
    better = _is_better(surprise["temperature"] - surprise["vector"], group) and ece["vector"] <= ece["temperature"]
    chosen: Kind = kind or ("vector" if better else "temperature")
    affine = (
        fit_vector(logits, labels, temperature) if chosen == "vector" else by_temperature(temperature, logits.shape[1])
    )
    return Scaling(
        kind=chosen,
        scale=affine.scale.tolist(),
        shift=affine.shift.tolist(),
        temperature=temperature,
        nll={name: float(each.mean()) for name, each in surprise.items()},
        ece=ece,
        top_changed=float(np.mean(held["vector"].argmax(axis=1) != np.asarray(logits).argmax(axis=1))),
        images=len(labels),
        groups=int(group.max()) + 1,
    )


def _is_better(gain: NDArray[np.float64], group: NDArray[np.intp]) -> bool:
    """Whether the sum of gains is over 0 by more than chance, groups being drawn."""
    sums = np.bincount(group, gain)
    spread = float(np.sqrt((sums**2).sum()))
    return float(sums.sum()) > BY_CHANCE * spread > 0
