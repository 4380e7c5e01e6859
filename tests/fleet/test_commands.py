"""Commands: what they print, what they refuse, and that nothing is half-written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import click
import pytest
from click.testing import CliRunner

from device_agent.contract import topics
from device_agent.contract.errors import BadInput, LinesideError, NotFound, NotWritable, TrustFailed
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.schema import META
from fleet.store import one_writer, open_store


@pytest.fixture
def run(plant):
    """`run("status", "--json")` on the plant's store: exit code, stdout; errors of ours are raised."""

    def call(*arguments):
        result = CliRunner().invoke(cli, [*arguments, "--store", plant.url], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stdout

    return call


def write_csv(plant, text):
    path = plant.folder / "devices.csv"
    path.write_text(text)
    return str(path)


def fill(plant, look="healthy", windows=40):
    engine = plant.open()
    ingest, speaker = Ingest(engine, Settings(interval_ms=1000)), plant.speaker("cam-1", seed=2)
    for window in range(30 + windows):
        message = speaker.message(speaker.report("healthy" if window < 30 else look))
        ingest.process(read_batch([message]), message.received_ms)
    return ingest


def test_devices_are_imported_listed_and_moved(plant, run):
    run("devices", "import", write_csv(plant, "device,site,line,product\ncam-1,hall,a,tin\ncam-2,hall,b,tin\n"))
    run("devices", "import", write_csv(plant, "product,device,site,line\nlid,cam-1,yard,c\n"))
    listed = json.loads(run("devices", "list", "--json"))
    assert listed == [
        {"device": "cam-2", "site": "hall", "line": "b", "product": "tin"},
        {"device": "cam-1", "site": "yard", "line": "c", "product": "lid"},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: columns must be device,site,line,product"),
        ("device,site,line\ncam-1,hall,a\n", "missing: product"),
        ("device,site,line,product\nCam 1,hall,a,tin\n", "line 2: device id 'Cam 1' must be"),
        ("device,site,line,product\ncam-1,hall,a,tin\ncam-1,hall,a,tin\n", "line 3: device 'cam-1' stands there twice"),
        ("device,site,line,product\ncam-1,,a,tin\n", "line 2: site must be 1 to 64 characters"),
        ("device,site,line,product\ncam-1\n", "line 2: site must be"),
        ("device,site,line,product\ncam-1,ha\0ll,a,tin\n", "line 2: a control character stands in"),
        ('device,site,line,product\ncam-1,hall,a,"t\nin"\n', "line 2: a control character stands in"),
    ],
)
def test_a_bad_file_of_devices_names_its_line_and_changes_nothing(plant, run, text, says):
    with pytest.raises(BadInput, match=says.replace("(", r"\(")):
        run("devices", "import", write_csv(plant, text))
    assert not (plant.folder / "fleet.db").exists()


def test_a_monitor_at_work_takes_imports_up(plant, run):
    engine, speaker = plant.open(models=False), plant.speaker("cam-1")
    ingest = Ingest(engine, Settings(interval_ms=1000))
    ingest.process(read_batch([speaker.message(speaker.report())]), 0)
    assert ingest.fleet.readings == {} and ingest.registry.get("cam-1").site == "unassigned"
    run("models", "import", str(plant.bundle()))
    run("devices", "import", write_csv(plant, "device,site,line,product\ncam-1,hall,a,tin\n"))
    ingest.process(read_batch([speaker.message(speaker.report())]), 0)
    assert ingest.fleet.readings["cam-1"].armed and ingest.registry.get("cam-1").group == ("hall", "tin")
    (device,) = json.loads(run("status", "--json"))["devices"]
    assert (device["site"], device["reports"], device["model_name"]) == ("hall", 2, "steel litert-int8")


