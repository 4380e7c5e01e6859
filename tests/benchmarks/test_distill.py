"""The teacher of a fold is the run that never saw it, and both arms take the same steps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit.data.images import Dataset

BENCHMARK = "distill"


def test_arms_share_split_and_recipe_but_for_the_teacher(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    asked: list[tuple[Path, int, int]] = []
    rng = np.random.default_rng(0)
    files = [f"{row}.png" for row in range(300)]
    dataset = Dataset(
        dir=tmp_path, files=files, labels=rng.integers(0, 3, 300), names=list("abc"), roles=["defect"] * 3,
        groups=np.array(files),
    )  # fmt: skip
    monkeypatch.setattr(script, "train", lambda *given, **options: seen.append((given, options)))
    monkeypatch.setattr(script, "open_teachers", lambda folders, *_: [SimpleNamespace(sha256=str(folders[0]))])
    monkeypatch.setattr(
        script, "teacher_of", lambda _, runs, fold, seed: asked.append((runs, fold, seed)) or tmp_path / "teacher"
    )
    for arm in script.ARMS:
        script.train_student(dataset, tmp_path, Path("runs"), "v3-small", arm, 3e-3, 2, 1)
    (alone, with_alone), (taught, with_taught) = seen
    assert asked == [(Path("runs"), 2, 1)]
    assert np.array_equal(alone[1], taught[1]) and set(alone[1]) == {"train", "val", "test"}
    before, after = alone[3].document(), taught[3].document()
    assert {name for name in before if before[name] != after[name]} == {"distil"}
    assert with_alone["extra"] is None and with_taught["extra"] is not None
    assert alone[2] != taught[2]
