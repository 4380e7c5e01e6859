"""Samples over real HTTPS with the fleet's own certificates: who may leave what, and what a flood may not do."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import MetaData, create_engine, inspect, text

from device_agent.contract.codec import SCHEMA
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, NotFound, TrustFailed
from device_agent.frames.surface import KINDS, draw
from device_agent.samples.png import write_png
from device_agent.samples.request import Fate, Outcome, put
from device_agent.samples.seal import Content, Head, file_name, key_id, read_public, seal
from device_agent.samples.settings import Address
from device_agent.samples.store import Caps, Clocks, Store
from device_agent.samples.upload import Uploader
from fleet.cli import cli
from fleet.keys import certify_device, certify_monitor, create, revoke, utc_now
from fleet.samples import archive as archive_module
from fleet.samples.archive import Archive, open_samples, read_samples
from fleet.samples.door import Keys, Limits
from fleet.samples.intake import Intake
from fleet.samples.receiver import Receiver, expire

Eventually = Callable[..., object]
NOW_MS = 1_790_000_000_000
IMAGE = draw(np.random.default_rng(3), KINDS[1], size=64)
QUICK = Limits(connections=8, of_one_address=6, head_s=1.5, silent_s=1.0, body_s=1.0, least_bytes_s=1e6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    create(folder, ["broker.example"], utc_now())
    certify_monitor(folder, ["127.0.0.1", "localhost"], utc_now())
    for device in ("press-1", "press-2", "press-3"):
        certify_device(folder, device, utc_now(), days=30)
    return folder


def credentials(folder: Path, name: str) -> Credentials:
    path = folder / "devices" / name
    return Credentials(folder / "authority.pem", path.with_suffix(".pem"), path.with_suffix(".key"))


def sample(folder: Path, device: str = "press-1", *, wall_ms: int = NOW_MS, image: Any = IMAGE) -> bytes:
    public = read_public(folder / "samples.pub")
    head = Head(SCHEMA, device, b"modelone", wall_ms, 27, "low", None, key_id(public))
    return seal(head, Content(SCHEMA, write_png(image), 0.25, "review"), public)


class Running(NamedTuple):
    """A receiver, where it listens, what it said, its archive."""

    address: Address
    folder: Path
    store: str
    archive: Archive
    intake: Intake
    said: list[str]

    def rows(self) -> list[Any]:
        with open_samples(self.store).connect() as tx:
            return read_samples(tx)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def serve(made: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    stop, threads = threading.Event(), []

    def begin(
        limits: Limits = Limits(),  # noqa: B008
        *,
        keys: Path = made,
        quota: int = 1 << 20,
        most: int = 1 << 18,
    ) -> Running:
        said: list[str] = []
        store = f"sqlite:///{tmp_path / 'fleet.db'}"
        archive = Archive(open_samples(store, create=True), tmp_path / "sealed")
        intake = Intake(archive, quota_bytes=quota, clock_ms=lambda: NOW_MS, most_bytes=most)
        receiver = Receiver(("127.0.0.1", 0), Keys(keys, said.append), intake, said.append, limits)
        threads.append(threading.Thread(target=receiver.run, args=(stop,)))
        threads[-1].start()
        return Running(
            Address("127.0.0.1", receiver.server_address[1], ""), tmp_path / "sealed", store, archive, intake, said
        )

    yield begin
    stop.set()
    for each in threads:
        each.join(10)


def send(
    running: Running, mine: Credentials, content: bytes, *, device: str = "press-1", name: str = "", kib_s: float = 1e6
) -> Outcome:
    name = name or file_name(content)
    path = f"/samples/{device}/{name}"
    return put(running.address, path, content, mine, name=name, kib_s=kib_s, stop=threading.Event())


def test_a_device_leaves_a_sample_and_a_second_time_changes_nothing(serve, made):
    running, content = serve(), sample(made)
    for _ in range(2):
        assert send(running, credentials(made, "press-1"), content) == Outcome(Fate.STORED)
    (row,) = running.rows()
    assert (row.sha256, row.device, row.model) == (file_name(content), "press-1", b"modelone".hex())
    assert (row.at_ms, row.received_ms, row.cell, row.reason, row.bytes) == (NOW_MS, NOW_MS, 27, "low", len(content))
    assert [path.read_bytes() for path in running.files()] == [content]


def test_what_is_lost_from_the_folder_is_taken_again(serve, made):
    running, content = serve(), sample(made)
    assert send(running, credentials(made, "press-1"), content).fate is Fate.STORED
    running.files()[0].unlink()
    assert send(running, credentials(made, "press-1"), content).fate is Fate.STORED
    assert len(running.files()) == len(running.rows()) == 1


def test_the_name_in_the_certificate_counts(serve, made):
    running = serve()
    outcome = send(running, credentials(made, "press-2"), sample(made))
    assert outcome.fate is Fate.LATER and "the certificate is another device's (403" in outcome.why
    outcome = send(running, credentials(made, "press-2"), sample(made), device="press-2")
    assert outcome.fate is Fate.REFUSED and "says that it is of another device" in outcome.why
    assert running.rows() == [] and running.files() == []
    assert running.said == [
        "press-2: refused (403): the certificate names another device",
        "press-2: refused (422): the sample says that it is of another device",
    ]


def test_nobody_without_a_certificate_of_this_fleet(serve, made, tmp_path):
    running = serve()
    other = tmp_path / "other"
    create(other, ["broker.example"], utc_now())
    certify_device(other, "press-1", utc_now(), days=30)
    strangers = {
        "certificate required": Credentials(ca=made / "authority.pem"),
        "unknown ca": credentials(other, "press-1")._replace(ca=made / "authority.pem"),
        "unsupported certificate": Credentials(made / "authority.pem", made / "broker.pem", made / "broker.key"),
    }
    for why, mine in strangers.items():
        outcome = send(running, mine, sample(made))
        assert outcome.fate is Fate.LATER
        assert outcome.why in (f"the monitor refuses TLS: {why}", "the monitor closed the connection")
    assert running.rows() == []


def test_a_device_that_is_taken_back_is_refused_at_once(serve, made, tmp_path):
    keys = tmp_path / "keys"
    create(keys, ["broker.example"], utc_now())
    certify_monitor(keys, ["127.0.0.1"], utc_now())
    for device in ("press-1", "press-2"):
        certify_device(keys, device, utc_now(), days=30)
    running = serve(keys=keys)
    assert send(running, credentials(keys, "press-1"), sample(keys)).fate is Fate.STORED
    revoke(keys, "press-1", utc_now())
    assert send(running, credentials(keys, "press-1"), sample(keys)).fate is Fate.LATER
    assert send(running, credentials(keys, "press-2"), sample(keys, "press-2"), device="press-2").fate is Fate.STORED
    assert len(running.rows()) == 2 and "the fleet's keys were read again" in running.said
    (keys / "revoked.pem").write_text("half")
    assert send(running, credentials(keys, "press-1"), sample(keys)).fate is Fate.LATER
    assert send(running, credentials(keys, "press-2"), sample(keys, "press-2"), device="press-2").fate is Fate.STORED
    assert sum("the old ones hold on" in line for line in running.said) == 1


def test_an_expired_certificate_is_refused(serve, made, tmp_path):
    keys = tmp_path / "keys"
    long_ago = utc_now().replace(year=utc_now().year - 1)
    create(keys, ["broker.example"], long_ago)
    certify_monitor(keys, ["127.0.0.1"], long_ago)
    certify_device(keys, "press-1", long_ago, days=30)
    assert send(serve(keys=keys), credentials(keys, "press-1"), sample(keys)).fate is Fate.LATER


def test_a_monitor_of_another_fleet_gets_nothing(serve, made, tmp_path):
    other = tmp_path / "other"
    create(other, ["broker.example"], utc_now())
    certify_monitor(other, ["127.0.0.1"], utc_now())
    outcome = send(serve(keys=other), credentials(made, "press-1"), sample(made))
    assert outcome.fate is Fate.LATER and "the monitor's certificate is not trusted" in outcome.why


def test_a_wrong_digest_and_what_is_no_sample_are_refused_for_good(serve, made):
    running, content = serve(), sample(made)
    outcome = send(running, credentials(made, "press-1"), content, name="0" * 64)
    assert outcome == Outcome(Fate.REFUSED, "the monitor answers (422: the body has another SHA-256 than the path)")
    for junk in (b"junk", write_png(IMAGE), content[:60], b"LSMP" + bytes(100)):
        assert send(running, credentials(made, "press-1"), junk).fate is Fate.REFUSED
    assert running.rows() == [] and running.files() == []


def test_what_is_too_long_is_refused_before_it_is_read(serve, made):
    running = serve(most=5000)
    outcome = send(running, credentials(made, "press-1"), sample(made))
    assert outcome.fate is Fate.REFUSED and "(413: " in outcome.why
    assert running.rows() == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", f"/samples/press-1/{'0' * 64}", {"Transfer-Encoding": "chunked"}, 411),
        ("PUT", f"/samples/press-1/{'0' * 64}", {"Content-Length": "-5"}, 411),
        ("PUT", f"/samples/press-1/{'0' * 64}", {"Content-Length": "1e3"}, 411),
        ("PUT", f"/samples/press-1/{'0' * 64}", {"Content-Length": "0"}, 413),
        ("PUT", f"/samples/press-1/{'0' * 64}", {"Content-Length": "99999999999999"}, 413),
        ("PUT", f"/samples/press-1/../press-2/{'0' * 64}", {"Content-Length": "5"}, 404),
        ("PUT", "/samples/press-1/../../../etc/passwd", {"Content-Length": "5"}, 404),
        ("PUT", f"/samples/press-1/{'A' * 64}", {"Content-Length": "5"}, 404),
        ("GET", "/", {}, 501),
        ("POST", f"/samples/press-1/{'0' * 64}", {"Content-Length": "5"}, 501),
    ],
)
def test_other_requests_are_refused(serve, made, method, path, headers, status):
    running = serve()
    context = credentials(made, "press-1").context()
    connection = HTTPSConnection(*running.address[:2], timeout=5, context=context)
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
    assert running.files() == []


def test_a_device_has_a_quota_for_a_day_and_others_have_their_own(serve, made):
    size = len(sample(made))
    running = serve(quota=int(2.5 * size))
    contents = [sample(made) for _ in range(3)]
    outcomes = [send(running, credentials(made, "press-1"), each) for each in contents]
    assert [each.fate for each in outcomes] == [Fate.STORED, Fate.STORED, Fate.LATER]
    assert "the monitor asks for time (429" in outcomes[2].why and outcomes[2].wait_s == 3600
    assert send(running, credentials(made, "press-1"), contents[0]).fate is Fate.STORED, "it is here already"
    mine, other = sample(made, "press-2"), credentials(made, "press-2")
    assert send(running, other, mine, device="press-2").fate is Fate.STORED
    assert len(running.rows()) == 3


def secured(running: Running, made: Path, device: str = "press-1") -> ssl.SSLSocket:
    plain = socket.create_connection(running.address[:2], 5)
    return credentials(made, device).context().wrap_socket(plain, server_hostname="127.0.0.1")


def begun(running: Running, made: Path, content: bytes, device: str = "press-1") -> ssl.SSLSocket:
    """A request of which the head was sent."""
    connection = secured(running, made, device)
    head = f"PUT /samples/{device}/{file_name(content)} HTTP/1.1\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def ended(connection: socket.socket) -> bool:
    """Did the peer end it?"""
    try:
        return connection.recv(1 << 16) == b""
    except OSError:
        return True


def test_an_upload_that_is_cut_midway_leaves_nothing_and_goes_well_the_next_time(serve, made, eventually: Eventually):
    running, content = serve(), sample(made)
    connection = begun(running, made, content)
    connection.sendall(content[: len(content) // 2])
    connection.close()

    def again() -> bool:  # the half-open one may hold the device's turn until the server has seen its end
        assert running.files() == [] or len(running.rows()) == 1
        return send(running, credentials(made, "press-1"), content).fate is Fate.STORED

    eventually(again)
    assert [path.read_bytes() for path in running.files()] == [content]


@pytest.mark.parametrize("stage", ["nothing", "tls", "head", "body"])
def test_a_peer_that_trickles_is_ended_although_it_is_never_silent(serve, made, stage):
    running, content = serve(QUICK), sample(made)
    if stage in ("nothing", "tls"):
        connection = socket.create_connection(running.address[:2], 5)
    else:
        connection = secured(running, made) if stage == "head" else begun(running, made, content)
    hello = b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + bytes(200)
    trickle = {"nothing": b"", "tls": hello, "head": b"PUT /samples/" + b"a" * 900, "body": content}[stage]
    connection.settimeout(0.1)
    over = False
    for at in range(200):
        try:
            connection.sendall(trickle[at : at + 1])
            over = connection.recv(1 << 16) in (b"",)
        except TimeoutError:
            continue
        except OSError:
            over = True
        if over:
            break
    connection.close()
    assert over
    assert send(running, credentials(made, "press-1"), content).fate in (Fate.STORED, Fate.LATER)
    assert len(running.files()) <= 1


def test_one_address_cannot_take_every_place_and_the_places_come_back(serve, made, eventually: Eventually):
    running, content = serve(QUICK), sample(made)
    idle = [socket.create_connection(running.address[:2], 5) for _ in range(12)]
    refused = [each for each in idle if ended_at_once(each)]
    assert len(refused) == 6 and sum("too many connections" in line for line in running.said) == 1
    eventually(lambda: send(running, credentials(made, "press-1"), content).fate is Fate.STORED)
    for each in idle:
        each.close()


def ended_at_once(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_device_uploads_one_at_a_time(serve, made, eventually: Eventually):
    running = serve()
    first = begun(running, made, sample(made))
    eventually(lambda: running.intake._busy == {"press-1"})
    outcome = send(running, credentials(made, "press-1"), sample(made))
    assert outcome.fate is Fate.LATER and outcome.wait_s == 5
    assert "another upload of this device is under way" in outcome.why
    mine, other = sample(made, "press-2"), credentials(made, "press-2")
    assert send(running, other, mine, device="press-2").fate is Fate.STORED
    first.close()
    eventually(lambda: not running.intake._busy)
    assert send(running, credentials(made, "press-1"), sample(made)).fate is Fate.STORED


def test_many_devices_at_once_lose_nothing(serve, made):
    running = serve()
    devices = ("press-1", "press-2", "press-3")

    def upload(device: str) -> list[Fate]:
        mine = credentials(made, device)
        return [send(running, mine, sample(made, device), device=device).fate for _ in range(10)]

    with ThreadPoolExecutor(3) as pool:
        fates = list(pool.map(upload, devices))
    assert all(fate is Fate.STORED for each in fates for fate in each)
    assert len(running.rows()) == len(running.files()) == 30


def test_a_full_disk_is_said_and_the_device_keeps_its_sample(serve, made, monkeypatch):
    running, content = serve(), sample(made)
    real = Path.write_bytes

    def full(path: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    outcome = send(running, credentials(made, "press-1"), content)
    assert outcome.fate is Fate.LATER and outcome.wait_s == 60 and "disk is full (507" in outcome.why
    assert running.rows() == [] and "no space left" in running.said[0]
    monkeypatch.setattr(Path, "write_bytes", real)
    assert send(running, credentials(made, "press-1"), content).fate is Fate.STORED


def test_the_rate_of_an_upload_is_limited(serve, made):
    running, waits = serve(), []
    content = sample(made, image=np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8))

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    name = file_name(content)
    path = f"/samples/press-1/{name}"
    mine = credentials(made, "press-1")
    assert put(running.address, path, content, mine, name=name, kib_s=16, stop=Stop()).fate is Fate.STORED
    assert len(waits) == -(-len(content) // 8192)
    assert waits[0] == 0 and waits[-1] == pytest.approx((len(waits) - 1) * 0.5, abs=0.3)


def test_a_stopping_agent_does_not_finish_an_upload(serve, made):
    stop = threading.Event()
    stop.set()
    outcome = put(serve().address, "/x", bytes(9), credentials(made, "press-1"), name="", kib_s=64, stop=stop)
    assert outcome == Outcome(Fate.LATER, "the agent stops")


def test_a_device_sends_what_it_kept_through_an_outage_of_the_monitor(serve, made, tmp_path, eventually: Eventually):
    events: list[str] = []
    clocks = Clocks(time.monotonic_ns, lambda: NOW_MS)
    store = Store(tmp_path / "kept", Caps(1 << 20, 10**18, 100, 0), clocks, lambda kind, _: events.append(kind))
    for _ in range(4):
        store.add(sample(made))
    running, told = serve(), []
    where = [running.address._replace(port=1)]

    def attempt(name: str, content: bytes, stop: threading.Event) -> Outcome:
        mine, path = credentials(made, "press-1"), f"/samples/press-1/{name}"
        return put(where[0], path, content, mine, name=name, kib_s=1e6, stop=stop)._replace(wait_s=0.0)

    class Quick(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return 0.02

    uploader = Uploader(store, attempt, uploaded=told.append, event=lambda kind, _: events.append(kind), rng=Quick(0))
    eventually(lambda: "samples_not_sent" in events)
    assert len(store) == 4 and running.rows() == []
    where[0] = running.address
    eventually(lambda: len(told) == 4)
    uploader.close()
    assert events == ["samples_not_sent", "samples_sent"] and len(store) == 0
    assert {row.sha256 for row in running.rows()} == {each.sha256.hex() for each in told}


def test_samples_expire_on_the_monitor_too(serve, made):
    running = serve()
    send(running, credentials(made, "press-1"), sample(made))
    said: list[str] = []
    expire(running.archive, 2.0, NOW_MS + 86_400_000, said.append)
    assert len(running.rows()) == len(running.files()) == 1 and said == []
    expire(running.archive, 2.0, NOW_MS + 3 * 86_400_000, said.append)
    assert running.rows() == [] and running.files() == []
    assert said == ["1 samples were over 2 days old and removed"]


def test_half_written_files_of_a_killed_receiver_are_swept(serve, made):
    running = serve()
    send(running, credentials(made, "press-1"), sample(made))
    left = running.folder / "press-1" / f".{'a' * 64}.sample.0123abcd.part"
    left.write_bytes(b"half")
    Archive(open_samples(running.store), running.folder)
    assert not left.exists() and len(running.files()) == 1


def test_a_store_of_before_gets_its_table(tmp_path):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    archive_module.open_samples(url, create=True).dispose()
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text("DROP TABLE sample"))
    assert "sample" in inspect(open_samples(url)).get_table_names()
    fresh = MetaData()
    fresh.reflect(engine)
    assert "sample_device" in {index.name for index in fresh.tables["sample"].indexes}


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def filled(serve, made) -> Running:
    running = serve()
    for number, device in enumerate(("press-1", "press-1", "press-2")):
        content = sample(made, device, wall_ms=NOW_MS + number)
        assert send(running, credentials(made, device), content, device=device).fate is Fate.STORED
    return running


def test_samples_are_listed_and_opened_by_whoever_has_the_key(filled, made, tmp_path):
    lines = run("samples", "list", "--store", filled.store).stdout.splitlines()
    assert len(lines) == 3 and all("class 1, log-odds 0 to 0.5" in line for line in lines)
    listed = json.loads(run("samples", "list", "--store", filled.store, "--device", "press-2", "--json").stdout)
    assert [row["device"] for row in listed] == ["press-2"]
    out, key = tmp_path / "out", str(made / "samples.key")
    common = ["--store", filled.store, "--into", str(filled.folder), "--key"]
    opened = json.loads(run("samples", "open", str(out), *common, key, "--json").stdout)
    assert {each["log_odds"] for each in opened} == {0.25} and {each["decision"] for each in opened} == {"review"}
    assert [Path(each["file"]).read_bytes() for each in opened] == [write_png(IMAGE)] * 3
    assert len(list(out.iterdir())) == 3


def test_the_wrong_key_opens_nothing_and_says_so(filled, made, tmp_path):
    other = tmp_path / "other"
    create(other, ["broker.example"], utc_now())
    common = ["--store", filled.store, "--into", str(filled.folder), "--key"]
    with pytest.raises(
        TrustFailed, match=r"3 of 3 samples cannot be opened; the first, press-1 .*sealed to another key"
    ):
        run("samples", "open", str(tmp_path / "out"), *common, str(other / "samples.key"))
    with pytest.raises(BadInput, match=r"must be samples\.key"):
        run("samples", "open", str(tmp_path / "out"), *common, str(made / "samples.pub"))
    assert not (tmp_path / "out").exists()


def test_a_changed_and_a_missing_file_are_named_and_the_others_opened(filled, made, tmp_path):
    changed, missing, _ = filled.files()
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    missing.unlink()
    common = ["--store", filled.store, "--into", str(filled.folder), "--key", str(made / "samples.key")]
    with pytest.raises(TrustFailed, match="2 of 3 samples cannot be opened"):
        run("samples", "open", str(tmp_path / "out"), *common)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_what_is_sealed_but_no_picture_is_not_written(serve, made, tmp_path):
    running, public = serve(), read_public(made / "samples.pub")
    head = Head(SCHEMA, "press-1", b"modelone", NOW_MS, 27, "low", None, key_id(public))
    send(running, credentials(made, "press-1"), seal(head, Content(SCHEMA, b"<script>", 0.0), public))
    common = ["--store", running.store, "--into", str(running.folder), "--key", str(made / "samples.key")]
    with pytest.raises(TrustFailed, match="not a picture in PNG"):
        run("samples", "open", str(tmp_path / "out"), *common)
    assert not (tmp_path / "out").exists()


def test_serving_needs_four_files_and_neither_of_the_secrets(made, tmp_path):
    for name in Keys.NAMES:
        content = (made / name).read_bytes()
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(content)
    assert Keys(tmp_path, print).context().verify_mode is ssl.CERT_REQUIRED
    (tmp_path / "revoked.pem").write_bytes((made / "authority.pem").read_bytes())
    with pytest.raises(BadInput, match="no list of certificates"):
        Keys(tmp_path, print)
    (tmp_path / "monitor.pem").unlink()
    with pytest.raises(NotFound, match="lineside-fleet samples certificate"):
        Keys(tmp_path, print)


@pytest.mark.parametrize("listen", ["8444", "host:", ":8444", "host:port", "host:0", "host:70000"])
def test_an_address_that_is_none_is_refused(made, tmp_path, listen):
    store = f"sqlite:///{tmp_path / 'fleet.db'}"
    with pytest.raises(BadInput, match="--listen"):
        run("samples", "serve", "--keys", str(made), "--store", store, "--listen", listen)
    assert not (tmp_path / "fleet.db").exists()


def test_a_port_that_is_taken_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadInput, match="the port is taken"):
            run("samples", "serve", "--keys", str(made), "--store", "sqlite:///fleet.db", "--listen", listen)
