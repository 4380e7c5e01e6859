"""Which runtimes work on this machine: each answers for a tiny model, in a process that may hang or crash."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agent.contract.errors import LinesideError, NotWritable
from device_agent.runtimes import RUNTIMES, Runtime, logits, tiny
from device_agent.runtimes.fenced import Fenced

LIMIT_S = 20.0
TOLERANCE = 0.1
_FILES = {"edgetpu": "tiny.tflite", "litert": "tiny.tflite", "tflite-runtime": "tiny.tflite", "onnx": "tiny.onnx",
          "openvino": "tiny.xml", "fake": "tiny.json"}  # fmt: skip
_OPTIONS: dict[str, dict[str, Any]] = {"edgetpu": {"plain": True}}


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one runtime: its version and the seconds that it took to load and answer, or in `text` why it does
    not work."""

    name: str
    works: bool
    version: str = ""
    text: str = ""
    seconds: float = 0.0


def probe_runtimes(names: Iterable[str] | None = None, *, limit_s: float = LIMIT_S) -> list[Probed]:
    """Each runtime by its name, all of them by default, with at most `limit_s` for each; nothing is raised for one
    that does not work.

    Raises:
        NotWritable: there is no folder for temporary files.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="lineside-probe-") as folder:
            tiny.write(Path(folder))
            return [_probe(name, Path(folder), limit_s) for name in (RUNTIMES.names() if names is None else names)]
    except OSError as error:
        raise NotWritable(
            f"no temporary folder to try runtimes in: {(error.strerror or str(error)).lower()}"
        ) from error


def _probe(name: str, folder: Path, limit_s: float) -> Probed:
    if name not in _FILES:
        return Probed(name=name, works=False, text="a plugin, for which there is no model to try it with")
    begun = time.monotonic()
    try:
        options = _OPTIONS.get(name, {})
        runtime = Fenced(name, folder / _FILES[name], tiny.SPEC, start_s=limit_s, options=options)
        try:
            fault = _wrong(runtime) if name != "fake" else ""
        finally:
            runtime.close()
    except LinesideError as error:
        return Probed(name=name, works=False, text=str(error), seconds=time.monotonic() - begun)
    spent = time.monotonic() - begun
    return Probed(name=name, works=not fault, version=runtime.version, text=fault or "works", seconds=spent)


def _wrong(runtime: Runtime) -> str:
    for value, wanted in tiny.LOGITS.items():
        given = logits(runtime, np.full((8, 8, 3), value, np.uint8))
        if given.shape != (2,) or not np.abs(given - wanted).max() <= TOLERANCE:
            return f"gives wrong answers: {given.tolist()} where {list(wanted)} is right"
    return ""
