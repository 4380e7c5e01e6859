"""A training ends with a whole run; interrupted it goes on; what differs or is in the way is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotWritable
from toolkit.data.images import Dataset, open_dataset
from toolkit.models.networks import Architecture, predict
from toolkit.paths import locked
from toolkit.runs import open_run
from toolkit.training.checkpoint import Epoch, load_checkpoint
from toolkit.training.epochs import Unwatched
from toolkit.training.recipe import Recipe
from toolkit.training.trainer import TrainingResult, train

pytestmark = pytest.mark.slow
RECIPE = Recipe(architecture=Architecture(alpha=0.1, size=32), epochs=4, batch=8, lr=3e-3, patience=4, dropout=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three classes of 32 px images: bright at the top, bright at the left, a bright middle."""
    cv2 = pytest.importorskip("cv2")
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    masks = {"left": np.s_[:, :10], "middle": np.s_[10:22, 10:22], "top": np.s_[:10, :]}
    lines = ["file,class,group,split"]
    for name, where in masks.items():
        (folder / name).mkdir()
        for number in range(40):
            image = rng.normal(90, 12, (32, 32, 3))
            image[where] += 110
            cv2.imwrite(str(folder / name / f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
            split = ("train", "train", "train", "val", "test")[number % 5]
            lines.append(f"{name}/{number}.png,{name},{name}-{number},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return open_dataset(folder)


def _train(data: Dataset, out: Path, recipe: Recipe = RECIPE, **options: object) -> TrainingResult:
    assert data.splits is not None
    return train(data, data.splits, out, recipe, **options)  # type: ignore[arg-type]


def _junk(folder: Path) -> Recipe:
    """A recipe whose weights, folder/junk.h5, are none."""
    (folder / "junk.h5").write_bytes(b"no weights")
    return msgspec.structs.replace(RECIPE, weights="junk.h5")


@pytest.fixture(scope="module")
def whole(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained without interruption."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    _train(data, out)
    return out


class _Interrupt(Unwatched):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, at_epoch: int) -> None:
        self._at = at_epoch
        self.epochs: list[int] = []

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        if epoch == self._at and done == 2:
            raise KeyboardInterrupt

    def epoch(self, row: Epoch, epochs: int) -> None:
        self.epochs.append(row.epoch)


def test_a_whole_run(whole: Path, data: Dataset) -> None:
    names = {"run.json", "model.keras", "split.csv", "history.csv", "curves.png", "confusion.png", "metrics.json"}
    assert {path.name for path in whole.iterdir()} == names
    run = open_run(whole)
    assert run.record.data_sha256 == data.sha256() and run.record.recipe["epochs"] == 4
    assert "keras" in run.record.packages
    document = msgspec.json.decode((whole / "metrics.json").read_bytes())
    assert document["measured_on"] == "validation" and document["metrics"]["images"] == 24
    assert len((whole / "history.csv").read_text().splitlines()) == 5
    images, labels = run.images("val")
    logits = predict(run.model(), images, run.record.input)
    assert logits.std(axis=0).min() > 0.01
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    assert accuracy == pytest.approx(run.record.metrics["val_accuracy"])


def test_interrupted_it_reaches_the_same_weights(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first, second = _Interrupt(3), _Interrupt(0)
    with pytest.raises(KeyboardInterrupt):
        _train(data, out, watch=first)
    assert first.epochs == [1, 2]
    state = load_checkpoint(out / "checkpoint" / "state.npz")
    assert state is not None and state.next_epoch == 3
    assert not (out / "model.keras").exists()
    with pytest.raises(BadInput, match="not finished"):
        open_run(out)
    result = _train(data, out, watch=second)
    assert second.epochs == [3, 4] and result.epochs == 4
    weights = [open_run(path).model().get_weights() for path in (out, whole)]
    assert all(np.allclose(one, two, rtol=1e-3, atol=1e-4) for one, two in zip(*weights, strict=True))


def test_trained_already(data: Dataset, whole: Path) -> None:
    before = (whole / "model.keras").stat().st_mtime_ns
    result = _train(data, whole)
    assert result.already_trained and result.epochs == 4
    assert (whole / "model.keras").stat().st_mtime_ns == before


def test_another_training_in_the_folder_is_named(data: Dataset, whole: Path) -> None:
    other = msgspec.structs.replace(RECIPE, epochs=9, lr=0.5)
    with pytest.raises(BadInput, match=r"epochs was 4 and is 9; lr was 0\.003 and is 0\.5; .*--fresh"):
        _train(data, whole, other)


def test_another_prevalence_is_noted_and_trains_nothing(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shares = [0.5, 0.25, 0.25]
    first, again = _train(data, out, prevalence=shares), _train(data, out)
    assert first.already_trained and first.prevalence_changed and not again.prevalence_changed
    assert open_run(out).record.prevalence == shares


def test_fresh_starts_over_and_takes_the_old_artifacts_away(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("artifacts", "evaluation", "benchmark"):
        (out / name / "litert-int8").mkdir(parents=True)
    (out / ".model.keras.0123abcd.part").write_text("left behind")
    (out / "notes.txt").write_text("mine")
    result = _train(data, out, msgspec.structs.replace(RECIPE, epochs=1, flips="none"), fresh=True)
    assert result.epochs == 1 and not result.already_trained
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()} | {"notes.txt"}
    assert open_run(out).record.recipe["flips"] == "none"


@pytest.mark.parametrize("fresh", [False, True])
def test_folders_of_ones_own_that_are_called_like_those_of_a_run_are_kept(
    data: Dataset, tmp_path: Path, fresh: bool
) -> None:
    for name in ("artifacts", "evaluation", "checkpoint"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty and holds no run"):
        _train(data, tmp_path, fresh=fresh)
    assert len(list(tmp_path.rglob("thesis.txt"))) == 3


def test_another_split_is_another_training(data: Dataset, whole: Path) -> None:
    assert data.splits is not None
    split = data.splits.copy()
    split[[0, 3]] = split[[3, 0]]
    with pytest.raises(BadInput, match=r"split was table \w+ and is table \w+; name another folder, or --fresh"):
        train(data, split, whole, RECIPE)


def test_a_run_whose_model_is_gone_is_not_trained_already(data: Dataset, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    with pytest.raises(BadInput, match=r"its model\.keras is gone; train again with --fresh"):
        _train(data, tmp_path / "run")


def test_a_fresh_start_that_fails_leaves_the_old_run(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(BadInput, match=r"junk\.h5: "):
        _train(data, out, _junk(tmp_path), weights=str(tmp_path / "junk.h5"), fresh=True)
    with pytest.raises(KeyboardInterrupt):
        _train(data, out, fresh=True, watch=_Interrupt(1))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_damaged_record_needs_fresh_and_a_folder_without_anything_else(
    data: Dataset, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "run.json").write_text("{")
    with pytest.raises(BadInput, match=r"run\.json"):
        _train(data, out)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"run\.json"):
        _train(data, out, fresh=True)
    (out / "thesis.txt").unlink()
    with pytest.raises(BadInput, match=r"junk\.h5: "):
        _train(data, out, _junk(tmp_path), weights=str(tmp_path / "junk.h5"), fresh=True)


def test_two_trainings_in_one_folder_are_one_too_many(data: Dataset, tmp_path: Path) -> None:
    with locked(tmp_path / "run", "busy"), pytest.raises(BadInput, match="another training is under way"):
        _train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_paths_that_cannot_be_written_are_one_line(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="cannot be read: file name too long"):
        _train(data, tmp_path / ("x" * 300))
    monkeypatch.setattr("toolkit.training.trainer.os.access", lambda path, mode: False)
    with pytest.raises(NotWritable, match="run: cannot be written: permission denied"):
        _train(data, tmp_path / "run")


def test_a_folder_that_is_no_run_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty and holds no run"):
        _train(data, tmp_path, fresh=True)
    with pytest.raises(BadInput, match="is a file"):
        _train(data, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_divergence_is_one_sentence(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "toolkit.training.epochs.class_weights", lambda labels, classes: np.full(classes, np.nan, np.float32)
    )
    with pytest.raises(BadInput, match=r"diverged in epoch 1: the loss is nan; try a --lr under 0\.003"):
        _train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "without a checkpoint there is no run"


def test_a_class_missing_in_a_split(data: Dataset, tmp_path: Path) -> None:
    assert data.splits is not None
    split = np.where(data.labels == 1, "train", data.splits)
    with pytest.raises(BadInput, match="class 'middle' has no image in the val split"):
        train(data, split, tmp_path / "run", RECIPE)
    assert not (tmp_path / "run").exists()


def test_probe_is_a_floor(data: Dataset, tmp_path: Path, weights_dir: Path) -> None:
    weights = weights_dir / "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
    wild = Recipe(architecture=Architecture(alpha=1.0, size=32), weights=weights.name, epochs=1, lr=0.3, patience=1)
    result = _train(data, tmp_path / "run", wild, weights=str(weights))
    assert result.start == "probe" and result.epoch == 0, "an epoch at this rate wrecks the network; the probe is kept"
    assert result.metrics.macro_f1 > 0.9


def test_killed_it_goes_on_with_the_same_command(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        "from toolkit.cli import main; main()",
        "train",
        str(data.dir),
        "--out",
        str(out),
        "--width",
        "0.1",
    ]
    command += ["--size", "32", "--batch", "16", "--epochs", "60", "--patience", "60", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "epoch 2 of 60" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    state = load_checkpoint(out / "checkpoint" / "state.npz")
    assert state is not None and 2 <= state.history[-1].epoch < 60
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"epoch {state.next_epoch} of 60" in again.stderr.splitlines()[0], (
        "the first line of all: no noise before it"
    )
    result = msgspec.json.decode(again.stdout, type=TrainingResult)
    assert result.epochs == 60 and not list(out.rglob(".*"))
