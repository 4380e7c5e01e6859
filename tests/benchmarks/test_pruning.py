"""Pruned and small network take the same steps, in the same views, from the same teacher."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit.compression.teaching import VIEWS
from toolkit.data.images import Dataset

BENCHMARK = "pruning"


def test_both_take_the_same_steps(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    rng, files = np.random.default_rng(0), [f"{row}.png" for row in range(300)]
    dataset = Dataset(
        dir=tmp_path, files=files, labels=rng.integers(0, 3, 300), names=list("abc"), roles=["defect"] * 3,
        groups=np.array(files),
    )  # fmt: skip
    (tmp_path / "model.keras").write_bytes(b"the parent")
    parent = SimpleNamespace(dir=tmp_path, model_path=tmp_path / "model.keras")
    sha256 = script.file_sha256(parent.model_path)

    def teachers(folders: list[Path], *_: object) -> list[Any]:
        seen["teachers"] = folders
        return [SimpleNamespace(sha256=sha256)]

    monkeypatch.setattr(script, "open_teachers", teachers)
    monkeypatch.setattr(script, "train", lambda *given, **options: seen.update(small=given[3]))
    monkeypatch.setattr(script, "prune", lambda *given, **options: seen.update(pruned=given[2], **options))
    monkeypatch.setattr(script, "taught", lambda parent, folders, *_: folders)
    script.train_pruned(parent, tmp_path, 2, 1)
    script.train_small(dataset, parent, tmp_path, 2, 1)
    pruned, small = seen["pruned"], seen["small"]
    assert sum(pruned.all_epochs) == small.epochs == small.patience and small.views == VIEWS
    assert pruned.teachers == small.distil.teachers == [sha256]
    assert seen["teach"] == seen["teachers"] == [parent.dir]
    assert (pruned.temperature, pruned.teacher_weight) == (small.distil.temperature, small.distil.weight)
    assert pruned.seed == small.seed == 1
    assert pruned.share == pytest.approx(18.95 / 97.8, rel=1e-3)
