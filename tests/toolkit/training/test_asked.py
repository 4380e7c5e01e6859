"""A training that the fleet asked for: once to the end, answered each time, and never in another's folder."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.alert import Trigger
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec, Label
from toolkit.commands.train import train
from toolkit.runs import RunRecord, read_record, write_record
from toolkit.training.trigger import RESULT, place, read_result, write_result

TRIGGER = Trigger(schema="1.1", id="t-0123456789", model="0f" * 8, reason="person", created_ms=1, state="training",
                  text="new supplier")  # fmt: skip


def record(folder: Path, trigger: str = TRIGGER.id, status: str = "trained") -> Path:
    """A folder with the record of a training."""
    folder.mkdir(parents=True)
    labels = [Label("good", "good"), Label("dent", "defect")]
    write_record(folder, RunRecord(status=status, name=folder.name, labels=labels, input=InputSpec(height=8, width=8),
                                   family="f", alpha=1.0, seed=1, data="d", data_sha256="ab" * 32, recipe={"epochs": 3},
                                   trigger=trigger, metrics={"accuracy": 0.9}))  # fmt: skip
    return folder


def asked(folder: Path, **changes: object) -> Path:
    """The trigger's file."""
    path = folder / "trigger.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(TRIGGER, **changes)))
    return path


def test_a_trigger_is_trained_where_it_was_begun_and_not_twice(tmp_path):
    assert place(TRIGGER, tmp_path / "new") is None
    begun = record(tmp_path / "begun", status="training")
    assert place(TRIGGER, begun) is None
    with pytest.raises(BadInput, match="under way there"):
        place(TRIGGER, tmp_path / "new")
    begun.joinpath("run.json").unlink()
    done = record(tmp_path / "done")
    assert place(TRIGGER, tmp_path / "new") == done and place(TRIGGER, tmp_path / "new", fresh=True) is None


def test_the_folder_of_another_training_is_refused(tmp_path):
    other, plain = record(tmp_path / "other", "t-other"), record(tmp_path / "plain", "")
    with pytest.raises(BadInput, match="asked for by trigger t-other"):
        place(TRIGGER, other)
    with pytest.raises(BadInput, match="did not ask for"):
        place(TRIGGER, plain)


def test_a_result_says_what_was_trained_and_stays_as_it_is(tmp_path):
    done = record(tmp_path / "done")
    result = write_result(done, TRIGGER, 7)
    assert result is not None and (result.state, result.run, result.metrics) == ("trained", "done", {"accuracy": 0.9})
    assert write_result(done, TRIGGER, 8) == result == read_result(done)
    (done / RESULT).write_text("{")
    again = write_result(done, TRIGGER, 9)
    assert again is not None and again.finished_ms == 9
    assert write_result(record(tmp_path / "other", "t-other"), TRIGGER, 7) is None


def test_a_training_that_fails_is_answered_and_one_that_goes_on_is_not(tmp_path):
    begun = record(tmp_path / "begun", status="training")
    assert write_result(begun, TRIGGER, 7) is None and not (begun / RESULT).exists()
    failed = write_result(begun, TRIGGER, 7, failure="disk full")
    assert failed is not None and (failed.state, failed.text) == ("failed", "disk full") and read_result(begun) is None


def test_the_command_says_that_it_was_trained_and_ends_well(tmp_path):
    done = record(tmp_path / "done")
    for _ in range(2):
        said = CliRunner().invoke(train, ["--out", str(tmp_path / "new"), "--trigger", str(asked(tmp_path)), "--json"])
        assert said.exit_code == 0 and "is trained already" in said.stderr
        assert json.loads(said.stdout)["trigger"] == TRIGGER.id and (done / RESULT).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"state": "labelling"}, "is labelling"), ({"schema": "2.0"}, "2.0"), ({"state": "done"}, "is done")],
)
def test_a_trigger_that_is_not_to_be_trained_is_refused(tmp_path, changes, said):
    file = asked(tmp_path, **changes)
    error = CliRunner().invoke(train, ["data", "--out", str(tmp_path / "new"), "--trigger", str(file)]).exception
    assert isinstance(error, BadInput) and said in str(error)


@pytest.mark.slow
def test_a_training_carries_its_trigger_and_answers_it(tmp_path):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("good", 180)):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        for number in range(30):
            image = np.clip(rng.normal(level, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "labelled" / name / f"{number}.png"), image)
    out = tmp_path / "runs/steel-2"
    file = asked(tmp_path, samples="labelled")
    given = ["--out", str(out), "--trigger", str(file), "--size", "32", "--width", "0.1", "--epochs", "1"]
    said = CliRunner().invoke(train, given, catch_exceptions=False)
    assert said.exit_code == 0, said.stderr
    held, result = read_record(out), read_result(out)
    assert held is not None and held.trigger == TRIGGER.id and held.status == "trained"
    assert result is not None and result.metrics == held.metrics and result.data_sha256 == held.data_sha256
    assert "is trained already" in CliRunner().invoke(train, given).stderr
