"""Senders, settings, and the line that is put together of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from device_agent.contract.errors import BadInput, LinesideError, Unreachable
from device_agent.outputs import NotTaken, fate_of
from device_agent.outputs.line import Line, open_line
from device_agent.outputs.sender import Sender
from device_agent.outputs.settings import EXPECTED, FILES, LineSettings
from device_agent.outputs.tally import Tally

Eventually = Callable[..., object]


def test_a_sender_delivers_in_order_and_what_waits_at_the_end(remembered: Any, events: Any, verdict: Any) -> None:
    sender = Sender(remembered, events)
    for frame in range(100):
        sender.put(verdict(frame))
    sender.close(5.0)
    assert remembered.frames == list(range(100))
    assert (sender.lost, events, remembered.closed) == (0, [], 1)
    sender.put(verdict(100))
    sender.close(0.1)
    assert remembered.frames[-1] == 99


def test_a_receiver_that_does_not_take_costs_verdicts_and_one_event(
    remembered: Any, events: Any, verdict: Any, eventually: Eventually
) -> None:
    sender = Sender(remembered, events)
    remembered.raises = NotTaken("answers with status 500")
    for frame in range(50):
        sender.put(verdict(frame))
    eventually(lambda: sender.lost == 50)
    assert events == [("verdicts_lost", "remembered: answers with status 500")]
    remembered.raises = None
    sender.put(verdict(50))
    sender.close(5.0)
    assert remembered.frames == [50]
    assert events[1:] == [("verdicts_lost", "remembered: answers with status 500; 49 times since this was last said")]


def test_with_a_receiver_that_hangs_the_oldest_are_dropped_and_put_returns(events: Any, verdict: Any) -> None:
    hangs, sent = threading.Event(), []

    class Hanging:
        name = "hanging"

        def send(self, one: Any) -> None:
            sent.append(one.frame)
            hangs.wait(30)

        def close(self) -> None: ...

    sender = Sender(Hanging(), events, most=10)
    sender.put(verdict(0))
    while not sent:
        time.sleep(0.001)
    for frame in range(1, 1000):
        sender.put(verdict(frame))
    assert sender._waiting.qsize() == 10 and sender.lost == 989
    assert events == [("verdicts_lost", "hanging: does not keep up, 10 wait")]
    hangs.set()
    sender.close(5.0)
    assert sent == [0, *range(990, 1000)]


def test_the_end_waits_no_longer_than_it_may(remembered: Any, events: Any, verdict: Any) -> None:
    release = threading.Event()
    remembered.send = lambda _: release.wait(30)
    sender = Sender(remembered, events)
    for frame in range(20):
        sender.put(verdict(frame))
    sender.close(0.05)
    release.set()
    sender._thread.join(10)
    assert not sender._thread.is_alive() and sender.lost >= 18 and remembered.closed == 2


def test_a_tally_says_the_first_at_once_and_the_rest_once_a_minute(events: Any) -> None:
    now_s = [0.0]
    tally = Tally("lost", events, clock=lambda: now_s[0])
    for k in range(5):
        tally.count(f"number {k}")
    assert events == [("lost", "number 0")]
    now_s[0] = 60.0
    tally.tick()
    tally.tick()
    tally.count("number 5")
    tally.say()
    tally.say()
    assert [text for _, text in events[1:]] == ["number 4; 4 times since this was last said", "number 5"]
    assert tally.total == 6


def line(remembered: Any, events: Any, **fields: Any) -> Line:
    return Line([remembered], LineSettings(**fields), events)


@pytest.mark.parametrize("safe", ["pass", "review", "reject", "none"])
def test_without_a_verdict_the_line_is_told_the_safe_decision(remembered: Any, events: Any, safe: str) -> None:
    one = line(remembered, events, safe=safe)
    one.no_verdict(3, 5_000_000, None, "the breaker is open")
    told = remembered.verdicts[0]
    assert told.decision == (UNSET if safe == "none" else safe)
    assert fate_of(told) == (None if safe == "none" else safe)
    assert (told.frame, told.monotonic_ms, told.label, told.role, told.reason, told.late) == (
        3, 5, "", "", "the breaker is open", False,
    )  # fmt: skip


def test_a_safe_answer_is_the_one_answer_of_its_part(
    remembered: Any, events: Any, verdict: Any, eventually: Eventually
) -> None:
    one = line(remembered, events, safe="none", deadline_ms=20, late="reject")
    now_ns = time.monotonic_ns()
    one.expect(0, now_ns)
    one.no_verdict(0, now_ns, None, "the breaker is open")
    one.expect(1, now_ns)
    eventually(lambda: remembered.frames == [0, 1])
    one.put(verdict(1))
    one.no_verdict(1, now_ns, None, "the breaker is open")
    one.close()
    assert [(told.decision, told.late) for told in remembered.verdicts] == [(UNSET, False), ("reject", True)]
    assert remembered.closed == 1


def test_a_missed_part_is_answered_by_the_deadline_or_without_one_by_the_safe_answer(
    remembered: Any, events: Any, eventually: Eventually
) -> None:
    with_deadline = line(remembered, events, deadline_ms=10, late="reject", safe="pass")
    with_deadline.expect(0, time.monotonic_ns(), 0)
    with_deadline.missed(0, time.monotonic_ns(), "no frame")
    eventually(lambda: remembered.verdicts)
    with_deadline.close()
    without = line(remembered, events, safe="pass")
    without.expect(1, 0, 1)
    without.missed(1, 0, "no frame")
    without.close()
    assert [(told.frame, told.part, told.decision, told.late) for told in remembered.verdicts] == [
        (0, 0, "reject", True),
        (1, 1, "pass", False),
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mqtt": "mqtt://localhost"}, "a topic without . and # must follow"),
        ({"mqtt": "mqtt://localhost/a/#"}, "a topic without . and # must follow"),
        ({"mqtt": "http://localhost/a"}, "must read like mqtt://host:1883"),
        ({"mqtt": "mqtt://u:geheim@localhost:x/a"}, "must read like mqtt://host:1883"),
        ({"webhook": "ftp://localhost/"}, "webhook: must read like http://"),
        ({"webhook": "http://u:geheim@localhost/"}, "without user and password"),
        ({"webhook": "http://localhost:99999/"}, "webhook: must read like http://"),
        ({"webhook": "http://localhost/a b"}, "webhook: must read like http://"),
        ({"webhook": "http:///a"}, "webhook: must read like http://"),
        ({"webhook": "http://localhost/\r\nX-Evil: 1"}, "webhook: must read like http://"),
        ({"webhook_secret": "key"}, "webhook_secret is for webhook, which is not there"),
        ({"mqtt_ca": "ca.pem"}, "mqtt_ca is for mqtt, which is not there"),
        ({"gpio_pass": 17, "gpio_fault": 17}, "gpio_pass and gpio_fault are both pin 17"),
        ({"gpio_pass": 54}, "`int` <= 53 - at `..gpio_pass`"),
        ({"deadline_ms": 0}, "`int` >= 1 - at `..deadline_ms`"),
        ({"deadline_ms": 1.5}, "Expected `int.*, got `float` - at `..deadline_ms`"),
        ({"late": "none"}, "Invalid enum value 'none' - at `..late`"),
        ({"safe": "stop"}, "Invalid enum value 'stop' - at `..safe`"),
        ({"pulse_ms": -1}, "`int` >= 0 - at `..pulse_ms`"),
        ({"pulses": 1}, "unknown field `pulses`"),
        ({"stdout": "yes"}, "Expected `bool`"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said) as caught:
        msgspec.convert(fields, LineSettings)
    assert "geheim" not in str(caught.value)


def test_every_field_is_explained_or_names_a_file() -> None:
    assert {*EXPECTED, *FILES} == set(LineSettings.__struct_fields__)


def test_what_was_opened_is_closed_when_something_else_cannot_be(
    tmp_path: Path, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "none")
    before = threading.active_count()
    settings = LineSettings(webhook="http://localhost:1/", webhook_secret=str(tmp_path / "none"), stdout=False)
    with pytest.raises(LinesideError, match=r"webhook_secret .*none: no such file"):
        open_line(settings, events)
    with pytest.raises(Unreachable, match="gpio pin 17: no driver for the pins of this machine"):
        open_line(LineSettings(webhook="http://localhost:1/", gpio_pass=17), events)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_secret_is_for_one_user_and_long_enough(tmp_path: Path, events: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    secret.chmod(0o644)
    settings = LineSettings(webhook="http://localhost:1/", webhook_secret=str(secret))
    with pytest.raises(BadInput, match="chmod 600"):
        open_line(settings, events)
    secret.chmod(0o600)
    open_line(settings, events).close(0.1)
    secret.write_text("short\n")
    with pytest.raises(BadInput, match="5 bytes are too few"):
        open_line(settings, events)
