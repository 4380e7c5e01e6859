"""What a Keras model answers to images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table

Logits = NDArray[np.float32]


class Sliced(Protocol):
    """Images (n, h, w, channels) uint8 of which slices are read: an array, or a file that is larger than the memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]: ...


def compile_answers(model: Any) -> Callable[[Any], Any]:
    """The model in inference, compiled: float32 (n, h, w, channels) to logits (n, classes); it follows the weights."""
    import tensorflow as tf

    answer = tf.function(lambda image: model(image, training=False), autograph=False)
    compiled: Callable[[Any], Any] = answer.get_concrete_function(
        tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    )
    return compiled


def predict(
    model: Any,
    images: Sliced,
    spec: InputSpec,
    *,
    batch: int = 64,
    answer: Callable[[Any], Any] | None = None,
) -> Logits:
    """Logits (n, classes) float32 of images (n, h, w, channels) uint8; `answer` is the model compiled before."""
    import tensorflow as tf

    answer = answer or compile_answers(model)
    values = table(spec)
    parts = [answer(tf.constant(values[images[at : at + batch]])).numpy() for at in range(0, len(images), batch)]
    return np.concatenate(parts) if parts else np.empty((0, model.output_shape[-1]), np.float32)
