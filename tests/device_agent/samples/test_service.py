"""The loop offers frames; what comes to rest on disk is chosen, hidden, sealed, and opened by the fleet alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import bin_of
from device_agent.frames import Frame
from device_agent.frames.surface import KINDS, draw
from device_agent.samples.png import png_size, write_png
from device_agent.samples.request import Fate, Outcome
from device_agent.samples.seal import read_private, unseal
from device_agent.samples.service import MOST_WAITING, Samples
from device_agent.samples.settings import read_settings
from device_agent.samples.store import Clocks
from fleet.keys import create, utc_now

Eventually = Callable[..., object]
IMAGE = draw(np.random.default_rng(3), KINDS[1], size=64)
NOW_MS = 1_790_000_000_000


def answer(odds: float, label: int = 1) -> Prediction:
    return Prediction(label, float(1 / (1 + np.exp(-odds))), odds, int(bin_of(odds)))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    create(folder, ["localhost"], utc_now())
    return folder


@pytest.fixture
def events() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def opened(tmp_path, keys, clock, events):
    made: list[Samples] = []

    def make(send=None, **table) -> Samples:
        settings = read_settings({"key": str(keys / "samples.pub"), **table})
        made.append(
            Samples(
                settings,
                device="press-1",
                state=tmp_path,
                credentials=Credentials(),
                uploaded=lambda _: None,
                event=lambda *one: events.append(one),
                clocks=Clocks(clock, lambda: NOW_MS),
                rng=random.Random(1),
                send=send,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def on_disk(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "samples").glob("*.sample"))]


def test_the_doubtful_frame_of_a_minute_rests_sealed_with_its_answer(opened, tmp_path, clock, keys):
    samples = opened()
    for number in range(65):
        odds = 0.3 if number == 20 else 6.0
        samples.offer(Frame(IMAGE, number, clock()), answer(odds), model=b"modelone", decision="review" * (odds < 1))
        clock.pass_s(2)
    samples.close()
    (sealed,) = on_disk(tmp_path)
    head, content = unseal(sealed, read_private(keys / "samples.key"))
    assert (head.device, head.model, head.wall_ms, head.cell) == ("press-1", b"modelone", NOW_MS, 24 + 3)
    assert (head.reason, head.probability, content.log_odds, content.decision) == ("review", None, 0.3, "review")
    assert content.png == write_png(IMAGE) and png_size(content.png) == (64, 64)


def test_what_is_hidden_is_hidden_before_it_is_sealed(opened, tmp_path, clock, keys):
    samples = opened(blur=[[0, 0, 1, 0.5]], crop=[0, 0, 0.5, 1])
    samples.offer(Frame(IMAGE, 0, 0), answer(0.3), model=b"modelone")
    samples.close()
    (sealed,) = on_disk(tmp_path)
    expected = IMAGE[:, :32].copy()
    expected[:32] = np.round(IMAGE[:32].mean(axis=(0, 1)))
    assert unseal(sealed, read_private(keys / "samples.key"))[1].png == write_png(expected)


def test_a_restart_does_not_begin_the_quotas_anew(opened, tmp_path, clock):
    for number in range(5):
        samples = opened(per_minute=10, per_hour=3)
        samples.offer(Frame(IMAGE, number, clock()), answer(0.3, number), model=b"modelone")
        samples.close()
        clock.pass_s(1)
    assert len(on_disk(tmp_path)) == 3


def test_random_frames_are_kept_beside_the_doubtful_ones(opened, tmp_path, clock, keys):
    samples = opened(random_per_day=24)
    for number in range(361):
        samples.offer(Frame(IMAGE, number, clock()), answer(8.0), model=b"modelone")
        clock.pass_s(10)
    samples.close()
    (sealed,) = on_disk(tmp_path)
    head, content = unseal(sealed, read_private(keys / "samples.key"))
    assert (head.reason, head.probability, content.log_odds) == ("random", 1 / 360, 8.0)


def test_a_disk_that_hangs_costs_samples_and_one_event(opened, clock, events, monkeypatch):
    samples, hang = opened(per_minute=100, per_hour=10_000, per_day=10_000, per_cell=10_000), threading.Event()
    monkeypatch.setattr(samples._store, "add", lambda _: hang.wait(10))
    for number in range(40):
        samples.offer(Frame(IMAGE, number, clock()), answer(0.3), model=b"modelone")
        clock.pass_s(60)
    hang.set()
    assert [kind for kind, _ in events] == ["samples_dropped"]
    assert samples._dropped >= 30 - MOST_WAITING


def test_without_a_key_there_are_no_samples(opened, tmp_path):
    with pytest.raises(NotFound, match=r"samples key /nowhere/samples\.pub: no such file"):
        opened(key="/nowhere/samples.pub")
    assert not (tmp_path / "samples").exists()


def test_an_upload_needs_the_certificate_of_the_device(opened):
    with pytest.raises(BadInput, match="give --cert and --key"):
        opened(url="https://monitor.example")


def test_what_is_uploaded_is_gone_from_the_disk_but_not_from_the_quotas(opened, tmp_path, eventually: Eventually):
    samples = opened(send=lambda name, content, stop: Outcome(Fate.STORED))
    samples.offer(Frame(IMAGE, 0, 0), answer(0.3), model=b"modelone")
    for each in samples._chooser.flush(0):
        samples._hand(each)
    eventually(lambda: (tmp_path / "samples" / "taken.json").exists() and not on_disk(tmp_path))
    assert len(msgspec.json.decode((tmp_path / "samples" / "taken.json").read_bytes())) == 1
