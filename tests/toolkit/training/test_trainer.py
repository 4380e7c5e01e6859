"""A training ends with a whole run; interrupted it goes on; what differs or is in the way is named."""

from __future__ import annotations

import dataclasses
import functools
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotWritable
from toolkit.data.images import Dataset, open_dataset
from toolkit.data.pictures import open_pictures
from toolkit.models.answers import predict
from toolkit.models.architecture import Architecture
from toolkit.paths import locked
from toolkit.runs import open_run
from toolkit.training import examples, learning, trainer
from toolkit.training.checkpoint import Epoch, load_checkpoint
from toolkit.training.recipe import Recipe, make_recipe
from toolkit.training.results import TrainingResult
from toolkit.training.trainer import train
from toolkit.training.watch import Unwatched

pytestmark = pytest.mark.slow
TINY = Architecture(family="mobilenet-v3-small", alpha=0.05, size=32, minimalistic=True)
RECIPE = Recipe(architecture=TINY, epochs=4, batch=12, lr=3e-3, patience=4, dropout=0.1)


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


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two runs have the same model, bit for bit."""
    weights = [open_run(path).model().get_weights() for path in (one, other)]
    return all(np.array_equal(*pair) for pair in zip(*weights, strict=True))


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
        self.warnings: list[str] = []

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        if epoch == self._at and done == 2:
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def epoch(self, row: Epoch, epochs: int) -> None:
        self.epochs.append(row.epoch)


def test_a_whole_run(whole: Path, data: Dataset) -> None:
    names = {"run.json", "model.keras", "split.csv", "history.csv", "health.csv", "curves.png", "confusion.png"}
    assert {path.name for path in whole.iterdir()} == names | {"metrics.json", "tensorboard"}
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
    assert _same_weights(out, whole)


def test_trained_already(data: Dataset, whole: Path) -> None:
    before = (whole / "model.keras").stat().st_mtime_ns
    result = _train(data, whole)
    assert result.already_trained and result.epochs == 4
    assert (whole / "model.keras").stat().st_mtime_ns == before


def test_a_run_that_was_moved_is_told_where_its_images_are_now(data: Dataset, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    shutil.copytree(data.dir, tmp_path / "images")
    assert _train(open_dataset(tmp_path / "images"), tmp_path / "run").already_trained
    assert open_run(tmp_path / "run").record.data == str(tmp_path / "images")


def test_a_run_among_the_class_folders_would_be_a_class(data: Dataset) -> None:
    with pytest.raises(BadInput, match=r"must lie outside of .*, whose folders are the classes"):
        _train(dataclasses.replace(data, manifest=None), data.dir / "run")
    assert not (data.dir / "run").exists()


def test_another_training_in_the_folder_is_named(data: Dataset, whole: Path) -> None:
    other = msgspec.structs.replace(RECIPE, epochs=9, lr=0.5)
    with pytest.raises(BadInput, match=r"epochs was 4 and is 9; lr was 0\.003 and is 0\.5; .*--replace"):
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


def test_replace_goes_on_with_the_same_and_starts_over_with_another(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "operating_point").mkdir()
    (out / "card.toml").write_text('licence = "MIT"')
    assert _train(data, out, replace=True).already_trained
    assert (out / "operating_point").exists()
    result = _train(data, out, msgspec.structs.replace(RECIPE, epochs=1), replace=True)
    assert result.epochs == 1 and not result.already_trained
    assert not (out / "operating_point").exists()
    assert (out / "card.toml").exists()


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
    with pytest.raises(BadInput, match=r"split was table \w+ and is table \w+; name another folder, or --replace"):
        train(data, split, whole, RECIPE)


def test_a_run_whose_model_is_gone_is_not_trained_already(data: Dataset, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    with pytest.raises(BadInput, match=r"its model\.keras is gone; train again with --fresh"):
        _train(data, tmp_path / "run")


def test_a_fresh_start_that_fails_leaves_the_old_run(data: Dataset, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=r"junk\.h5: "):
        _train(data, out, _junk(tmp_path), weights=str(tmp_path / "junk.h5"), fresh=True)
    with pytest.raises(KeyboardInterrupt):
        _train(data, out, fresh=True, watch=_Interrupt(1))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


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
    monkeypatch.setattr("toolkit.training.epochs.make_loss", _no_number)
    sentence = "diverged in epoch 1, step 1: the loss is nan; first not finite: the loss, .*; try a --lr under 0.003"
    with pytest.raises(BadInput, match=sentence):
        _train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "without a checkpoint there is no run"


def _no_number(*given: object, **more: object) -> object:
    return lambda targets, logits: logits[:, 0] * float("nan")


def test_divergence_keeps_the_last_whole_epoch_and_names_the_layer(
    data: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoil(_Interrupt):
        def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
            if epoch == 2 and done == 2:
                variable = next(each for each in seen[0].trainable_weights if "expanded_conv_1" in each.path)
                variable.assign(variable * float("inf"))

    seen: list[Any] = []
    build = learning.build
    monkeypatch.setattr(learning, "build", lambda *given, **more: seen.append(build(*given, **more)) or seen[0])
    out = tmp_path / "run"
    with pytest.raises(BadInput, match=r"epoch 2, step 3: .* first not finite: the weights of layer expanded_conv_1_"):
        _train(data, out, watch=Spoil(0))
    state = load_checkpoint(out / "checkpoint" / "state.npz")
    assert state is not None and state.next_epoch == 2
    monkeypatch.setattr(learning, "build", build)
    _train(data, out)
    assert _same_weights(out, whole)


EVERYTHING = msgspec.structs.replace(
    RECIPE,
    optimizer="sgd",
    lr=0.05,
    schedule="plateau",
    patience=2,
    ema=0.9,
    views=2,
    mixup=0.2,
    sampling="balanced",
    rand_augment=3,
)


def test_with_everything_on_it_still_goes_on_bit_for_bit(data: Dataset, tmp_path: Path) -> None:
    _train(data, tmp_path / "one", EVERYTHING)
    with pytest.raises(KeyboardInterrupt):
        _train(data, tmp_path / "two", EVERYTHING, watch=_Interrupt(3))
    _train(data, tmp_path / "two", EVERYTHING)
    assert _same_weights(tmp_path / "one", tmp_path / "two")


def test_killed_after_the_last_epoch_it_keeps_the_same_point_of_the_line(
    data: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    gentle = make_recipe(TINY, weights=str(whole / "model.keras"), epochs=2, batch=12, lr=3e-3, ema=0.9)
    options = {"weights": str(whole / "model.keras")}
    one = _train(data, tmp_path / "one", gentle, **options)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            _train(data, tmp_path / "two", gentle, **options)
    two = _train(data, tmp_path / "two", gentle, **options)
    assert (one.epoch, one.blend, one.figures) == (two.epoch, two.blend, two.figures) and one.epochs == two.epochs == 3
    assert _same_weights(tmp_path / "one", tmp_path / "two")
    points = {f"blend-{share}/val_macro_f1" for share in (0.25, 0.5, 0.75)}
    assert points <= set(_events(tmp_path / "one").Tags()["tensors"])


def test_pictures_in_a_file_give_the_same_weights(
    data: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "open_pictures", functools.partial(open_pictures, in_memory_bytes=0))
    _train(data, tmp_path / "run")
    assert _same_weights(tmp_path / "run", whole)


def test_mixed_precision_learns_about_the_same_and_saves_float32(data: Dataset, whole: Path, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, mixed_precision=True, epochs=1, dropout=0.0)
    _train(data, tmp_path / "half", recipe)
    _train(data, tmp_path / "full", msgspec.structs.replace(recipe, mixed_precision=False))
    models = [open_run(tmp_path / name).model() for name in ("half", "full")]
    assert all(str(layer.dtype_policy.name) == "float32" for layer in models[0].layers)
    assert all(weight.dtype == "float32" for weight in models[0].weights if "seed" not in weight.path)
    images, _ = open_run(tmp_path / "half").images("val")
    spec = TINY.input_spec()
    half, full = (predict(model, images, spec) for model in models)
    assert full.std() > 0.01 and 0 < np.abs(half - full).mean() < 0.5 * full.std()


def _events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), {"tensors": 0})
    events.Reload()
    return events


def test_tensorboard_has_every_epoch(whole: Path) -> None:
    events = _events(whole)
    tags = events.Tags()["tensors"]
    assert [each.step for each in events.Tensors("val_macro_f1")] == [1, 2, 3, 4]
    assert any(tag.startswith("gradient_norm/") for tag in tags) and any(tag.startswith("dead_share/") for tag in tags)


def test_several_marks_an_image_and_two_levels(data: Dataset, tmp_path: Path) -> None:
    roles = ["defect" if name != "top" else "good" for name in data.names]
    marks = np.eye(3, dtype=bool)[data.labels] & (np.array(roles) == "defect")
    marks[np.flatnonzero(data.labels == 0)[::2], 1] = True
    several = dataclasses.replace(data, roles=roles, marks=marks)
    recipe = msgspec.structs.replace(RECIPE, task="labels", epochs=1)
    with pytest.raises(BadInput, match="bears several labels; --task labels"):
        _train(several, tmp_path / "run")
    found = _train(several, tmp_path / "run", recipe)
    assert found.figures["val_defect_recall"] is not None
    model = open_run(tmp_path / "run").model()
    assert np.all(model.get_layer("logits").get_weights()[0][:, data.names.index("top")] == 0)
    two = dataclasses.replace(data, roles=roles)
    found = _train(two, tmp_path / "two", msgspec.structs.replace(RECIPE, task="hierarchy", epochs=1))
    assert found.figures["val_defect_balanced_accuracy"] is not None
    with pytest.raises(BadInput, match="task hierarchy needs good and defect classes"):
        _train(data, tmp_path / "three", msgspec.structs.replace(RECIPE, task="hierarchy"))
    with pytest.raises(BadInput, match="task labels needs one good class beside the marks, got 0"):
        _train(data, tmp_path / "three", recipe)
    with pytest.raises(BadInput, match="several labels in a cell"):
        _train(two, tmp_path / "three", recipe)


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


def test_a_full_disk_is_one_line_and_what_was_kept_goes_on(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", "train", str(data.dir), "--out", str(out)]
    command += ["--model", "mobilenet-v3-small", "--minimalistic", "--width", "0.05", "--size", "32", "--epochs", "1"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files, check=False)
    assert full.returncode == 1 and full.stdout == ""
    last = full.stderr.splitlines()[-1]
    assert last == f"lineside: {out}/checkpoint/state.npz: cannot be written: file too large"
    assert not list(out.rglob("*.part*"))
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0


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
    command += ["--model", "mobilenet-v3-small", "--minimalistic", "--size", "32", "--batch", "16"]
    command += ["--epochs", "60", "--patience", "60", "--json"]
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
