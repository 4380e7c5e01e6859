"""Parts of an agent for tests: reports, a bundle with the fake runtime, clocks that stand still."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET, UnsetType

from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.codec import SCHEMA
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.manifest import (
    ArtifactManifest,
    Baseline,
    BundleManifest,
    Decision,
    Golden,
    InputSpec,
    Label,
)
from device_agent.contract.report import DeviceReport
from device_agent.frames.surface import KINDS, draw
from device_agent.runtimes import logits, open_runtime

SPEC = InputSpec(height=64, width=64)


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def seconds(self) -> float:
        return self.now_ns / 1e9

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def make_report() -> Callable[..., DeviceReport]:
    """`make_report(frames, seed=0, **fields)`: a report whose histogram adds up."""

    def make(frames: int = 10, seed: int = 0, **fields: Any) -> DeviceReport:
        rng = np.random.default_rng(seed)
        counts = np.bincount(rng.integers(0, 3 * BINS, frames), minlength=3 * BINS).reshape(3, BINS)
        given: dict[str, Any] = {
            "schema": SCHEMA,
            "epoch": 0,
            "sequence": 0,
            "boot": 0,
            "wall_ms": 1_700_000_000_000,
            "monotonic_ms": 1000,
            "interval_ms": 60_000,
            "model": b"modelone",
            "frames": frames,
            "dropped": 1,
            "parts": frames // 2,
            "same": frames // 3,
            "identical": 0,
            "histogram": ConfidenceHistogram.of(counts),
            "latency": [[3, frames], [0, frames], [9, frames], [0, frames]],
        }
        return DeviceReport(**{**given, **fields})

    return make


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`make_bundle(wrong=(), decision=UNSET, temperature=1.0)`: a bundle with two fake artifacts, fp32 and int8, of
    which those in `wrong` have golden answers that the runtime does not give. Another temperature is another model."""

    def make(
        wrong: tuple[str, ...] = (),
        classes: int = 3,
        decision: Decision | UnsetType = UNSET,
        temperature: float = 1.0,
        name: str = "steel",
    ) -> Path:
        content = json.dumps({"classes": classes}).encode()
        model = tmp_path / "model.json"
        model.write_bytes(content)
        rng = np.random.default_rng(5)
        images = np.stack([draw(rng, kind, size=64) for kind in KINDS])
        runtime = open_runtime("fake", model, SPEC)
        answers = np.stack([logits(runtime, image) for image in images])
        assert np.ptp(answers, axis=0).min() > 0.01, "golden answers must spread"
        files = {"golden.npy": _npy(images), "model.json": content, "small.json": content}
        artifacts = [
            ArtifactManifest(
                runtime="fake",
                precision=precision,
                files=[entry(name, content)],
                input=SPEC,
                temperature=temperature,
                golden=Golden((answers + (0.5 if precision in wrong else 0)).tolist(), 1e-4),
                baseline=Baseline.of(np.ones((classes, classes, BINS), int)),
                decision=decision,
            )
            for precision, name in (("fp32", "model.json"), ("int8", "small.json"))
        ]
        manifest = BundleManifest(
            name="steel",
            profile="generic-x86-64",
            labels=[Label("good", "good"), *(Label(f"flaw{k}", "defect") for k in range(1, classes))],
            artifacts=artifacts,
            golden_images=entry("golden.npy", files["golden.npy"]),
        )
        path = tmp_path / f"{name}.lineside"
        write_bundle(path, manifest, files)
        return path

    return make


def _npy(images: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, images)
    return buffer.getvalue()
