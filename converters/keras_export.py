"""A Keras model frozen once, for every converter to start from."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.calibration import tensors
from converters.equalisation import equalise
from converters.identity import without_hard_activations
from converters.quantization_aware import fine_tune
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require


class Export:
    """What converters share: the model with batch 1 and its weights as constants, and images to calibrate with.

    A frozen graph takes 1 s where a SavedModel takes 7, and every converter reads it. It is frozen before the TFLite
    converter sees it, which from the variables of a Keras 3 model writes a file without weights, and says nothing.
    """

    def __init__(
        self,
        model: Any,
        spec: InputSpec,
        calibration: NDArray[np.uint8],
        scratch: Path,
        *,
        ranges: str = "mse",
        training: Callable[[], NDArray[np.uint8]] | None = None,
        teacher: Any = None,
    ) -> None:
        """Take a Keras model that ends in logits; calibration images (n, h, w, c) uint8 fitted to `spec`; a folder for
        intermediate files, which the caller removes; the estimator of the ranges that the runtimes share; what gives
        images (n, h, w, c) uint8 to train on, where that may be done; the Keras model whose answers are wanted, where
        it is another one."""
        self.model = model
        self.spec = spec
        self.calibration = calibration
        self.scratch = scratch
        self.ranges = ranges
        self.training = training
        self.teacher = teacher or model
        self._taught: dict[int, Export] = {}

    @functools.cached_property
    def frozen(self) -> Any:
        """Concrete function of `image` float32 (1, h, w, c) to logits float32 (1, classes), without variables."""
        tf = require("tensorflow", extra="toolkit")
        freezer = require("tensorflow.python.framework.convert_to_constants", extra="toolkit")
        shape = (1, self.spec.height, self.spec.width, self.spec.channels)
        signature = [tf.TensorSpec(shape, tf.float32, name="image")]
        function = tf.function(
            lambda image: self.model(image, training=False), input_signature=signature, autograph=False
        )
        return freezer.convert_variables_to_constants_v2(function.get_concrete_function())

    @functools.cached_property
    def integer(self) -> Export:
        """The same network in the form that int8 runtimes compute in integers: itself, where it has that form."""
        model = without_hard_activations(self.model)
        return self if model is self.model else self._with(model, self.scratch)

    def with_ranges(self, ranges: str) -> Export:
        """The same network, and what was made of it, with another estimator of ranges."""
        other = copy.copy(self)
        other.ranges = ranges
        return other

    @functools.cached_property
    def equalised(self) -> Export:
        """The same network with its kernels balanced across layers: itself, where nothing can be balanced."""
        model = equalise(self.model, lambda: tensors(self.calibration, self.spec))
        if model is self.model:
            return self
        return self._with(model, self.scratch / "equalised")

    def taught(self, epochs: int, *, progress: Callable[[str], None] | None = None) -> Export:
        """The same network after quantization-aware training, done once."""
        assert self.training is not None, "there are images to train on"
        if epochs not in self._taught:
            model = fine_tune(
                self.model, self.training(), self.calibration, self.spec,
                epochs=epochs, progress=progress,
            )  # fmt: skip
            self._taught[epochs] = self._with(model, self.scratch / f"taught-{epochs}")
        return self._taught[epochs]

    def _with(self, model: Any, scratch: Path) -> Export:
        """The same with another model, which is to answer as this one's."""
        scratch.mkdir(exist_ok=True)
        return Export(model, self.spec, self.calibration, scratch, ranges=self.ranges, teacher=self.teacher)

    @functools.cached_property
    def calibration_logits(self) -> NDArray[np.float32]:
        """Logits (n, classes) float32 that are wanted for the calibration images: Keras' own."""
        return keras_logits(self.teacher, self.spec, self.calibration)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (n, classes) float32 that Keras gives for images (n, h, w, c) uint8."""
        return keras_logits(self.model, self.spec, images)


def keras_logits(model: Any, spec: InputSpec, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, classes) float32 that a Keras model gives for images (n, h, w, c) uint8 fitted to `spec`."""
    rows = list(tensors(images, spec))
    batches = [np.concatenate(rows[start : start + 64]) for start in range(0, len(rows), 64)]
    return np.concatenate([np.asarray(model(batch, training=False)) for batch in batches])
