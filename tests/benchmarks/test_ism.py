"""Both arms of the benchmark take the same steps on the same network; only what auto chose differs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toolkit.data.images import Dataset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ism" / "run.py"


@pytest.fixture(scope="module")
def ism() -> ModuleType:
    """benchmarks/ism/run.py as a module."""
    spec = importlib.util.spec_from_file_location("ism_run", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_arms_differ_in_what_auto_chose_alone(ism: ModuleType) -> None:
    labels = np.repeat([0, 1], [570, 10])
    files = [f"{row}.png" for row in range(580)]
    dataset = Dataset(
        dir=Path("data"), files=files, labels=labels, names=["a", "b"], roles=["good", "defect"], groups=np.array(files)
    )
    (plain, none), (auto, reasons) = (ism.recipe(arm, 1e-2, 1, dataset, np.arange(580)) for arm in ism.ARMS)
    before, after = plain.document(), auto.document()
    assert plain.loss == "cross-entropy" and plain.sampling == "natural" and none == []
    changed = {name for name in before if before[name] != after[name]}
    assert "loss" in changed and changed <= {"loss", "sampling", "adjust_tau", "ema"}
    assert any("57 to 1" in reason for reason in reasons)
