"""The demo's judge must not pass what a fleet manager would not."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.alert import Alert
from toolkit.demo.judgement import Expectation, judge

EXPECTED = Expectation(
    dirty_device="cam-1b", dirty_ms=10_000, changeover_site="line-2", changeover_ms=20_000, interval_ms=1000
)
PAGE = Alert(
    id="a1",
    severity="page",
    scope_kind="device",
    scope="cam-1b",
    site="line-1",
    model="m",
    stream="low+",
    opened_ms=14_000,
    onset_ms=11_000,
    updated_ms=14_000,
    paged_ms=14_000,
    text="",
)
SITE = msgspec.structs.replace(
    PAGE, id="s1", severity="warn", scope_kind="site", scope="line-2", site="line-2", opened_ms=24_000
)


def but(alert: Alert, **changes: object) -> Alert:
    return msgspec.structs.replace(alert, **changes)


def test_a_page_and_one_site_alert_pass() -> None:
    found = judge([PAGE, SITE], EXPECTED)
    assert found.failures == []
    assert (found.paged_after_intervals, found.site_alerts) == (4.0, 1)


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ([SITE], "never paged"),
        ([but(PAGE, severity="warn", paged_ms=None)], "never paged"),
        ([but(PAGE, paged_ms=40_001)], "30.0, not within 30 report intervals"),
        ([but(PAGE, opened_ms=9_000)], "not true"),
        ([PAGE, but(PAGE, id="a2", scope="cam-1a", severity="warn")], "warn cam-1a"),
        ([PAGE, SITE, but(SITE, id="s2", stream="bulk+")], "2 site alerts"),
        ([PAGE, but(SITE, site="line-1", scope="line-1")], "not true"),
        ([PAGE, but(SITE, opened_ms=19_000)], "not true"),
    ],
)
def test_anything_else_fails(alerts: list[Alert], words: str) -> None:
    assert words in " ".join(judge(alerts, EXPECTED).failures)


def test_an_inhibited_alert_was_never_raised() -> None:
    assert judge([PAGE, SITE, but(PAGE, id="a3", scope="cam-2a", inhibited_by="s1")], EXPECTED).failures == []
