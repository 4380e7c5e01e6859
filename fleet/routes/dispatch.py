"""The dispatcher: what is due on each route, sent at least once, in the store before it counts as told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES, Alert
from device_agent.contract.errors import NotWritable
from fleet.acknowledgements import read_acknowledgements
from fleet.alert_store import find_alerts
from fleet.escalation import Rest, Send, Step, Wait, next_step, told_of
from fleet.matching import read_facts
from fleet.routes import Item, NotTaken
from fleet.routes.lane import Lane, Outcome
from fleet.routes.message import write_digest, write_notice
from fleet.routes.outbox import Delivery, claim, forget, plan, read_due, release, write_deliveries
from fleet.routes.state import RouteState, read_states, write_state
from fleet.silences import Silence, end_changeovers, find_silence, read_silences

LEASE_MS = 30_000
FIRST_MS, LONGEST_MS = 5_000, 900_000
GIVE_UP_MS = 7 * 86_400_000
HOUR_MS = 3_600_000


class Dispatcher:
    """Takes a turn every half second or so; of several on one store one works, and another takes over within
    `LEASE_MS` when it ends. A killed one leaves nothing half-done: what it had sent and not written down is sent again,
    under the same id.

    Args:
        lanes: one for each route.
        owner: a name that no other dispatcher has.
        rng: of the jitter of back-off.
        say: takes one line for people.
        clock_ms: wall clock.
        give_up_ms: for how long a closed alert is still told of.
    """

    def __init__(
        self,
        engine: Engine,
        lanes: Sequence[Lane],
        *,
        owner: str,
        rng: random.Random,
        say: Callable[[str], None],
        clock_ms: Callable[[], int],
        give_up_ms: int = GIVE_UP_MS,
    ) -> None:
        self._engine, self._lanes, self._owner, self._rng = engine, list(lanes), owner, rng
        self._say, self._clock_ms, self._give_up_ms = say, clock_ms, give_up_ms
        self._lease_ms = self._forgot_ms = 0
        self._states: dict[str, RouteState] | None = None
        self._failing = False

    def turn(self) -> bool:
        """Do what can be done now; False while another dispatcher has the lease or the store cannot be written."""
        now_ms = self._clock_ms()
        try:
            if not self._lead(now_ms):
                return False
            for lane in self._lanes:
                self._settle(lane, now_ms)
            with self._engine.begin() as tx:
                end_changeovers(tx, now_ms)
                plan(tx, [lane.settings for lane in self._lanes], now_ms)
                silences = [each for each in read_silences(tx) if not _past(each, now_ms)]
            for lane in self._lanes:
                self._feed(lane, silences, now_ms)
        except NotWritable as error:
            if not self._failing:
                self._say(f"{error}; alerts wait, trying again")
            self._failing = True
            return False
        self._failing = False
        return True

    def settled(self) -> bool:
        """Write down what became of notices, and start no more; False while one is on its way.

        Raises:
            NotWritable: the store cannot be written.
        """
        for lane in self._lanes:
            self._settle(lane, self._clock_ms())
        return not any(lane.busy for lane in self._lanes)

    def close(self) -> None:
        """Let another one take over at once."""
        for lane in self._lanes:
            lane.close()
        if self._states is not None:
            with self._engine.begin() as tx:
                release(tx, self._owner)

    def _lead(self, now_ms: int) -> bool:
        """Whether this one delivers; the lease is renewed at half its time."""
        if self._states is not None and LEASE_MS // 2 < self._lease_ms - now_ms <= LEASE_MS:
            return True
        with self._engine.begin() as tx:
            if not claim(tx, self._owner, now_ms, now_ms + LEASE_MS):
                self._states = None
                return False
            self._lease_ms = now_ms + LEASE_MS
            if self._states is None:
                self._states = read_states(tx)
                plan(tx, [lane.settings for lane in self._lanes], now_ms, every_open=True)
            if not 0 <= now_ms - self._forgot_ms < HOUR_MS:
                forget(tx, now_ms)
                self._forgot_ms = now_ms
        return True

    def _state(self, lane: Lane) -> RouteState:
        states = self._states if self._states is not None else {}
        name = lane.settings.name
        return states.setdefault(name, RouteState(route=name, kind=lane.settings.kind))

    def _settle(self, lane: Lane, now_ms: int) -> None:
        """Write down what became of the notice that was on its way."""
        outcome = lane.outcome()
        if outcome is None:
            return
        state = self._state(lane)
        newer = self._taken(outcome, state, now_ms) if outcome.fault is None else self._failed(outcome, state, now_ms)
        with self._engine.begin() as tx:
            write_deliveries(tx, outcome.deliveries)
            write_state(tx, newer)
        if self._states is not None:
            self._states[state.route] = newer
        lane.done()

    def _taken(self, outcome: Outcome, state: RouteState, now_ms: int) -> RouteState:
        alerts = {item.alert.id: item.alert for item in outcome.notice.items}
        for delivery in outcome.deliveries:
            delivery.told, delivery.told_ms, delivery.due_ms = told_of(alerts[delivery.alert]), now_ms, now_ms
            delivery.attempts, delivery.failing_ms, delivery.error, delivery.held = 0, None, "", ""
        if state.failing_ms is not None:
            self._say(f"route {state.route}: takes alerts again")
        return msgspec.structs.replace(
            state, sent=state.sent + 1, sent_ms=now_ms, failures=0, failing_ms=None, error="", next_ms=None
        )

    def _failed(self, outcome: Outcome, state: RouteState, now_ms: int) -> RouteState:
        fault = outcome.fault or NotTaken("")
        tries = (
            max((delivery.attempts for delivery in outcome.deliveries), default=0) if fault.refused else state.failures
        )
        wait_ms = max(self._pause_ms(tries), round(1000 * fault.wait_s))
        for delivery in outcome.deliveries:
            delivery.attempts, delivery.error = delivery.attempts + 1, str(fault)
            delivery.failing_ms, delivery.due_ms = delivery.failing_ms or now_ms, now_ms + wait_ms
        if state.failing_ms is None:
            self._say(f"route {state.route}: {fault}; its alerts are kept, trying again")
        return msgspec.structs.replace(
            state,
            failures=state.failures + 1,
            failing_ms=state.failing_ms or now_ms,
            error=str(fault),
            next_ms=None if fault.refused else now_ms + wait_ms,
        )

    def _pause_ms(self, failures: int) -> int:
        """Twice as long with each failure, up to `LONGEST_MS`, and by chance down to half of it."""
        longest_ms: int = min(LONGEST_MS, FIRST_MS << min(failures, 20))
        return round(longest_ms * self._rng.uniform(0.5, 1.0))

    def _feed(self, lane: Lane, silences: list[Silence], now_ms: int) -> None:
        """Set the next notice of a route on its way."""
        next_ms = self._state(lane).next_ms
        waiting = next_ms is not None and now_ms < next_ms <= now_ms + 2 * LONGEST_MS + HOUR_MS
        budget = lane.budget()
        if lane.busy or waiting or not budget:
            return
        with self._engine.begin() as tx:
            deliveries = read_due(tx, lane.settings.name, now_ms)
            if not deliveries:
                return
            alerts = find_alerts(tx, [delivery.alert for delivery in deliveries])
            sends, others = self._sort(tx, lane, deliveries, alerts, silences, now_ms)
            write_deliveries(tx, others)
        if sends:
            self._send(lane, sends, alerts, budget, now_ms)

    def _sort(
        self,
        tx: Connection,
        lane: Lane,
        deliveries: list[Delivery],
        alerts: dict[str, Alert],
        silences: list[Silence],
        now_ms: int,
    ) -> tuple[list[tuple[Delivery, Send]], list[Delivery]]:
        """What is to be sent now, and what was looked at and waits or rests."""
        facts = read_facts(tx, list(alerts.values())) if silences else {}
        taken_note = read_acknowledgements(tx, list(alerts))
        sends: list[tuple[Delivery, Send]] = []
        others: list[Delivery] = []
        for delivery in deliveries:
            alert = alerts.get(delivery.alert)
            silence = find_silence(silences, facts[alert.id], now_ms) if alert and silences else None
            step = Rest("the alert is gone") if alert is None else self._step(
                lane, delivery, alert, silence, alert.id in taken_note, now_ms
            )  # fmt: skip
            if isinstance(step, Send):
                sends.append((delivery, step))
                continue
            delivery.due_ms = step.until_ms if isinstance(step, Wait) else None
            delivery.held = f"silenced by {silence[0].id}" if silence and isinstance(step, Wait) else step.why
            others.append(delivery)
        return sends, others

    def _step(
        self,
        lane: Lane,
        delivery: Delivery,
        alert: Alert,
        silence: tuple[Silence, int] | None,
        acknowledged: bool,
        now_ms: int,
    ) -> Step:
        failing = delivery.failing_ms is not None and alert.closed_ms is not None
        if failing and now_ms - (alert.closed_ms or 0) > self._give_up_ms:
            delivery.given_up_ms = now_ms
            self._say(f"route {delivery.route}: gives up to tell that {alert.id} is closed: {delivery.error}")
            return Rest(f"given up after {self._give_up_ms / 86_400_000:g} days")
        return next_step(
            alert,
            delivery.told,
            delivery.told_ms,
            lane.settings,
            acknowledged=acknowledged,
            silent_until_ms=silence[1] if silence else None,
            silenced_before=delivery.held.startswith("silenced"),
            now_ms=now_ms,
        )

    def _send(
        self, lane: Lane, sends: list[tuple[Delivery, Send]], alerts: dict[str, Alert], budget: int, now_ms: int
    ) -> None:
        """The worst alone, or all as a digest where they are many."""
        link = lane.settings.link
        sends.sort(key=lambda pair: -SEVERITIES.index(alerts[pair[0].alert].severity))
        if len(sends) <= min(lane.settings.digest_over, budget):
            delivery, send = sends[0]
            lane.send(write_notice(Item(send.what, alerts[delivery.alert]), now_ms, link=link), [delivery])
            return
        items = [Item(send.what, alerts[delivery.alert]) for delivery, send in sends]
        digest = write_digest(items, now_ms, link=link) if len(items) > 1 else write_notice(items[0], now_ms, link=link)
        lane.send(digest, [delivery for delivery, _ in sends])


def _past(silence: Silence, now_ms: int) -> bool:
    """Whether it can silence nothing any more; a change-over does so for a while after its end."""
    return silence.over(now_ms) and (silence.kind != "changeover" or (silence.last_end(now_ms) or 0) < now_ms - HOUR_MS)
