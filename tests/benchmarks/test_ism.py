"""Both arms of the benchmark take the same steps on the same network; only what auto chose differs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from toolkit.data.images import Dataset

BENCHMARK = "ism"


def test_arms_differ_in_what_auto_chose_alone(script: ModuleType) -> None:
    labels = np.repeat([0, 1], [570, 10])
    files = [f"{row}.png" for row in range(580)]
    dataset = Dataset(
        dir=Path("data"), files=files, labels=labels, names=["a", "b"], roles=["good", "defect"], groups=np.array(files)
    )
    (plain, none), (auto, reasons) = (script.recipe(arm, 1e-2, 1, dataset, np.arange(580)) for arm in script.ARMS)
    before, after = plain.document(), auto.document()
    assert plain.loss == "cross-entropy" and plain.sampling == "natural" and none == []
    changed = {name for name in before if before[name] != after[name]}
    assert "loss" in changed and changed <= {"loss", "sampling", "adjust_tau", "ema"}
    assert any("57 to 1" in reason for reason in reasons)