def test_models_are_read_from_a_bundle(plant, run):
    run("models", "import", str(plant.bundle()))
    listed = json.loads(run("models", "list", "--json"))
    assert {model["model"] for model in listed} == {model_id.hex() for model_id in plant.model_ids}
    assert all(model["labels"] == ["good", "scratch"] and model["imported"] for model in listed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x00" * 500])
def test_what_is_no_bundle_is_refused(plant, run, content):
    path = plant.folder / "x.lineside"
    path.write_bytes(content)
    with pytest.raises(TrustFailed, match=r"x\.lineside: damaged, or not a bundle"):
        run("models", "import", str(path))
    assert not (plant.folder / "fleet.db").exists()


def test_a_damaged_bundle_and_a_missing_one_are_refused(plant, run):
    with pytest.raises(TrustFailed, match="damaged"):
        run("models", "import", str(plant.bundle(flip=True)))
    with pytest.raises(NotFound, match="lineside pack"):
        run("models", "import", str(plant.folder / "none.lineside"))


def test_status_alerts_and_replay_agree(plant, run):
    fill(plant, "dirty")
    (device,) = json.loads(run("status", "--json"))["devices"]
    (alert,) = json.loads(run("alerts", "--json"))
    assert device["severity"] == alert["severity"] == "critical" and device["alerts"] == [alert["id"]]
    assert "cam-1" in run("status") and alert["text"] in run("alerts")
    past = json.loads(run("replay", "--json", "--interval", "1"))
    assert (past["reports"], past["pages"], past["frames"]) == (70, 1, 1400)
    assert "would have paged 1 times" in run("replay", "--interval", "1")
    with pytest.raises(LinesideError, match="1 pages in 70 reports") as failure:
        run("replay", "--fail-on-drift", "--interval", "1")
    assert failure.value.exit_code == 7


def test_a_healthy_past_pages_nothing(plant, run):
    fill(plant)
    assert json.loads(run("replay", "--json", "--interval", "1", "--fail-on-drift"))["alerts"] == []


def test_what_is_not_there_is_said(plant, run):
    for command in (["status"], ["alerts"], ["devices", "list"], ["replay"]):
        with pytest.raises(NotFound, match="no store here; `lineside-fleet serve"):
            run(*command)
    fill(plant)
    with pytest.raises(NotFound, match="no open alert 'nope'; open are: none"):
        run("alerts", "ack", "nope")
    with pytest.raises(NotFound, match="no site or device 'moon'; known are: cam-1, unassigned"):
        run("changeover", "moon")


def test_stores_of_others_are_refused(plant):
    path = plant.folder / "fleet.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(BadInput, match="not a database"):
        open_store(plant.url, create=True)
    path.unlink()
    engine = plant.open()
    with engine.begin() as tx:
        tx.execute(META.update().values(value="99"))
    with pytest.raises(BadInput, match="schema 99 cannot be read, this version reads 2"):
        open_store(plant.url)
    with pytest.raises(BadInput, match="is no URL"):
        open_store("fleet.db")
    with pytest.raises(NotFound, match=r"the folder .* does not exist"):
        open_store(f"sqlite:///{plant.folder}/no/fleet.db", create=True)


def test_a_store_has_one_writer(plant):
    engine = plant.open()
    with one_writer(engine), pytest.raises(BadInput, match="another monitor"), one_writer(plant.open()):
        pass
    with one_writer(engine):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://lineside:hunter2@127.0.0.1",
        "mysql://lineside:hunter2@127.0.0.1/fleet",
        "sqlite:///x.db?timeout=abc",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite://user:hunter2@host/x.db",
        "user:hunter2@host",
    ],
)
def test_only_a_file_is_a_store_and_no_password_is_shown(url):
    with pytest.raises(BadInput, match=r"sqlite:///FILE|names no database") as refused:
        open_store(url, create=True)
    assert "hunter2" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_store_that_another_process_holds_is_one_line(plant, run, monkeypatch):
    plant.open().dispose()
    monkeypatch.setattr("fleet.store.BUSY_MS", 1)
    path = write_csv(plant, "device,site,line,product\ncam-1,hall,a,tin\n")
    with closing(sqlite3.connect(plant.folder / "fleet.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotWritable, match=r"fleet\.db: cannot be written or read: database is locked"):
            run("devices", "import", path)


@pytest.mark.parametrize("option", ["--interval", "--pages-a-week"])
@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", "1e12", "0", "-1", "x"])
def test_a_number_that_makes_no_sense_is_refused(run, option, value):
    with pytest.raises(click.BadParameter):
        run("replay", option, value)


def test_quarantine_is_listed(plant, run):
    ingest = Ingest(plant.open(), Settings(interval_ms=1000))
    message = Message(topics.up("cam-1", "report"), b"\xffjunk", 1_760_000_000_000)
    ingest.process(read_batch([message, message]), 0)
    (kept,) = json.loads(run("quarantine", "--json"))
    assert (kept["device"], kept["times"], kept["size"], kept["topic"]) == ("cam-1", 2, 5, message.topic)
    assert "bytes that are none" in kept["reason"] and kept["reason"] in run("quarantine")
