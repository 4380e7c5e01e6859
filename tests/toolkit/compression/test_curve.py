"""A curve is measured once for a machine, runtime and version; its steps decide the alignment."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput
from toolkit.compression import curve

CLIFF = {count: count / 64 if count % 16 == 0 else 4.0 for count in curve.COUNTS}


def test_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(curve, "_measured", lambda artifact, watch: asked.append(artifact) or CLIFF)
    version = ["1.0"]
    monkeypatch.setattr(curve, "_version", lambda runtime: version[0])
    assert [curve.alignment_of("onnx-fp32", cache=tmp_path) for _ in range(2)] == [16, 16]
    assert asked == ["onnx-fp32"]
    version[0] = "1.1"
    curve.alignment_of("onnx-fp32", cache=tmp_path)
    curve.alignment_of("litert-int8", cache=tmp_path)
    assert asked == ["onnx-fp32", "onnx-fp32", "litert-int8"]


def test_a_smooth_curve_asks_for_nothing_and_noise_is_no_cliff() -> None:
    smooth = {count: count * (1.04 if count % 2 else 1.0) for count in curve.COUNTS}
    assert curve.good_step(smooth) == 1
    assert curve.good_step({count: 1.0 if count % 8 == 0 else 1.5 for count in curve.COUNTS}) == 8


def test_an_unknown_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no artifact 'tpu-int8'"):
        curve.alignment_of("tpu-int8", cache=tmp_path)
