"""The golden payloads of schema 1, which are never edited: a message that changes them breaks devices in the field."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from device_agent.contract import alert, benchmark, control, manifest, report, review, session

FOLDER = Path(__file__).parents[2] / "data" / "contract" / "v1"
MODULES = (alert, benchmark, control, manifest, report, review, session)


class Golden(NamedTuple):
    """One file: `payload` as it travels, and the Struct that its name says (DeviceReport-full.bin: DeviceReport)."""

    name: str
    kind: type[msgspec.Struct]
    payload: bytes


def kind_named(name: str) -> type[msgspec.Struct]:
    return next(found for module in MODULES if (found := getattr(module, name, None)) is not None)


@pytest.fixture(scope="session")
def golden() -> dict[str, Golden]:
    """Every golden file by its name."""
    files = (path for path in FOLDER.iterdir() if path.suffix in (".bin", ".json"))
    return {
        path.name: Golden(path.name, kind_named(path.stem.partition("-")[0]), path.read_bytes())
        for path in sorted(files)
    }
