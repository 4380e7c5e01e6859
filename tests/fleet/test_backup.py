"""A backup holds everything, crosses from one kind of store to the other, and is whole or refused."""

from __future__ import annotations

import json
import zipfile

import pytest
from click.testing import CliRunner
from sqlalchemy import func, insert, select

from device_agent.contract.errors import BadInput, NotFound
from fleet.backup import MANIFEST, back_up, restore, snapshot
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.ingest import Ingest
from fleet.requests import ask, pending
from fleet.schema import AUDIT, METADATA, QUARANTINE, REPORT
from fleet.store import open_store

SETTINGS = Settings(interval_ms=1000)


def filled(plant, batch_of):
    engine = plant.open(places={"press-1": ("hall", "plate")})
    ingest = Ingest(engine, SETTINGS)
    speaker = plant.speaker("press-1")
    for number in range(12):
        ingest.process(batch_of(speaker.message(speaker.report("dirty" if number > 5 else "healthy"))), number)
    with engine.begin() as tx:
        tx.execute(
            insert(QUARANTINE).values(
                received_ms=1, topic="x", device=None, reason="why", times=1, digest="d", payload=b"\x00\xff"
            )
        )
        ask(tx, "changeover", "hall", 5)
    return engine, speaker


def contents(engine) -> dict[str, list]:
    with engine.connect() as tx:
        return {
            table.name: sorted(tuple(map(str, row)) for row in tx.execute(select(table)))
            for table in METADATA.sorted_tables
        }


@pytest.fixture
def elsewhere(request, tmp_path_factory):
    """A second, empty store of each kind."""
    from importlib import import_module

    plants = import_module(request.node.module.__name__.rpartition(".")[0] + ".conftest")
    server = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return plants.Plant(tmp_path_factory.mktemp("elsewhere"), server).url


@pytest.mark.parametrize("elsewhere", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_what_is_restored_is_what_there_was_and_goes_on(plant, batch_of, tmp_path, elsewhere):
    engine, speaker = filled(plant, batch_of)
    path = tmp_path / "backup.zip"
    manifest = back_up(engine, path)
    assert manifest.tables["report"].rows == 12
    restore(path, elsewhere)
    other = open_store(elsewhere)
    assert contents(other) == contents(engine)
    ingest = Ingest(other, SETTINGS)
    outcome = ingest.process(batch_of(speaker.message(speaker.report("dirty"))), 100)
    assert outcome.acks == [("press-1", speaker.epoch, 13)] and ingest.registry.get("press-1").reports == 13
    with other.begin() as tx:
        assert all(request.done for request in pending(tx, 0))
        ask(tx, "changeover", "hall", 6)
        assert tx.scalar(select(func.count()).select_from(AUDIT)) == 2, "numbers go on after those that were restored"


def test_a_snapshot_does_not_see_what_is_written_meanwhile(plant, batch_of):
    engine, speaker = filled(plant, batch_of)
    ingest = Ingest(open_store(plant.url), SETTINGS)
    with snapshot(engine) as tx:
        seen = tx.scalar(select(func.count()).select_from(REPORT))
        ingest.process(batch_of(speaker.message(speaker.report())), 100)
        assert tx.scalar(select(func.count()).select_from(REPORT)) == seen == 12
    with snapshot(engine) as tx:
        assert tx.scalar(select(func.count()).select_from(REPORT)) == 13


def test_a_store_that_holds_something_is_left_alone(plant, batch_of, tmp_path):
    engine, _ = filled(plant, batch_of)
    path = tmp_path / "backup.zip"
    back_up(engine, path)
    before = contents(engine)
    with pytest.raises(BadInput, match="is not empty"):
        restore(path, plant.url)
    with pytest.raises(BadInput, match="is there already"):
        back_up(engine, path)
    assert contents(engine) == before


def test_a_damaged_backup_restores_nothing(file_plant, batch_of, tmp_path):
    engine, _ = filled(file_plant, batch_of)
    path = tmp_path / "backup.zip"
    back_up(engine, path)
    url = f"sqlite:///{tmp_path}/new.db"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    report = bytearray(members["report.msgpack"])
    report[len(report) // 2] ^= 1
    manifest = json.loads(members[MANIFEST])
    for change, said in (
        ({"report.msgpack": bytes(report)}, "damaged"),
        ({"report.msgpack": b""}, "table report is damaged"),
        ({"report.msgpack": members["report.msgpack"][:-5]}, "damaged"),
        ({MANIFEST: json.dumps({**manifest, "version": 99}).encode()}, "of schema 99"),
        ({MANIFEST: b"{"}, "truncated|malformed"),
    ):
        broken = tmp_path / "broken.zip"
        with zipfile.ZipFile(broken, "w") as out:
            for name, content in {**members, **change}.items():
                out.writestr(name, content)
        with pytest.raises(BadInput, match=said):
            restore(broken, url)
        with pytest.raises((BadInput, NotFound)):
            open_store(url)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadInput, match="is no backup"):
        restore(path, url)
    with pytest.raises(NotFound):
        restore(tmp_path / "none.zip", url)


def test_the_commands_say_what_they_did(file_plant, batch_of, tmp_path):
    filled(file_plant, batch_of)
    path = tmp_path / "b.zip"
    done = CliRunner().invoke(cli, ["backup", str(path), "--store", file_plant.url])
    assert done.exit_code == 0 and "rows of" in done.output
    done = CliRunner().invoke(cli, ["restore", str(path), "--store", f"sqlite:///{tmp_path}/n.db", "--json"])
    assert done.exit_code == 0 and json.loads(done.output)["tables"]["report"]["rows"] == 12
