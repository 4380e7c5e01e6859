"""An exponential moving average of the weights, which is what validation sees and what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.training.checkpoint import Checkpoint

Arrays = Sequence[NDArray[np.generic]]


class Average:
    """The average of all weights of a model, the statistics of its normalisations among them (Polyak & Juditsky 1992).

    Its decay rises to the given one as min(decay, (1 + t) / (10 + t)) in step t, so that the start is soon forgotten.
    """

    def __init__(self, model: Any, decay: float) -> None:
        import tensorflow as tf

        self._model = model
        self._decay = decay
        self._sources = [weight for weight in model.weights if "float" in str(weight.dtype)]
        options = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self._values = [tf.Variable(weight.numpy(), **options) for weight in self._sources]
        self._steps = tf.Variable(0.0, **options)

    def update(self) -> None:
        """Move the average by a step; inside a compiled step."""
        import tensorflow as tf

        decay = tf.minimum(self._decay, (1 + self._steps) / (10 + self._steps))
        for value, source in zip(self._values, self._sources, strict=True):
            value.assign(value + (1 - decay) * (tf.convert_to_tensor(source) - value))
        self._steps.assign_add(1.0)

    def state(self) -> list[NDArray[np.generic]]:
        """What a checkpoint keeps."""
        return [variable.numpy() for variable in (*self._values, self._steps)]

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `state` gave; from nothing, start at the model's weights."""
        values = arrays or [*(source.numpy() for source in self._sources), np.zeros((), np.float32)]
        for variable, value in zip((*self._values, self._steps), values, strict=True):
            variable.assign(value)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model has the average for its weights in this block."""
        kept = [source.numpy() for source in self._sources]
        try:
            for source, value in zip(self._sources, self._values, strict=True):
                source.assign(value.numpy())
            yield
        finally:
            for source, old in zip(self._sources, kept, strict=True):
                source.assign(old)


def averaged(model: Any, state: Checkpoint) -> list[NDArray[np.generic]]:
    """The weights that validation saw after the last epoch of `state`: the average where there is one."""
    values = iter(state.average)
    return [
        next(values) if state.average and "float" in str(variable.dtype) else own
        for variable, own in zip(model.weights, state.weights, strict=True)
    ]
