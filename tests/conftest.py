"""Real data and weights for tests, where they are to be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, kind: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / kind))
    if not folder.is_dir():
        pytest.skip(f"{kind}: {variable} names no folder")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data sets; the test is skipped without it."""
    return _folder("LINESIDE_DATA", "data")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder of pretrained weights; the test is skipped without it."""
    return _folder("LINESIDE_WEIGHTS", "weights")
