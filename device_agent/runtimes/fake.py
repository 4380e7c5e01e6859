"""A runtime without a model: logits from the statistics of the image, for tests and dry runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.shape import look_up


class _Model(msgspec.Struct):
    classes: Annotated[int, Meta(ge=2, le=4096)] = 2


class Fake:
    """The same image gives the same logits, other images give others.

    `path` is a JSON file `{"classes": 5}`; without such a file there are 2 classes.
    """

    name = "fake"
    version = "1"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1) -> None:
        try:
            model = msgspec.json.decode(path.read_bytes(), type=_Model) if path.is_file() else _Model()
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BadInput(f"{path}: the fake runtime cannot load it: {str(error).lower()}") from error
        self.classes = model.classes
        self._spec = spec
        self._table = preprocess.table(spec)
        # Class k listens to statistic j with weight 4 cos((k + 1)(j + 1)): fixed, and no two classes alike.
        self._weights = 4 * np.cos(np.outer(np.arange(1, model.classes + 1), np.arange(1, 5)))

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of a fitted image (height, width, channels) uint8."""
        return look_up(self._table, image, self._spec, channels_first=False)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32: a fixed mixture of mean, spread and mean step down and across."""
        image = tensor[0].astype(np.float64)
        down, across = np.abs(np.diff(image, axis=0)).mean(), np.abs(np.diff(image, axis=1)).mean()
        statistics = np.array([image.mean(), image.std(), down, across])
        return np.asarray(self._weights @ statistics, np.float32)

    def close(self) -> None:
        """Nothing is held."""
