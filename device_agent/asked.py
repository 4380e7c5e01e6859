"""Commands that the fleet may give to a running agent, and how settings from afar take hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from device_agent.config import Settings
from device_agent.contract.errors import BadInput, SelfTestFailed
from device_agent.remote.remote import Handler
from device_agent.remote.settings import RemoteSettings
from device_agent.station import NO_ARTIFACT

if TYPE_CHECKING:
    from device_agent.desk import Desk
    from device_agent.loop import Loop

PATIENCE_S = 20.0


class Between:
    """Work of other threads that the loop does between two frames."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Callable[[], str], Future[str]]] = SimpleQueue()

    def turn(self) -> None:
        """Do what waits; called by the loop."""
        while True:
            try:
                work, done = self._waiting.get_nowait()
            except Empty:
                return
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where it was asked for; the loop goes on
                done.set_exception(error)

    def ask(self, work: Callable[[], str]) -> str:
        """What `work` gives, done by the loop.

        Raises:
            BadInput: the loop did not come to it within 20 s.
        """
        done: Future[str] = Future()
        self._waiting.put((work, done))
        try:
            return done.result(PATIENCE_S)
        except TooLate:
            done.cancel()  # it would come as a surprise later
            raise BadInput(f"the loop did not come to it within {PATIENCE_S:g} s") from None

    def leave(self, work: Callable[[], str]) -> None:
        """Have it done without waiting for it."""
        self._waiting.put((work, Future()))


def handlers(desk: Desk, loop: Callable[[], Loop], between: Between, settings: Settings) -> dict[str, Handler]:
    """The commands of one camera's device, by name."""
    began = time.monotonic()

    def status(_: str) -> str:
        serving = loop().serving
        return json.dumps(
            {
                "serving": serving.name,
                "degraded": serving.degraded,
                "breaker": desk.drift.fault or ("closed" if serving.answers else NO_ARTIFACT),
                "uptime_s": int(time.monotonic() - began),
                "waiting": desk.waiting,
            }
        )

    def bench(_: str) -> str:
        from device_agent.timing import bench_bundle

        found = bench_bundle(settings, quick=True)
        return "; ".join(f"{one.runtime}-{one.precision}: p50 {one.p50_ms:.3f} ms" for one in found)

    return {
        "ping": lambda _: "pong",
        "status": status,
        "selftest": lambda _: between.ask(lambda: _tested(loop())),
        "bench": bench,
        "reset-breaker": lambda _: between.ask(desk.drift.reset),
    }


def _tested(loop: Loop) -> str:
    """The self-test in a sentence.

    Raises:
        SelfTestFailed: what served gave wrong answers, or nothing serves.
    """
    before = loop.serving
    said = loop.self_test()
    if loop.serving is not before or not before.answers:
        raise SelfTestFailed(said)
    return said


def follow(desk: Desk, between: Between, asked: RemoteSettings, own: Settings) -> None:
    """Let settings from afar take hold, and the device's own where they say nothing (any more): the loop does it
    between two frames."""

    def work() -> str:
        desk.report_every(asked.interval if asked.interval is not None else own.interval_s)
        desk.drift.obey(asked.on_drift or own.breaker.on_drift)
        return "applied"

    between.leave(work)
