"""What a training may learn from besides the labels, such as a teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Extra(Protocol):
    """A supplier of further targets. It is asked for every batch, in the order of training, and must answer alike for
    alike rows and views, whatever was asked before."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Each array's shape without the batch: {"logits": (7,), "features": (1280,)}."""

    @property
    def variables(self) -> list[Any]:
        """Keras variables that are trained with the model and not kept in it, such as a projection of features. They
        are in the checkpoint."""

    def __call__(self, rows: NDArray[np.int64], view: int) -> Mapping[str, NDArray[np.float32]]:
        """Arrays (b, *shape) float32 for images `rows` (b,) of the data set in their variation `view`."""

    def combine(self, losses: Any, given: Mapping[str, Any], logits: Any, features: Any) -> Any:
        """The losses (b,) float32 to be minimised, from those of the labels (b,), what was given for the batch, the
        model's logits (b, classes) and its features (b, ...) from the layer "pooled", all TensorFlow tensors."""


Make = Callable[[Any, str], Extra]
"""Makes an Extra for the Keras model that is trained and the digest of its data set, when training begins."""
