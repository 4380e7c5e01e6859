"""A stage that was reached is not made again; the folder belongs to one plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput
from toolkit.compression import stages
from toolkit.compression.stages import Made, Stages
from toolkit.training.checkpoint import Epoch

LINE = Epoch(epoch=1, loss=0.5, val_loss=0.4, val_accuracy=0.9, val_macro_f1=0.8, rate=0.1, seconds=1.0)


@pytest.fixture(autouse=True)
def _plain_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "save_model", lambda model, path: path.write_text(model))
    monkeypatch.setattr(stages, "load_model", lambda path, family: path.read_text() + " again")


def test_made_once(tmp_path: Path) -> None:
    def make(state: Path) -> Made:
        state.write_text("half-way")
        return "a model", [LINE]

    first = Stages(tmp_path, {"share": 0.5}, "mobilenet-v2").reach("tuned-1", make)
    assert first == ("a model", [LINE])
    assert not (tmp_path / "tuned-1.npz").exists(), "the state goes when the stage is reached"
    again = Stages(tmp_path, {"share": 0.5}, "mobilenet-v2").reach("tuned-1", lambda _: pytest.fail("made again"))
    assert again == ("a model again", [LINE])


def test_a_stage_that_was_left_half_way_finds_its_state(tmp_path: Path) -> None:
    def fail(state: Path) -> Made:
        state.write_text("half-way")
        raise KeyboardInterrupt

    found = Stages(tmp_path, {}, "")
    with pytest.raises(KeyboardInterrupt):
        found.reach("tuned-1", fail)
    assert found.reach("tuned-1", lambda state: (state.read_text(), []))[0] == "half-way"


def test_another_plan_is_told(tmp_path: Path) -> None:
    Stages(tmp_path / "checkpoint", {"share": 0.5, "align": 8}, "")
    with pytest.raises(BadInput, match=r"not finished: share was 0.5 and is 0.25; name another folder, or --fresh"):
        Stages(tmp_path / "checkpoint", {"share": 0.25, "align": 8}, "")
    (tmp_path / "checkpoint" / "plan.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        Stages(tmp_path / "checkpoint", {}, "")
