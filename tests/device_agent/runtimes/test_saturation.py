"""Which processors are taken for ones whose 8-bit kernels saturate."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from device_agent.runtimes import saturation

CASES = [
    ("x86_64", "flags\t\t: fpu sse4_1 avx2 avx_vnni", False),
    ("x86_64", "flags\t\t: avx512bw avx512_vnni", False),
    ("x86_64", "flags\t\t: fpu sse4_1 avx2", True),
    ("x86_64", "model name\t: of avx_vnni fame\nflags\t\t: avx2", True),
    ("AMD64", None, True),
    ("x86_64", None, True),
    ("aarch64", "Features\t: fp asimd", False),
    ("armv7l", None, False),
]


@pytest.mark.parametrize(("machine", "text", "expected"), CASES)
def test_a_processor_saturates_unless_it_is_known_not_to(
    machine: str, text: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(saturation, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert saturation.saturates() is expected
    named = set() if text is None or "model name" in text else set(text.partition(":")[2].split())
    assert saturation.instructions() >= named and (named or text or not saturation.instructions())
