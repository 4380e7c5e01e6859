"""A small plant for tests of the monitor: devices that speak the protocol, healthy, dirty, changed over or frozen."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine

from device_agent.contract import topics
from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.manifest import (
    ArtifactManifest,
    Baseline,
    BundleManifest,
    Golden,
    InputSpec,
    Label,
)
from device_agent.contract.report import CLOCK_SYNCED, DeviceReport, ImageQuality, write_backfill
from device_agent.contract.session import Birth
from fleet.inbox import Batch, Message, read_batch
from fleet.models import models_of, write_models
from fleet.registry import Device, import_places
from fleet.store import open_store

START_MS = 1_760_000_000_000
SHA = "0" * 64


def shares(low: float, defect: float, middle: float = 14.0) -> np.ndarray:
    """Cell shares (2, 24): a bell of good parts around bin `middle`, `low` doubtful ones, `defect` plain defects."""
    bins = np.arange(BINS)
    bell = np.exp(-(((bins - middle) / 2.5) ** 2))
    doubt, sure = np.exp(-(((bins - 4) / 1.5) ** 2)), np.exp(-(((bins - 16) / 2) ** 2))
    good = (1 - low - defect) * bell / bell.sum() + low * doubt / doubt.sum()
    return np.stack([good, defect * sure / sure.sum()])


HEALTHY = shares(0.01, 0.01)
LOOKS = {
    "healthy": HEALTHY,
    "soiled": shares(0.1, 0.01),
    "dirty": shares(0.35, 0.02, 11.0),
    "changed": shares(0.4, 0.30, 10.0),
}


class Speaker:
    """One device: `report` makes its next one, of `frames` frames; each part stays in view for `stay` frames."""

    def __init__(self, plant: Plant, device: str, model: bytes, *, interval_ms: int, seed: int) -> None:
        self.plant, self.device, self.model, self.interval_ms = plant, device, model, interval_ms
        self.rng = np.random.default_rng(seed)
        self.epoch, self.boot, self.sequence = int(self.rng.integers(1, 2**32)), 1, 0
        self.sent_frames = 0

    def report(
        self, look: str = "healthy", *, frames: int = 20, stay: int = 2, flags: int = CLOCK_SYNCED
    ) -> DeviceReport:
        """The next report; time goes by `sequence` intervals from the start."""
        self.sequence += 1
        cells = LOOKS.get(look, HEALTHY).ravel()
        drawn = np.repeat(self.rng.choice(cells.size, -(-frames // stay), p=cells / cells.sum()), stay)[:frames]
        if look == "frozen":
            drawn[:] = 14
        counts = np.bincount(drawn, minlength=cells.size).reshape(2, BINS)
        self.sent_frames += frames
        return DeviceReport(
            schema=SCHEMA,
            epoch=self.epoch,
            sequence=self.sequence,
            boot=self.boot,
            wall_ms=START_MS + self.sequence * self.interval_ms,
            monotonic_ms=self.sequence * self.interval_ms,
            interval_ms=self.interval_ms,
            model=self.model,
            frames=frames,
            dropped=1,
            parts=frames // stay,
            same=int((np.diff(drawn) == 0).sum()),
            identical=frames - 1 if look == "frozen" else 0,
            histogram=ConfidenceHistogram.of(counts),
            latency=[[5, frames], [3, frames], [12, frames], [0, frames]],
            quality=ImageQuality(120, 400 if look == "dirty" else 800, 2),
            flags=flags,
        )

    def birth(self) -> Birth:
        """As it is sent after a connect."""
        return Birth(
            schema=SCHEMA,
            epoch=self.epoch,
            boot=self.boot,
            agent="test",
            model=self.model,
            model_name="steel litert-int8",
            labels=["good", "scratch"],
            runtime="litert",
            interval_ms=self.interval_ms,
        )

    def message(self, report: DeviceReport, *, late_ms: int = 5) -> Message:
        """The report as it comes in at the monitor."""
        at_ms = START_MS + report.monotonic_ms + late_ms
        return Message(topics.up(self.device, "report"), encode(report), at_ms)

    def backfill(self, reports: list[DeviceReport], received_ms: int) -> Message:
        """Several reports in one message."""
        payload = write_backfill([encode(report) for report in reports])
        return Message(topics.up(self.device, "backfill"), payload, received_ms)


class Plant:
    """Manifest, store and devices of a test."""

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self.folder, self._server = folder, server
        self._engines: list[Engine] = []
        self.url = f"sqlite:///{folder / 'fleet.db'}" if server is None else self._database()
        counts = np.zeros((2, 2, BINS), np.int64)
        good, defect = shares(0.01, 0.002), shares(0.01, 0.9)
        counts[0] = np.round(4000 * good / good.sum())
        counts[1] = np.round(1000 * defect / defect.sum())
        golden = io.BytesIO()
        np.save(golden, np.zeros((1, 96, 96, 3), np.uint8))
        runtimes = ("litert", "onnx", "openvino")
        self.files = {f"{runtime}/model.bin": runtime[:1].encode() for runtime in runtimes}
        self.files["golden.npy"] = golden.getvalue()
        self.manifest = BundleManifest(
            name="steel",
            profile="generic-x86-64",
            labels=[Label("good", "good"), Label("scratch", "defect")],
            artifacts=[self._artifact(counts, runtime) for runtime in runtimes],
            golden_images=entry("golden.npy", golden.getvalue()),
        )
        self.model_ids = [artifact.model_id for artifact in self.manifest.artifacts]

    def _database(self) -> str:
        """A new database on the server."""
        assert self._server is not None
        name = f"test_{secrets.token_hex(6)}"
        engine = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as tx:
            tx.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self._server.rpartition("/")[0] + f"/{name}"

    def close(self) -> None:
        """Give back what the server lends to few only: its connections."""
        for engine in self._engines:
            engine.dispose()

    def wipe(self, engine: Engine) -> None:
        """The store from nothing."""
        engine.dispose()
        if self._server is None:
            (self.folder / "fleet.db").unlink()
        else:
            self.url = self._database()

    def _artifact(self, counts: np.ndarray, runtime: str) -> ArtifactManifest:
        return ArtifactManifest(
            runtime=runtime,
            precision="int8",
            files=[entry(f"{runtime}/model.bin", self.files[f"{runtime}/model.bin"])],
            input=InputSpec(height=96, width=96),
            temperature=1.0,
            golden=Golden([[0.0, 1.0]], 0.1),
            baseline=Baseline.of(counts, [0.99, 0.01]),
        )

    def open(self, *, models: bool = True, places: dict[str, tuple[str, str]] | None = None) -> Engine:
        """The store, with the models imported and devices placed at (site, product)."""
        engine = open_store(self.url, create=True)
        self._engines.append(engine)
        with engine.begin() as tx:
            if models:
                write_models(tx, models_of(self.manifest, SHA, START_MS))
            import_places(
                tx,
                [
                    Device(device=name, site=site, product=product, imported=True)
                    for name, (site, product) in (places or {}).items()
                ],
            )
        return engine

    def speaker(self, device: str, *, model: int = 0, interval_ms: int = 1000, seed: int = 0) -> Speaker:
        """A device that runs one of the three artifacts."""
        return Speaker(self, device, self.model_ids[model], interval_ms=interval_ms, seed=seed)

    def bundle(self, *, flip: bool = False) -> Path:
        """A bundle file whose artifacts are one byte each."""
        path = self.folder / "steel-generic-x86-64.lineside"
        write_bundle(path, self.manifest, self.files)
        if flip:
            content = bytearray(path.read_bytes())
            content[200] ^= 1
            path.write_bytes(content)
        return path


BOTH = (
    "test_ingest",
    "test_alerts",
    "test_status",
    "test_turns",
    "test_dirty",
    "test_references",
    "test_migrations",
    "test_own_normal",
    "test_backup",
    "test_rollup",
    "test_peer_sums",
    "test_fuzz",
    "test_watching",
    "test_overview",
    "test_book",
    "test_tally",
    "test_rollout_book",
    "test_export",
)
"""Modules whose tests run on every kind of store."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of `BOTH` twice."""
    if "plant" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in BOTH:
        kinds = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("plant", kinds, indirect=True)


@pytest.fixture
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plant]:
    """A plant of its own for each test, on SQLite unless the test asks for another store."""
    server = request.getfixturevalue("postgres_url") if getattr(request, "param", "") == "postgres" else None
    plant = Plant(tmp_path, server)
    yield plant
    plant.close()


@pytest.fixture
def file_plant(tmp_path: Path) -> Plant:
    """A plant on SQLite, for what is about the file."""
    return Plant(tmp_path)


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """`batch_of(message, ...)`: the batch of some messages."""
    return lambda *messages: read_batch(list(messages))
