"""Whatever a tracker does, the training goes on; what is tracked is finite and has a name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from toolkit.training.checkpoint import Epoch
from toolkit.training.health import LayerHealth
from toolkit.training.tracking import MLflow, Tracking, figures_between, figures_of, load_mlflow


class _Sink:
    def __init__(self, fail_at: int = 0) -> None:
        self.fail_at, self.seen, self.ended = fail_at, [], ""  # type: ignore[var-annotated]

    def note(self, epoch: int, figures: Mapping[str, float], tensors: Mapping[str, Any]) -> None:
        if epoch == self.fail_at:
            raise RuntimeError("quota\nand more")
        self.seen.append((epoch, dict(figures)))

    def end(self, status: str) -> None:
        self.ended = status


def test_a_sink_that_fails_is_named_once_and_left_out() -> None:
    good, bad, warnings = _Sink(), _Sink(fail_at=2), []  # type: ignore[var-annotated]
    tracking = Tracking({"good": lambda: good, "bad": lambda: bad}, warnings.append)
    with tracking.until_the_end():
        for epoch in (1, 2, 3):
            tracking.note(epoch, {"loss": 1.0}, {})
    assert [epoch for epoch, _ in good.seen] == [1, 2, 3] and [epoch for epoch, _ in bad.seen] == [1]
    assert warnings == ["bad: quota; the training goes on without it"]
    assert good.ended == "FINISHED" and bad.ended == "FAILED", "its run on the server must not look alive for ever"


def test_a_sink_that_cannot_be_made_is_a_warning() -> None:
    def refuse() -> _Sink:
        raise OSError("no route")

    warnings: list[str] = []
    tracking = Tracking({"server": refuse}, warnings.append)
    tracking.note(1, {"loss": 1.0}, {})
    tracking.note(2, {"loss": 1.0}, {})
    assert warnings == ["server: no route; the training goes on without it"]


def test_figures_that_are_none_or_not_finite_are_left_out() -> None:
    sink = _Sink()
    Tracking({"one": lambda: sink}, print).note(1, {"a": None, "b": float("nan"), "c": 2}, {})
    assert sink.seen == [(1, {"c": 2.0})]


def test_points_of_the_line_stand_beside_the_epoch_and_not_over_it() -> None:
    row = Epoch(epoch=8, loss=0.2, val_loss=0.1, val_accuracy=0.9, val_macro_f1=0.8, rate=0.0, seconds=1.0, blend=0.75)
    between, whole = figures_between(row), figures_of(row, [], 0)
    assert between["blend-0.75/val_macro_f1"] == 0.8 and not between.keys() & whole.keys()
    assert "blend" not in whole and whole["val_macro_f1"] == 0.8


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_how_a_training_ends_is_told(error: type[BaseException], status: str) -> None:
    sink = _Sink()
    tracking = Tracking({"one": lambda: sink}, print)
    tracking.note(1, {}, {})
    with pytest.raises(error), tracking.until_the_end():
        raise error
    assert sink.ended == status


def test_mlflow_goes_on_with_its_run_and_phones_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, os.environ.get(name, "true"))
    mlflow = load_mlflow()
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    where, memory = tmp_path / "tracked", tmp_path / "mlflow.txt"
    for epoch in (1, 2):
        sink = MLflow(str(where), "steel", {"epochs": 2, "distil": None}, memory)
        row = Epoch(
            epoch=epoch, loss=1, val_loss=1, val_accuracy=1, val_macro_f1=epoch / 4, rate=0, seconds=1, gradient_norm=1
        )
        layers = [LayerHealth(epoch=epoch, layer=name, gradient_norm=0.5) for name in ("block", "block/conv")]
        sink.note(epoch, {name: value for name, value in figures_of(row, layers, 0).items() if value is not None}, {})
        sink.end("FINISHED")
    client = mlflow.MlflowClient(tracking_uri=where.as_uri())
    run = client.get_run(memory.read_text())
    history = client.get_metric_history(memory.read_text(), "val_macro_f1")
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.5)]
    assert run.data.params["epochs"] == "2" and run.info.status == "FINISHED"
    assert {"gradient_norm/block", "gradient_norm/block.conv", "warnings"} <= run.data.metrics.keys()
