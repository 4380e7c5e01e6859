"""A real agent, a real broker, a real monitor: whatever is killed, every report that the agent stored arrives once."""

from __future__ import annotations

import io
import subprocess
import sys

import cv2
import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import Baseline, Golden, InputSpec
from device_agent.frames.surface import KINDS, draw
from device_agent.runtimes import logits, open_runtime
from device_agent.spool import Spool
from fleet.keys import certify_device, certify_monitor, create, utc_now
from fleet.schema import REPORT
from fleet.status import read_status
from fleet.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.broker]


@pytest.fixture
def bundle(plant):
    """A bundle for the fake runtime."""
    spec, content = InputSpec(height=64, width=64), b'{"classes": 2}'
    (plant.folder / "model.json").write_bytes(content)
    images = np.stack([draw(np.random.default_rng(5), kind, size=64) for kind in KINDS])
    runtime = open_runtime("fake", plant.folder / "model.json", spec)
    answers = [logits(runtime, image).tolist() for image in images]
    golden = io.BytesIO()
    np.save(golden, images)
    artifact = msgspec.structs.replace(
        plant.manifest.artifacts[0],
        runtime="fake",
        files=[entry("model.json", content)],
        input=spec,
        golden=Golden(answers, 1e-4),
        baseline=Baseline.of(np.ones((2, 2, BINS), int)),
    )
    manifest = msgspec.structs.replace(
        plant.manifest, artifacts=[artifact], golden_images=entry("golden.npy", golden.getvalue())
    )
    path = plant.folder / "fake.lineside"
    write_bundle(path, manifest, {"model.json": content, "golden.npy": golden.getvalue()})
    return path


def test_agent_broker_and_monitor_are_killed_in_turn(plant, bundle, mosquitto, eventually):
    fleet, agent = [sys.executable, "-m", "fleet.cli"], [sys.executable, "-m", "device_agent"]
    store = ["--store", plant.url]
    subprocess.run([*fleet, "models", "import", str(bundle), *store], check=True, capture_output=True)
    state, running = plant.folder / "state", {}

    def start(name):
        command = {
            "monitor": [*fleet, "serve", "--broker", mosquitto.url, *store, "--port", "0", "--interval", "0.2"],
            "agent": [
                *(*agent, "run", "--bundle", str(bundle), "--device", "press-1", "--state", str(state)),
                *(
                    "--broker",
                    mosquitto.url,
                    "--source",
                    "synthetic:seed=1,size=64",
                    "--fps",
                    "40",
                    "--interval",
                    "0.2",
                ),
            ],
        }[name]
        with (plant.folder / f"{name}.log").open("ab") as log:
            running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    engine = open_store(plant.url)

    def stored():
        with engine.connect() as tx:
            return tx.scalar(select(func.count()).select_from(REPORT))

    def more(than):
        eventually(lambda: stored() >= than + 8, 60, message=(plant.folder / "agent.log").read_text())

    try:
        start("monitor"), start("agent")
        more(0)
        for victim in ("monitor", "agent", "monitor", "broker", "agent"):
            seen = stored()
            if victim == "broker":
                mosquitto.kill()
                mosquitto.start()
            else:
                running[victim].kill()
                running[victim].wait()
                start(victim)
            more(seen)
        running["agent"].terminate()
        running["agent"].wait(30)
        start("agent")
        more(stored())
        running["agent"].kill()
        running["agent"].wait()
        running["monitor"].terminate()
        assert running["monitor"].wait(20) == 0
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    spool = Spool(next(state.rglob("*.db"), None) or next(state.rglob("*.sqlite*")))
    waiting = {(row.epoch, row.sequence) for row in spool.pending(limit=-1)}
    with engine.connect() as tx:
        rows = tx.execute(select(REPORT.c.epoch, REPORT.c.sequence, REPORT.c.frames)).all()
        (device,) = read_status(tx, 0).devices
    keys = {(row.epoch, row.sequence) for row in rows} | waiting
    assert len({epoch for epoch, _ in keys}) == 3 and spool.next_sequence == 1, "a new one after each of three kills"
    assert all((epoch, k) in keys for epoch, sequence in keys for k in range(1, sequence))
    assert device.reports == len(rows) and device.frames == sum(row.frames for row in rows)
    assert device.missing == 0 and device.score is not None
    spool.close()


def test_frames_for_review_come_sealed_and_open_again(plant, bundle, tmp_path, free_port, eventually):
    fleet, keys = [sys.executable, "-m", "fleet.cli"], tmp_path / "keys"
    create(keys, ["localhost"], utc_now())
    certify_monitor(keys, ["localhost"], utc_now())
    certify_device(keys, "press-1", utc_now(), days=30)
    config, into, store = tmp_path / "agent.toml", tmp_path / "sealed", f"sqlite:///{tmp_path / 'samples.db'}"
    config.write_text(
        f'bundle = "{bundle}"\nsource = "synthetic:seed=1,size=64,fps=40,good=0.5"\ndevice = "press-1"\n'
        'state = "state"\n'
        'ca = "keys/authority.pem"\ncert = "keys/devices/press-1.pem"\nkey = "keys/devices/press-1.key"\ninterval = 1\n'
        f'[samples]\nkey = "keys/samples.pub"\nurl = "https://localhost:{free_port}"\n'
        "below = 20\nrandom_per_day = 10000\n"
        "per_minute = 60\nper_hour = 600\nper_day = 600\nper_cell = 600\nblur = [[0, 0, 1, 0.5]]\n"
    )
    listen = ["--listen", f"127.0.0.1:{free_port}", "--keys", str(keys), "--store", store, "--into", str(into)]
    receiver = subprocess.Popen([*fleet, "samples", "serve", *listen], stdin=subprocess.DEVNULL)
    agent = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "run", "--config", str(config)], stdin=subprocess.DEVNULL
    )
    try:
        eventually(lambda: len(list(into.rglob("*.sample"))) >= 3, 60)
        agent.terminate()
        assert agent.wait(30) == 0
    finally:
        for process in (agent, receiver):
            process.kill()
            process.wait()
    opened = tmp_path / "pictures"
    command = [*fleet, "samples", "open", str(opened), "--key", str(keys / "samples.key"), "--into", str(into)]
    subprocess.run([*command, "--store", store], check=True, capture_output=True)
    pictures = [cv2.imread(str(path)) for path in opened.glob("*.png")]
    assert len(pictures) >= 3 and {picture.shape for picture in pictures} == {(64, 64, 3)}
    assert all(np.ptp(picture[:32], axis=(0, 1)).max() == 0 for picture in pictures), "the zone is one colour"
    assert all(np.ptp(picture[32:], axis=(0, 1)).max() > 0 for picture in pictures)
    assert not any(b"PNG" in path.read_bytes() for path in into.rglob("*.sample"))
