"""The points between a probe and the end of its fine-tuning: the best on validation is kept, and none that is worse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.models.architecture import Architecture
from toolkit.training import blending
from toolkit.training.checkpoint import Checkpoint, pack, unpack
from toolkit.training.epochs import judged
from toolkit.training.judgement import Judge
from toolkit.training.recipe import Recipe
from toolkit.training.selection import best, settled

RECIPE = Recipe(architecture=Architecture(), weights="w.h5", epochs=3, lr=1e-4, patience=3)
JUDGE = Judge("classes", ["good", "defect"])
LABELS = np.arange(400) % 2
SIGNAL = np.where(LABELS == 1, 1.0, -1.0)[:, None] * np.array([[1.0, 1.0]]) + np.random.default_rng(0).normal(
    0, 1.0, (400, 2)
)
VAL: Any = SimpleNamespace(images=SIGNAL, labels=LABELS, marks=None)
COUNT = np.array([7], np.uint32)  # the state of a generator, which is no weight


class _Linear:
    """A model of one weight vector (2,) over two features; beside it the state of a generator."""

    weights = [SimpleNamespace(dtype="float32"), SimpleNamespace(dtype="uint32")]

    def set_weights(self, weights: list[NDArray[Any]]) -> None:
        self.vector, self.state = weights


@pytest.fixture(autouse=True)
def _linear_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "compile_answers", lambda model: None)
    monkeypatch.setattr(blending, "predict", lambda model, images, spec, answer: _logits(model.vector))


def _logits(vector: NDArray[Any]) -> NDArray[np.float64]:
    score = SIGNAL @ vector
    return np.stack([-score, score], axis=1)


def _state(start: list[float], end: list[float], average: list[float] | None = None) -> Checkpoint:
    """A training from `start` to `end`, judged as the loop judges it."""
    ends = [np.array(each, np.float32) for each in (start, average or end)]
    rows = [
        judged(JUDGE, _logits(vector), VAL, epoch=epoch, loss=0.1, lr=0.0, began=0.0)
        for epoch, vector in zip((0, 3), ends, strict=True)
    ]
    kept = [ends[0] if best(rows, "macro-f1") is rows[0] else ends[1], COUNT]
    return Checkpoint(
        history=rows,
        weights=[np.array(end, np.float32), COUNT],
        optimizer=[],
        best=kept,
        start=[ends[0], COUNT],
        average=[] if average is None else [ends[1]],
    )


def test_a_point_between_two_bad_ends_is_kept() -> None:
    state = _state([1.0, 0.0], [0.0, 1.0])
    blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
    kept = settled(state.history, RECIPE.stop_on, RECIPE.epochs)
    assert (kept.epoch, kept.blend) == (3, 0.5)
    assert state.best[0].tolist() == [0.5, 0.5]
    assert state.best[0].dtype == np.float32
    assert state.best[1] is COUNT


def test_a_fine_tuning_that_only_harms_leaves_the_probe() -> None:
    state = _state([1.0, 1.0], [1.0, -3.0])
    blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
    assert settled(state.history, RECIPE.stop_on, RECIPE.epochs).epoch == 0
    assert state.best[0].tolist() == [1.0, 1.0]


def test_the_end_of_the_line_is_the_average_where_there_is_one() -> None:
    state = _state([1.0, 0.0], [-9.0, -9.0], average=[0.0, 1.0])
    blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
    assert state.best[0].tolist() == [0.5, 0.5]


def test_each_point_is_a_line_of_history_and_no_epoch() -> None:
    state = _state([1.0, 0.0], [0.0, 1.0])
    points = blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
    assert [(row.epoch, row.blend) for row in state.history] == [(0, 1), (3, 1), (3, 0.75), (3, 0.5), (3, 0.25)]
    assert points == state.history[2:]
    assert state.next_epoch == 4


def test_without_a_probe_or_an_epoch_there_is_no_line() -> None:
    scratch = _state([1.0, 0.0], [0.0, 1.0])
    scratch.start = []
    alone = _state([1.0, 0.0], [0.0, 1.0])
    alone.history = alone.history[:1]
    for state in (scratch, alone):
        before = list(state.history)
        blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
        assert state.history == before


@pytest.mark.parametrize("epochs", [3, 9], ids=["at its end", "stopped early"])
def test_killed_before_anything_is_written_it_keeps_the_same_weights(tmp_path: Any, epochs: int) -> None:
    recipe = msgspec.structs.replace(RECIPE, epochs=epochs)
    whole = _state([1.0, 0.3], [0.1, 0.7], average=[0.2, 1.1])
    killed = pack(whole)
    kept = []
    for state in (whole, unpack(killed, tmp_path)):
        blending.blend(_Linear(), recipe, JUDGE, VAL, state)
        kept.append(settled(state.history, recipe.stop_on, epochs))
    assert np.array_equal(whole.best[0], state.best[0]) and state.best[0].dtype == np.float32
    assert (kept[0].epoch, kept[0].blend, kept[0].val_loss) == (kept[1].epoch, kept[1].blend, kept[1].val_loss)
    assert kept[0].blend < 1


def test_a_checkpoint_of_an_older_version_has_no_probe_and_keeps_what_it_says() -> None:
    state = _state([1.0, 0.0], [1.0, 0.6])
    lucky = judged(JUDGE, _logits(np.array([1.0, 1.0])), VAL, epoch=2, loss=0.1, lr=0.0, began=0.0)
    state.history.insert(1, lucky)
    state.best, state.start = [np.array([1.0, 1.0], np.float32), COUNT], []
    assert blending.blend(_Linear(), RECIPE, JUDGE, VAL, state) == []
    assert settled(state.history, RECIPE.stop_on, RECIPE.epochs) is lucky
    assert state.best[0].tolist() == [1.0, 1.0]


def test_a_lucky_epoch_on_the_way_is_not_kept_unless_the_training_stopped_there() -> None:
    state = _state([1.0, 0.0], [1.0, 0.6])
    lucky = judged(JUDGE, _logits(np.array([1.0, 1.0])), VAL, epoch=2, loss=0.1, lr=0.0, began=0.0)
    state.history.insert(1, lucky)
    state.best = [np.array([1.0, 1.0], np.float32), COUNT]
    assert settled(state.history, RECIPE.stop_on, 9) is lucky
    blending.blend(_Linear(), RECIPE, JUDGE, VAL, state)
    assert settled(state.history, RECIPE.stop_on, 3).epoch == 3
    assert state.best[0].tolist() == pytest.approx([1.0, 0.6])
    stopped = _state([1.0, 0.0], [1.0, 0.6])
    stopped.history.insert(1, lucky)
    stopped.best = [np.array([1.0, 1.0], np.float32), COUNT]
    blending.blend(_Linear(), msgspec.structs.replace(RECIPE, epochs=9), JUDGE, VAL, stopped)
    assert stopped.best[0].tolist() == [1.0, 1.0]
