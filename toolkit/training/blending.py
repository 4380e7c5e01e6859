"""Points on the line between the probe and the end of a fine-tuning.

A network that was fine-tuned gently from a probe lies in the same basin, and the weights between the two are often
better than either, on other days above all (Wortsman et al. 2022, Robust fine-tuning of zero-shot models). Which of
them is kept, and why the middle is preferred: `selection`.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.models.answers import compile_answers, predict
from toolkit.training.averaging import averaged
from toolkit.training.checkpoint import Checkpoint, Epoch
from toolkit.training.epochs import judged
from toolkit.training.examples import Examples
from toolkit.training.judgement import Judge
from toolkit.training.recipe import Recipe
from toolkit.training.selection import MIDDLE, settled

SHARES = (1.0, 0.75, MIDDLE, 0.25)


def blend(model: Any, recipe: Recipe, judge: Judge, val: Examples, state: Checkpoint) -> list[Epoch]:
    """Judge the points on the line, and settle what is kept: `state.best` then is the probe, the last epoch or a point
    between, or of a training that stopped early any epoch.

    Each point is a line of history under the number of the last epoch, with its share of the fine-tuned weights as
    `blend`; these lines are returned.
    """
    last, began = state.history[-1], time.monotonic()
    if not state.start or not last.epoch:
        return []
    end, answer = averaged(model, state), compile_answers(model)
    rows, weights, losses = {1.0: last}, {}, {}
    for share in SHARES:
        weights[share] = [_point(*pair, share) for pair in zip(state.start, end, strict=True)]
        model.set_weights(weights[share])
        logits = predict(model, val.images, recipe.architecture.input_spec(), answer=answer)
        losses[share] = judge.calibrated_losses(logits, val.labels, val.marks)
        if share < 1:
            rows[share] = judged(judge, logits, val, epoch=last.epoch, loss=last.loss, lr=0.0, began=began)
    leads = {share: lead(losses[MIDDLE], each, val.groups) for share, each in losses.items()}
    points = [msgspec.structs.replace(rows[share], blend=share, val_lead=leads[share]) for share in SHARES]
    state.history[-1:] = points
    state.best = _kept(state, recipe, weights)
    return points[1:]


def lead(middle: NDArray[np.floating], other: NDArray[np.floating], groups: NDArray[np.str_]) -> float:
    """By how many standard errors the mean of `other` (n,) is below that of `middle` (n,): paired by image, and the
    images of a group count as one.

    >>> groups = np.array(["a", "a", "b", "c"])
    >>> round(lead(np.array([1.0, 1.0, 2.0, 3.0]), np.zeros(4), groups), 2)
    7.0
    """
    _, of = np.unique(groups, return_inverse=True)
    gains = np.bincount(of, weights=middle - other)
    error = np.sqrt(len(gains) * gains.var(ddof=1)) if len(gains) > 1 else 0.0
    return float(gains.sum() / error) if error else 0.0


def _kept(state: Checkpoint, recipe: Recipe, weights: dict[float, Any]) -> Any:
    """The weights that are settled on; of an earlier epoch they are those kept already."""
    row, last = settled(state.history, recipe.stop_on, recipe.epochs), state.history[-1]
    if not row.epoch:
        return state.start
    of_the_end = row.epoch == last.epoch and (row.blend < 1 or last.epoch == recipe.epochs)
    return weights[row.blend] if of_the_end else state.best


def _point(first: NDArray[Any], final: NDArray[Any], share: float) -> NDArray[Any]:
    """Between two values of a weight; what is no number to be mixed, such as the state of a generator, is the final."""
    if share == 1 or final.dtype.kind != "f":
        return final
    return np.asarray(first + share * (final - first), final.dtype)
