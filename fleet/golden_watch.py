"""Golden parts that a line fails, as alerts: the leader looks whenever runs were recorded or a line was reset."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from fleet.accuracy.finding import Finding as Fall
from fleet.accuracy.golden import resets
from fleet.accuracy.golden_states import golden_findings
from fleet.alerts import AlertBook, Change, Finding
from fleet.models import read_models
from fleet.schema import GOLDEN_RUN

STREAM = "golden"
EVERY_MS = 30_000


class GoldenWatch:
    """Reports the lines whose golden parts say that they fell, and takes it back when they were put right."""

    def __init__(self, alerts: AlertBook) -> None:
        self._alerts = alerts
        self._next_ms = 0
        self._seen: object = None

    def turn(self, tx: Connection, now_ms: int) -> list[Change]:
        """Every turn; it looks twice a minute, and only where there is anything new."""
        if 0 <= self._next_ms - now_ms <= EVERY_MS:
            return []
        self._next_ms = now_ms + EVERY_MS
        runs = tx.execute(select(func.count(), func.max(GOLDEN_RUN.c.recorded_ms))).one()
        put_right = resets(tx)
        if self._seen == (seen := (tuple(runs), put_right)):
            return []
        self._seen = seen
        found = {one.scope: _finding(one) for one in golden_findings(tx, read_models(tx))} if runs[0] else {}
        changes = [change for one in found.values() for change in self._alerts.report(one, now_ms)]
        for alert in [one for one in self._alerts.open.values() if one.stream == STREAM and one.scope not in found]:
            over = Finding(
                stream=STREAM, scope_kind="device", scope=alert.scope, severity="critical", onset_ms=0, text=""
            )
            changes += self._alerts.retract(over, "the line was put right, or runs another model", now_ms)
        return changes


def _finding(fall: Fall) -> Finding:
    return Finding(
        stream=STREAM,
        scope_kind="device",
        scope=fall.scope,
        severity=fall.severity,
        onset_ms=fall.onset_ms,
        text=fall.text,
        cause="recall: the line does not find what it is known to be shown",
        model=fall.model,
        devices=[fall.scope],
    )
