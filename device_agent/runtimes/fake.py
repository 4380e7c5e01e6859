"""A runtime without a model, for tests and dry runs: logits from the statistics of the image; goes wrong on demand."""

from __future__ import annotations

import os
import time
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
    accelerator: bool = False
    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    hang_when: str = ""
    fail_when: str = ""
    crash_when: str = ""
    wrong_when: str = ""


class Fake:
    """The same image gives the same logits, other images give others.

    `path` is a JSON file such as `{"classes": 5}`; without such a file there are 2 classes. With `"accelerator": true`
    it runs in a process of its own, as accelerators do. An inference takes `delay_ms` longer. While the file is there
    that `hang_when`, `fail_when`, `crash_when` or `wrong_when` names, it hangs, raises, aborts its process, or answers
    wrong; the first three also when it is loaded.
    """

    name = "fake"
    version = "1"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1) -> None:
        self._model = model = _read(path)
        self.classes = model.classes
        self._spec = spec
        self._table = preprocess.table(spec)
        # Class k listens to statistic j with weight 4 cos((k + 1)(j + 1)): fixed, and no two classes alike.
        self._weights = 4 * np.cos(np.outer(np.arange(1, model.classes + 1), np.arange(1, 5)))
        self._misbehave()

    @staticmethod
    def is_accelerator(path: Path) -> bool:
        """Does the file at `path` say so?"""
        return _read(path).accelerator

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of a fitted image (height, width, channels) uint8."""
        return look_up(self._table, image, self._spec, channels_first=False)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32: a fixed mixture of mean, spread and mean step down and across."""
        time.sleep(self._model.delay_ms / 1000)
        self._misbehave()
        image = tensor[0].astype(np.float64)
        down, across = np.abs(np.diff(image, axis=0)).mean(), np.abs(np.diff(image, axis=1)).mean()
        statistics = np.array([image.mean(), image.std(), down, across])
        return np.asarray(self._weights @ statistics, np.float32) + np.float32(_there(self._model.wrong_when))

    def _misbehave(self) -> None:
        if _there(self._model.crash_when):
            os.abort()
        if _there(self._model.fail_when):
            raise RuntimeError(f"told to fail while {self._model.fail_when} is there")
        while _there(self._model.hang_when):
            time.sleep(0.01)

    def close(self) -> None:
        """Nothing is held."""


def _there(name: str) -> bool:
    return bool(name) and Path(name).exists()


def _read(path: Path) -> _Model:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Model) if path.is_file() else _Model()
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{path}: the fake runtime cannot load it: {str(error).lower()}") from error
