"""What the fleet asks, and what an attacker would: signatures, replays, old versions, clocks, floods, garbage."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.control import Command, Config, Response
from device_agent.contract.errors import BadInput, NotFound
from device_agent.remote.memory import MOST_NONCES, NAME
from device_agent.remote.remote import MOST_A_MINUTE, Clocks, Remote
from device_agent.remote.settings import RemoteSettings

NOW_S = 1_790_000_000.0
PEM, PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


class Bench:
    """A Remote whose clocks, events, answers and settings are at hand."""

    def __init__(self, folder: Path, device: str = "press-1") -> None:
        self.folder, self.device = folder, device
        self.key = ed25519.Ed25519PrivateKey.generate()
        (folder / "signing.pub").write_bytes(self.key.public_key().public_bytes(PEM, PUBLIC))
        self.mono_s, self.wall_s = 100.0, NOW_S
        self.events, self.answers = list[tuple[str, str]](), list[Response]()
        self.applied, self.done, self.nonces = list[RemoteSettings](), list[str](), 0
        self.gate = threading.Event()
        self.start()

    def wait(self, _: str) -> str:
        self.gate.wait(10)
        return "done"

    def start(self, *, key: bool = True) -> None:
        def ping(arguments: str) -> str:
            self.done.append(arguments)
            if arguments == "odd":
                return "/media/\udcff"
            if arguments == "fail":
                raise BadInput("it cannot be done")
            return f"pong {arguments}".strip() if arguments != "long" else "x" * 5000

        self.remote = Remote(
            self.device, self.folder / "signing.pub" if key else None, self.folder / "state",
            handlers={"ping": ping, "bug": lambda _: str(1 / 0), "wait": self.wait},
            apply=self.applied.append, respond=self.answers.append,
            event=lambda kind, text: self.events.append((kind, text)),
            clocks=Clocks(lambda: self.mono_s, lambda: self.wall_s),
        )  # fmt: skip

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def sealed(self, message: Config | Command, *, device: str | None = None) -> bytes:
        signature = self.key.sign(message.signed(device or self.device))
        return encode(msgspec.structs.replace(message, signature=signature))

    def config(self, version: int, device: str | None = None, **values: object) -> bytes:
        return self.sealed(Config(SCHEMA, version, json.dumps(values)), device=device)

    def command(
        self, name: str = "ping", arguments: str = "", *, ends_s: float = 30, device: str | None = None
    ) -> bytes:
        self.nonces += 1
        nonce = self.nonces.to_bytes(8, "big")
        return self.sealed(Command(SCHEMA, nonce, int((self.wall_s + ends_s) * 1000), name, arguments), device=device)

    def ask(self, payload: bytes, *, retained: bool = False) -> None:
        self.remote.command(payload, retained=retained)


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path)
    yield made
    made.remote.close()


def test_a_command_is_done_once_and_answered(bench, eventually: Callable[..., object]) -> None:
    bench.ask(bench.command(arguments="now"))
    eventually(lambda: bench.answers)
    assert [(one.ok, one.text) for one in bench.answers] == [(True, "pong now")] and bench.done == ["now"]


def test_a_replay_is_nothing_even_after_a_restart(bench, eventually) -> None:
    taken = bench.command()
    bench.ask(taken)
    bench.ask(taken)
    eventually(lambda: bench.answers)
    bench.remote.close()
    bench.start()
    bench.ask(taken)
    assert len(bench.done) == 1 and bench.kinds.count("command_replayed") == 2


def test_what_the_broker_kept_is_void(bench) -> None:
    bench.ask(bench.command(), retained=True)
    assert bench.kinds == ["command_retained"] and not bench.answers


@pytest.mark.parametrize("ends_s", [-1, 601, 1e9])
def test_a_command_that_has_expired_or_lies_far_ahead_is_refused(bench, ends_s: float) -> None:
    bench.ask(bench.command(ends_s=ends_s))
    assert bench.kinds == ["command_expired"]


def test_a_clock_that_jumps_back_makes_nothing_valid_again(bench, eventually) -> None:
    early, late = bench.command(arguments="early"), bench.command(arguments="late", ends_s=500)
    bench.wall_s += 100
    bench.ask(late)
    eventually(lambda: bench.answers)
    bench.wall_s -= 50  # early would soon hold by this clock
    bench.ask(early)
    assert bench.kinds[-1] == "command_expired"
    bench.wall_s -= 40  # and holds by this one
    bench.ask(early)
    assert bench.kinds[-1] == "command_clock"
    bench.remote.close()
    bench.start()
    bench.mono_s += 61
    bench.ask(early)
    assert bench.done == ["late"] and bench.kinds[-1] == "command_clock"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("wall_s", [50.0, NOW_S - 7200])
def test_what_was_withheld_does_not_hold_later_by_a_clock_that_was_set_back(
    bench, eventually, restarted: bool, wall_s: float
) -> None:
    withheld = bench.command(arguments="withheld", ends_s=60)
    bench.ask(bench.command(arguments="heard"))
    eventually(lambda: bench.answers)
    bench.mono_s, bench.wall_s = bench.mono_s + 3600, wall_s
    if restarted:
        bench.remote.close()
        bench.start()
    bench.ask(withheld)
    assert bench.kinds[-1] == "command_clock" and "behind a time that it believed before" in bench.events[-1][1]
    bench.wall_s = NOW_S + 3600  # it is set again
    bench.ask(bench.command(arguments="after"))
    eventually(lambda: bench.done == ["heard", "after"])


def test_a_clock_that_stands_still_ends_a_command_too(bench, eventually) -> None:
    withheld = bench.command(arguments="withheld", ends_s=30)
    bench.ask(bench.command())
    eventually(lambda: bench.answers)
    bench.mono_s += 45
    bench.ask(withheld)
    assert bench.kinds[-1] == "command_expired"


def test_a_command_that_waited_too_long_for_another_is_not_done(bench, eventually) -> None:
    bench.ask(bench.command("wait"))
    bench.ask(bench.command(arguments="late"))
    eventually(lambda: bench.kinds == ["command"])
    bench.mono_s += 31
    bench.gate.set()
    eventually(lambda: len(bench.answers) == 2)
    assert not bench.answers[1].ok and "it expired while another command ran" in bench.answers[1].text
    assert not bench.done


def test_another_devices_command_is_nothing(bench) -> None:
    bench.ask(bench.command(device="press-2"))
    bench.remote.config(bench.config(5, device="press-2", interval=30))
    assert bench.kinds == ["remote_refused"] and not bench.applied


def test_any_flipped_bit_is_refused(bench) -> None:
    for payload, hear in (
        (bench.command(), lambda bad: bench.ask(bad)),
        (bench.config(7, interval=30), bench.remote.config),
    ):
        for at in range(len(payload)):
            bench.mono_s += 3
            bad = bytearray(payload)
            bad[at] ^= 1 << at % 8
            hear(bytes(bad))
    assert not bench.done and not bench.applied and not bench.answers


def test_unknown_commands_failures_and_bugs_are_answered(bench, eventually) -> None:
    for name, arguments in (("reboot", ""), ("ping", "fail"), ("bug", ""), ("ping", "long")):
        bench.ask(bench.command(name, arguments))
    eventually(lambda: len(bench.answers) == 4)
    unknown, failed, bug, long = bench.answers
    assert not unknown.ok and "known are bug, ping, wait" in unknown.text
    assert not failed.ok and failed.text == "it cannot be done"
    assert not bug.ok and "ZeroDivisionError" in bug.text
    assert long.ok and len(long.text) == 512


def test_a_flood_is_not_even_looked_at(bench) -> None:
    forged = encode(Command(SCHEMA, bytes(8), int((NOW_S + 9) * 1000), "ping", signature=bytes(64)))
    for _ in range(MOST_A_MINUTE + 200):
        bench.ask(forged)
    assert bench.kinds == ["remote_refused", "remote_flood"]
    bench.mono_s += 61
    bench.ask(bench.command("none"))
    assert bench.answers, "after a minute it listens again"


def test_garbage_takes_no_turn_from_what_is_signed(bench, eventually) -> None:
    for junk in (b"", b"\x93\x10", b"x" * 5000, encode(Command(SCHEMA, bytes(8), 1, "ping"))) * 100:
        bench.ask(junk)
    bench.ask(bench.command())
    eventually(lambda: bench.answers)


def test_a_signed_command_that_comes_at_the_wrong_time_is_answered(bench) -> None:
    for ends_s, said in ((-1, "has expired by this device's clock"), (601, "is the clock set?")):
        bench.ask(bench.command(ends_s=ends_s))
        assert not bench.answers[-1].ok and said in bench.answers[-1].text


def test_damage_brings_neither_an_old_version_nor_a_command_back(bench, eventually) -> None:
    old, new, taken = bench.config(5, interval=5), bench.config(6, interval=6), bench.command(ends_s=600)
    bench.remote.config(old)
    bench.remote.config(new)
    bench.ask(taken)
    eventually(lambda: bench.done)
    path = bench.folder / "state" / NAME
    path.write_bytes(path.read_bytes()[:-20])
    bench.remote.close()
    bench.start()
    bench.remote.config(old)
    assert bench.kinds[-1] == "config_old" and bench.remote.settings == RemoteSettings()
    bench.remote.config(new)
    assert bench.remote.settings.interval == 6
    bench.ask(taken)
    assert len(bench.done) == 1 and "are taken again in 600 s" in bench.answers[-1].text
    bench.mono_s += 600
    bench.ask(bench.command())
    eventually(lambda: len(bench.done) == 2)


def test_another_key_forgets_the_settings_and_no_nonce(bench, eventually) -> None:
    bench.remote.config(bench.config(5, interval=30))
    taken = bench.command()
    bench.ask(taken)
    eventually(lambda: bench.done)
    before = bench.key
    bench.key = ed25519.Ed25519PrivateKey.generate()
    (bench.folder / "signing.pub").write_bytes(bench.key.public_key().public_bytes(PEM, PUBLIC))
    bench.remote.close()
    bench.start()
    assert bench.kinds[-1] == "remote_damaged" and bench.remote.settings == RemoteSettings()
    (bench.folder / "signing.pub").write_bytes(before.public_key().public_bytes(PEM, PUBLIC))
    bench.start()
    bench.ask(taken)
    assert bench.kinds[-1] == "command_replayed" and len(bench.done) == 1


def test_words_that_no_encoding_has_are_answered(bench, eventually) -> None:
    bench.ask(bench.command(arguments="odd"))
    bench.ask(bench.command(arguments="next"))
    eventually(lambda: len(bench.answers) == 2)
    assert bench.answers[1].text == "pong next"


def test_without_a_key_nothing_is_heard(bench) -> None:
    bench.start(key=False)
    bench.ask(bench.command())
    bench.remote.config(bench.config(5, interval=30))
    assert bench.kinds == ["remote_unheard"] and not bench.done and not bench.applied


def test_a_key_that_is_none_is_said(bench, tmp_path: Path) -> None:
    (tmp_path / "signing.pub").unlink()
    with pytest.raises(NotFound, match="no such file"):
        bench.start()
    (tmp_path / "signing.pub").write_text("nonsense")
    with pytest.raises(BadInput, match="holds no Ed25519 public key"):
        bench.start()
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "signing.pub").write_bytes(other.public_bytes(PEM, PUBLIC))
    with pytest.raises(BadInput, match=r"it is signing\.pub"):
        bench.start()


def test_a_configuration_is_applied_once_kept_and_repeated_in_silence(bench) -> None:
    sent = bench.config(5, interval=30, on_drift="safe")
    for _ in range(3):
        bench.remote.config(sent)
    assert bench.applied == [RemoteSettings(interval=30.0, on_drift="safe")]
    assert bench.kinds == ["config_applied"] and [one.ok for one in bench.answers] == [True]
    bench.start()
    assert bench.remote.settings == RemoteSettings(interval=30.0, on_drift="safe")
    bench.remote.config(sent)
    assert len(bench.applied) == 1


def test_an_old_configuration_is_refused_and_reported(bench) -> None:
    old = bench.config(4, interval=10)
    bench.remote.config(bench.config(5, interval=30))
    bench.remote.config(old)
    bench.remote.config(bench.config(5, interval=40))
    assert len(bench.applied) == 1 and bench.kinds == ["config_applied", "config_old"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"interval": 0}', "interval = 0: must be seconds from 0.1 to 3600"),
        ('{"interval": "30"}', "interval = '30': must be seconds"),
        ('{"on_drift": "stop"}', 'on_drift = \'stop\': must be "report" or "safe"'),
        ('{"shell": "rm"}', "no field 'shell'; known are interval, on_drift"),
        ("[1]", "must be a table of interval, on_drift"),
        ("{", "is not JSON"),
    ],
)
def test_a_wrong_configuration_is_refused_in_words_and_the_old_one_stays(bench, text: str, said: str) -> None:
    bench.remote.config(bench.config(5, interval=30))
    bench.remote.config(bench.sealed(Config(SCHEMA, 6, text)))
    assert bench.kinds[-1] == "config_refused" and said in bench.answers[-1].text and not bench.answers[-1].ok
    bench.start()
    assert bench.remote.settings.interval == 30.0


FORGED = '{"schema": "1.0", "version": 9, "settings": "{}", "signature": "AAAA"}'


@pytest.mark.parametrize("damage", ['{"schema"', FORGED])
def test_a_memory_that_was_changed_on_the_disk_is_said_and_not_obeyed(bench, damage: str) -> None:
    bench.remote.config(bench.config(5, interval=30))
    (bench.folder / "state" / NAME).write_text(damage)
    bench.start()
    assert bench.kinds[-1] == "remote_damaged" and bench.remote.settings == RemoteSettings()


def test_a_version_that_was_damaged_on_the_disk_locks_nothing_out(bench) -> None:
    old, path = bench.config(4, interval=10), bench.folder / "state" / NAME
    bench.remote.config(bench.config(5, interval=30))
    path.write_text(path.read_text().replace('"version":5', '"version":9000000005'))
    bench.start()
    bench.remote.config(old)
    bench.remote.config(bench.config(6, interval=40))
    assert bench.kinds[-3:] == ["remote_damaged", "config_old", "config_applied"]


def test_a_disk_that_is_full_takes_no_command_as_it_might_come_twice(bench) -> None:
    (bench.folder / "state").write_text("a file where the folder should be")
    bench.ask(bench.command())
    assert "remote_unsaved" in bench.kinds and "command_refused" in bench.kinds and not bench.done


def test_nonces_stay_few_and_the_oldest_stays_void(bench) -> None:
    sent = []
    for number in range(MOST_NONCES + 40):
        if number % MOST_A_MINUTE == 0:
            bench.start()
        sent.append(bench.command("none", ends_s=100 + number * 0.1))
        bench.ask(sent[-1])
    stored = json.loads((bench.folder / "state" / NAME).read_bytes())
    assert len(stored["nonces"]) <= MOST_NONCES
    answered = len(bench.answers)
    for number, payload in enumerate(sent):
        if number % MOST_A_MINUTE == 0:
            bench.start()
        bench.ask(payload)
    refusals = [one.text for one in bench.answers[answered:]]
    assert all("has expired" in text or "clock is" in text for text in refusals), "not one is looked up by its name"


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=300), retained=st.booleans())
def test_no_bytes_raise(tmp_path_factory, payload: bytes, retained: bool) -> None:
    made = Bench(tmp_path_factory.mktemp("remote"))
    made.remote.config(payload)
    made.remote.command(payload, retained=retained)
    assert not made.applied and not made.done
