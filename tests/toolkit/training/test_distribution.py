"""A batch that is dealt out to two devices, or to two machines, gives the weights that one device gives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from toolkit.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow
Start = Callable[..., "subprocess.Popen[str]"]
TRAIN = """
import sys
from pathlib import Path
import msgspec
from toolkit.framework import load_keras
load_keras()
import tensorflow as tf
data, out, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if kind == "mirrored":
    one = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(one, [tf.config.LogicalDeviceConfiguration()] * 2)
from device_agent.contract.errors import LinesideError
from toolkit.data.images import open_dataset
from toolkit.models.architecture import Architecture
from toolkit.training.bar import TrainingBar
from toolkit.training.recipe import Recipe
from toolkit.training.trainer import train
tiny = Architecture(family="mobilenet-v3-small", alpha=0.05, size=32, minimalistic=True)
recipe = Recipe(architecture=tiny, epochs=int(sys.argv[4]), batch=12, optimizer="sgd", lr=0.1, patience=1000)
dataset = open_dataset(data)
try:
    with TrainingBar() as bar:
        train(dataset, dataset.splits, out, recipe, distribute=kind, watch=bar)
except LinesideError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 32 px images: bright at the top, bright at the left; 24 to train on."""
    cv2 = pytest.importorskip("cv2")
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    lines = ["file,class,group,split"]
    for name, where in {"left": np.s_[:, :10], "top": np.s_[:10, :]}.items():
        (folder / name).mkdir()
        for number in range(20):
            image = rng.normal(90, 12, (32, 32, 3))
            image[where] += 110
            cv2.imwrite(str(folder / name / f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
            split = ("train", "train", "train", "val", "test")[number % 5]
            lines.append(f"{name}/{number}.png,{name},{name}-{number},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts a training (images, run, kind of devices, environment); what still runs at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def begin(
        data: Path, out: Path, kind: str, environment: dict[str, str] | None = None, epochs: int = 1
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAIN, str(data), str(out), kind, str(epochs)]
        environment = {**os.environ, **(environment or {})}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def _weights(run: Path) -> list[np.ndarray]:
    from toolkit.runs import open_run

    return [np.asarray(weight) for weight in open_run(run).model().get_weights()]


@pytest.fixture(scope="module")
def alone(start: Start, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    process = start(data, out, "one")
    _, said = process.communicate()
    assert process.returncode == 0, said
    return out


def _assert_close(one: Path, other: Path) -> None:
    from toolkit.framework import load_keras
    from toolkit.models.architecture import Architecture
    from toolkit.models.networks import build

    load_keras().utils.set_random_seed(0)
    tiny = Architecture(family="mobilenet-v3-small", alpha=0.05, size=32, minimalistic=True)
    drawn = build(tiny, 2).get_weights()
    pairs = list(zip(_weights(one), _weights(other), strict=True))
    kernels = [place for place, start in enumerate(drawn) if start.ndim > 1]
    moved = [np.abs(pairs[place][0] - drawn[place]).max() for place in kernels]
    apart = [np.abs(pairs[place][0] - pairs[place][1]).max() for place in kernels]
    assert max(moved) > 1e-3, "the training changed the weights"
    assert max(apart) < 0.01 * max(moved)


def test_two_devices_give_what_one_gives(start: Start, data: Path, alone: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path / "run", "mirrored")
    _, said = process.communicate()
    assert process.returncode == 0, said
    _assert_close(alone, tmp_path / "run")


def _cluster() -> list[dict[str, str]]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    places = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = ({"cluster": {"worker": places}, "task": {"type": "worker", "index": place}} for place in range(2))
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


def test_two_machines_give_what_one_gives_and_the_chief_alone_writes(
    start: Start, data: Path, alone: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "chief", tmp_path / "other"]
    both = [start(data, out, "multi-worker", each) for out, each in zip(outs, _cluster(), strict=True)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert not outs[1].exists()
    _assert_close(alone, outs[0])


def test_a_machine_that_dies_is_one_line_and_the_last_whole_epoch_is_kept(
    start: Start, data: Path, tmp_path: Path
) -> None:
    chief, other = (start(data, tmp_path / name, "multi-worker", each, 5000) for name, each in
                    zip(("chief", "other"), _cluster(), strict=True))  # fmt: skip
    assert chief.stderr is not None
    while "epoch 2 of" not in chief.stderr.readline():
        assert chief.poll() is None and other.poll() is None
    other.kill()
    _, said = chief.communicate(timeout=300)
    assert chief.returncode == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("Unreachable: another machine of this training does not answer: the last whole epoch is")
    state = load_checkpoint(tmp_path / "chief" / "checkpoint" / "state.npz")
    assert state is not None and state.next_epoch > 2
    assert not (tmp_path / "chief" / "model.keras").exists()
