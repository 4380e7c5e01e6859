"""An artifact that is neither smaller nor faster than the float file of its runtime is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converters import gain
from converters.race import Times
from device_agent.contract.errors import ParityFailed

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("kib", "ms", "refused"), [(50, 1.0, False), (50, 2.0, False), (150, 0.5, False), (150, 1.0, True)]
)
def test_smaller_or_faster_or_refused(
    kib: int, ms: float, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parent(_export: Any, folder: Path) -> list[Path]:
        (folder / "model.onnx").write_bytes(bytes(100 * 1024))
        return [folder / "model.onnx"]

    monkeypatch.setattr(gain, "CONVERTERS", SimpleNamespace(names=lambda: ["onnx-fp32"], load=lambda _: parent))
    monkeypatch.setattr(gain, "race", lambda *_: Times(ms, 1.0))
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(kib * 1024))
    export: Any = SimpleNamespace(scratch=tmp_path, spec=None, model=SimpleNamespace(count_params=lambda: 1000))
    if refused:
        with pytest.raises(ParityFailed, match=r"neither smaller \(153600 bytes\) nor faster than onnx-fp32"):
            gain.check_gain("onnx-int8", export, [path], IMAGE)
    else:
        gain.check_gain("onnx-int8", export, [path], IMAGE)
    gain.check_gain("onnx-fp32", export, [path], IMAGE)
