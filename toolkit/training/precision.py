"""Half precision while a training step is compiled; the variables, and what is saved, stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from toolkit.framework import load_keras

FIRST_SCALE = 2.0**15
LARGEST_SCALE = 2.0**24
GROW_AFTER = 2000  # steps without overflow


class Scale:
    """Dynamic scaling of the loss (Micikevicius et al. 2018, Mixed precision training): halved when the gradients
    overflow, doubled after 2000 steps without. Only float16 needs it; others have the range of float32.

    >>> scale = Scale("float16")
    >>> [scale.after(overflow=True), scale.value]
    [True, 16384.0]
    """

    def __init__(self, dtype: str) -> None:
        self._dynamic = dtype == "float16"
        self.value = FIRST_SCALE if self._dynamic else 1.0
        self.calm = 0

    def after(self, *, overflow: bool) -> bool:
        """Note a step; True if its overflow is one that a smaller scale may mend, so that the step is passed over."""
        if not self._dynamic:
            return False
        self.calm = 0 if overflow else self.calm + 1
        if overflow:
            self.value /= 2
            return self.value >= 1
        if self.calm == GROW_AFTER:
            self.value, self.calm = min(2 * self.value, LARGEST_SCALE), 0
        return False


def half_type() -> str:
    """float16 where there is a GPU, bfloat16 on a CPU."""
    import tensorflow as tf

    return "float16" if tf.config.list_physical_devices("GPU") else "bfloat16"


@contextmanager
def computing_in(model: Any, dtype: str) -> Iterator[None]:
    """Layers of `model` that are called in this block compute in `dtype`, all but the last. What is compiled in the
    block stays so; afterwards the layers are as they were."""
    keras = load_keras()
    layers = [layer for layer in model._flatten_layers(include_self=False) if not _plain(keras, layer)]
    kept = [layer.dtype_policy for layer in layers]
    try:
        if dtype != "float32":
            for layer in layers:
                layer.dtype_policy = keras.DTypePolicy(f"mixed_{dtype}")
        yield
    finally:
        for layer, policy in zip(layers, kept, strict=True):
            layer.dtype_policy = policy


def _plain(keras: Any, layer: Any) -> bool:
    return isinstance(layer, keras.layers.InputLayer) or layer.name == "logits"
