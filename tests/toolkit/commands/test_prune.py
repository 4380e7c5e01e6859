"""`lineside prune` on the command line: its help, its errors; and, slow, a run that is pruned from end to end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput, BudgetMissed, NotFound
from toolkit.commands.prune import prune
from toolkit.runs import Run, open_run


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(prune, [str(each) for each in arguments])


def test_help_ends_with_an_example() -> None:
    result = _call("--help")
    assert result.exit_code == 0 and "Example: lineside prune" in result.output
    assert "--no-control" not in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one budget"),
        (["--macs", "0.5", "--size", "0.5"], "name one budget"),
        (["--latency", "0.5"], "--latency is measured on one runtime"),
        (["--latency", "0.5", "--runtime", "litert", "--runtime", "onnx"], "--latency is measured on one runtime"),
    ],
)
def test_usage(tiny_run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    result = _call(tiny_run.dir, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--macs", "1.5"], "--macs is the share that is to be left, over 0 to 1, got 1.5"),
        (["--size", "nan"], "--size is the share .* got nan"),
        (["--macs", "0.5", "--align", "0"], "align must be 1 to 64, got 0"),
        (["--macs", "0.5", "--groups", "heads"], "no 'heads'"),
        (["--macs", "0.5", "--runtime", "tvm"], "no artifact 'tvm-fp32'"),
    ],
)
def test_what_cannot_be_done_is_one_line(tiny_run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    result = _call(tiny_run.dir, "--out", tmp_path / "out", *options)
    assert isinstance(result.exception, BadInput)
    with pytest.raises(BadInput, match=message):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_no_run_and_the_run_itself(tiny_run: Run, tmp_path: Path) -> None:
    assert isinstance(_call(tmp_path / "none", "--out", tmp_path / "out", "--macs", "0.5").exception, NotFound)
    result = _call(tiny_run.dir, "--out", tiny_run.dir, "--macs", "0.5")
    assert isinstance(result.exception, BadInput) and "is the parent" in str(result.exception)


def test_a_folder_of_something_else_is_left_alone(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for more in ([], ["--fresh"]):
        result = _call(tiny_run.dir, "--out", tmp_path / "out", "--macs", "0.5", *more)
        assert isinstance(result.exception, BadInput) and "holds no pruning" in str(result.exception)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A MobileNetV1 of 32 px that tells three brightnesses apart."""
    from toolkit.data.images import open_dataset
    from toolkit.models.architecture import Architecture
    from toolkit.training.recipe import Recipe
    from toolkit.training.trainer import train

    cv2 = pytest.importorskip("cv2")
    folder, rng = tmp_path_factory.mktemp("prune"), np.random.default_rng(0)
    lines = ["file,class,group,split"]
    for name, level in {"bright": 190, "dark": 60, "middle": 125}.items():
        (folder / "data" / name).mkdir(parents=True)
        for number in range(30):
            image = np.clip(rng.normal(level, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "data" / name / f"{number}.png"), image)
            split = ("train", "train", "train", "val", "test")[number % 5]
            lines.append(f"{name}/{number}.png,{name},{name}-{number},{split}")
    (folder / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(folder / "data")
    assert dataset.splits is not None
    tiny = Architecture(family="mobilenet-v1", alpha=0.25, size=32)
    train(dataset, dataset.splits, folder / "run", Recipe(architecture=tiny, epochs=3, batch=18, lr=3e-3, patience=3))
    return open_run(folder / "run")


def _options(out: Path, *more: object) -> list[object]:
    return ["--out", out, "--rounds", 1, "--last-epochs", 1, "--runtime", "litert", "--json", *more]


@pytest.mark.slow
def test_a_pruned_run_is_an_ordinary_run(parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.compression import rounds
    from toolkit.compression.outcome import Pruning

    out = tmp_path / "half"
    with monkeypatch.context() as patch:  # killed between cut and fine-tuning: nothing like a run is left
        patch.setattr(rounds, "tune", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        _call(parent.dir, *_options(out, "--macs", 0.5))
    assert {path.name for path in out.iterdir()} == {"checkpoint"} and (out / "checkpoint" / "cut-1.keras").exists()
    result = _call(parent.dir, *_options(out, "--macs", 0.5))
    assert result.exit_code == 0, result.exception
    found = msgspec.json.decode(result.stdout, type=Pruning)
    assert found.macs[1] <= 0.5 * found.macs[0] and found.control_epochs == 1
    assert all(cut.after % 8 == 0 and cut.after <= cut.before for cut in found.cuts)
    assert found.timings[0].artifact == "litert-fp32" and not found.timings[0].slower
    run = open_run(out)
    model: Any = run.model()
    assert model.count_params() == found.parameters[1] and model.output_shape == (None, 3)
    assert not (out / "checkpoint").exists() and run.images("val")[0].shape == (18, 32, 32, 3)
    again = _call(parent.dir, *_options(out, "--macs", 0.5))
    assert msgspec.json.decode(again.stdout, type=Pruning).already_pruned
    other = _call(parent.dir, *_options(out, "--macs", 0.4))
    assert isinstance(other.exception, BadInput) and "share was 0.5 and is 0.4" in str(other.exception)


@pytest.mark.slow
def test_nothing_to_cut_is_the_parent_bit_for_bit(parent: Run, tmp_path: Path) -> None:
    result = _call(parent.dir, *_options(tmp_path / "same", "--macs", 1))
    assert result.exit_code == 0, result.exception
    images = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
    before, after = (np.asarray(run.model()(images)) for run in (parent, open_run(tmp_path / "same")))
    assert np.array_equal(before, after) and before.std(axis=0).max() > 0


@pytest.mark.slow
def test_slower_is_refused_and_no_run_is_left(parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.compression import pruning

    real = pruning.compare

    def slow(*given: Any) -> Any:
        found = real(*given)
        return msgspec.structs.replace(found, pruned_ms=2 * found.parent_ms, slower=True)

    monkeypatch.setattr(pruning, "compare", slow)
    out = tmp_path / "slow"
    result = _call(parent.dir, *_options(out, "--size", 0.9, "--last-epochs", 0))
    assert isinstance(result.exception, BudgetMissed) and result.exception.exit_code == 3
    assert "slower than its parent: litert-fp32 takes" in str(result.exception)
    with pytest.raises(NotFound, match=r"no run\.json"):
        open_run(out)
    shutil.rmtree(out)


@pytest.mark.slow
def test_a_budget_that_cannot_be_met_says_the_least(parent: Run, tmp_path: Path) -> None:
    result = _call(parent.dir, *_options(tmp_path / "least", "--macs", 0.01))
    assert isinstance(result.exception, BadInput) and "--macs 0.01 cannot be met" in str(result.exception)
