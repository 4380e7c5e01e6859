"""Alerts for a Prometheus Alertmanager, API v2: a list of labels, annotations and times.

Alertmanager forgets what it does not hear of again, so an open alert is sent again every `resend_min` and says that it
ends after three times that.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import msgspec

from device_agent.contract.errors import BadInput
from fleet.routes import Item, Notice
from fleet.routes.http import Post
from fleet.routes.settings import Wiring
from fleet.wording import kind_of_cause, printable

PATH = "/api/v2/alerts"
AT_ONCE = 500
HELD = 3


class PostableAlert(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One alert of the API; times in RFC 3339."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    generator_url: str = msgspec.field(default="", name="generatorURL")


class AlertmanagerRoute:
    """POSTs alerts to <url>/api/v2/alerts, `AT_ONCE` a request. The secret, if there is one, is a bearer token.

    Raises:
        BadInput: no URL of http or https, or one that already ends in the path of the API.
    """

    def __init__(self, wiring: Wiring, *, clock_ms: Callable[[], int] | None = None) -> None:
        import time

        if wiring.url.rstrip("/").endswith("/alerts"):
            raise BadInput(f"url: must be that of Alertmanager itself; {PATH} is added to it")
        self._settings, self._token = wiring.settings, wiring.secret.decode()
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._post = Post(wiring.url, wiring.credentials, wiring.settings.timeout_s)

    def take(self, notice: Notice) -> None:
        """Send what the notice is about; a test is an alert of severity info that ends after a minute.

        Raises:
            NotTaken: Alertmanager does not have it.
        """
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        now_ms = self._clock_ms()
        if notice.kind == "test":
            alerts = [_test(notice, now_ms)]
        else:
            until_ms = now_ms + HELD * max(self._settings.resend_ms, 60_000)
            alerts = [postable(item, until_ms, now_ms, link=self._settings.link) for item in notice.items]
        for start in range(0, len(alerts), AT_ONCE):
            self._post.send(PATH, msgspec.json.encode(alerts[start : start + AT_ONCE]), headers)

    def close(self) -> None:
        """Hang up."""
        self._post.close()


def postable(item: Item, until_ms: int, now_ms: int, *, link: str = "") -> PostableAlert:
    """One alert as the API takes it. Labels are what stays the same while it is open, so that Alertmanager knows it
    again. Severity is one of them, because Alertmanager routes by it: where it rises, that is a new alert there, and
    the former ends as it is not sent again. `until_ms`: when it is over unless it is sent again, wall-clock ms; a
    closed or covered one is over now."""
    alert = item.alert
    ended_ms = alert.closed_ms if alert.closed_ms is not None else now_ms if alert.inhibited_by else until_ms
    labels = {
        "alertname": "lineside_drift" if alert.log_e is not None else f"lineside_{alert.stream}",
        "alert_id": alert.id,
        "severity": alert.severity,
        "scope": alert.scope,
        "scope_kind": alert.scope_kind,
        "site": alert.site,
        "product": alert.product,
        "model": alert.model if alert.scope_kind == "device" else "",
        "stream": alert.stream,
    }
    annotations = {
        "summary": f"{alert.scope}: {alert.stream}",
        "description": alert.text,
        "cause": alert.cause,
        "cause_kind": kind_of_cause(alert.cause),
        "devices": ", ".join(alert.devices[:100]),
    }
    return PostableAlert(
        labels=_filled(labels),
        annotations=_filled(annotations),
        starts_at=rfc3339(alert.opened_ms),
        ends_at=rfc3339(max(ended_ms, alert.opened_ms + 1)),
        generator_url=link if link.startswith(("http://", "https://")) else "",
    )


def rfc3339(at_ms: int) -> str:
    """A time as the API takes it; years that it cannot say are brought to the nearest that it can.

    >>> rfc3339(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    at = datetime.fromtimestamp(min(max(at_ms, 0), 253_402_300_799_000) / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _filled(pairs: dict[str, str]) -> dict[str, str]:
    """Without empty values, which Alertmanager drops anyway, each on one line."""
    return {name: printable(value)[:1000] for name, value in pairs.items() if value}


def _test(notice: Notice, now_ms: int) -> PostableAlert:
    labels = {"alertname": "lineside_test", "severity": "info"}
    return PostableAlert(labels, {"summary": notice.title}, rfc3339(now_ms), rfc3339(now_ms + 60_000))
