"""Alertmanager: what is posted is what its API v2 takes, checked by a server that refuses all else."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from device_agent.contract.errors import BadInput
from fleet.routes import Item, NotTaken
from fleet.routes.alertmanager import AlertmanagerRoute
from fleet.routes.message import write_digest, write_notice, write_test
from fleet.routes.settings import RouteSettings, Wiring

NOW_MS = 1_760_000_000_000


def moment(text):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text), text
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def check_posted(alerts):
    """What api/v2/openapi.yaml asks of postableAlerts, and what Alertmanager refuses beyond it."""
    assert isinstance(alerts, list)
    for alert in alerts:
        assert set(alert) <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
        assert alert["labels"] and "alertname" in alert["labels"]
        for name, value in [*alert["labels"].items(), *alert.get("annotations", {}).items()]:
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) and isinstance(value, str) and value
        assert moment(alert["endsAt"]) > moment(alert["startsAt"])
        assert alert.get("generatorURL", "http://").startswith(("http://", "https://"))


@pytest.fixture
def manager(receiver):
    """A receiver that answers as Alertmanager does, and a route to it."""

    def answer(path, headers, body):
        try:
            assert path == "/api/v2/alerts" and headers["Content-Type"] == "application/json"
            check_posted(json.loads(body))
        except (AssertionError, KeyError, ValueError):
            return 400, {}
        return 200, {}

    receiver.answer = answer
    settings = RouteSettings(name="am", kind="alertmanager", link="https://monitor.example")
    url = f"http://127.0.0.1:{receiver.port}"
    return receiver, AlertmanagerRoute(Wiring(settings=settings, url=url, secret=b"token"), clock_ms=lambda: NOW_MS)


def posted(receiver):
    return [alert for _, _, body in receiver.requests for alert in json.loads(body)]


def test_an_open_alert_ends_in_six_minutes_unless_it_is_sent_again_and_a_closed_one_is_over(manager, alert_of):
    receiver, route = manager
    route.take(write_notice(Item("opened", alert_of()), NOW_MS))
    route.take(write_notice(Item("reminder", alert_of()), NOW_MS))
    route.take(write_notice(Item("closed", alert_of(closed_ms=NOW_MS + 5000)), NOW_MS))
    first, again, closed = posted(receiver)
    assert first["labels"] == again["labels"] == closed["labels"], "Alertmanager knows it again"
    assert (moment(first["endsAt"]) - moment(first["startsAt"])).total_seconds() == 360
    assert (moment(closed["endsAt"]) - moment(closed["startsAt"])).total_seconds() == 5
    assert first["labels"] | {"severity": "page", "site": "hall", "stream": "low+"} == first["labels"]
    assert "2.1x baseline" in first["annotations"]["description"] and first["generatorURL"] == "https://monitor.example"
    assert receiver.requests[0][1]["Authorization"] == "Bearer token"


def test_names_with_anything_in_them_are_values_that_it_takes(manager, alert_of):
    receiver, route = manager
    odd = alert_of(site='ha"ll\n{{ .Labels }}\x00', product="", text="x\r\ny" * 5000, cause="", model="")
    route.take(write_notice(Item("opened", odd), NOW_MS))
    (alert,) = posted(receiver)
    assert "\n" not in alert["labels"]["site"] and "product" not in alert["labels"]


def test_a_storm_goes_in_requests_of_500(manager, alert_of):
    receiver, route = manager
    route.take(write_digest([Item("opened", alert_of(id=f"a{k}")) for k in range(1201)], NOW_MS))
    assert [len(json.loads(body)) for _, _, body in receiver.requests] == [500, 500, 201]
    assert len({alert["labels"]["alert_id"] for alert in posted(receiver)}) == 1201


def test_a_test_is_an_alert_of_a_minute(manager):
    receiver, route = manager
    route.take(write_test("am", NOW_MS))
    assert posted(receiver)[0]["labels"] == {"alertname": "lineside_test", "severity": "info"}


def test_the_receiver_of_this_test_refuses_what_is_wrong(manager, alert_of, monkeypatch):
    _, route = manager
    monkeypatch.setattr("fleet.routes.alertmanager.rfc3339", lambda at_ms: "yesterday")
    with pytest.raises(NotTaken, match="status 400"):
        route.take(write_notice(Item("opened", alert_of()), NOW_MS))


def test_the_path_of_the_api_is_not_given_twice():
    with pytest.raises(BadInput, match="must be that of Alertmanager itself"):
        AlertmanagerRoute(Wiring(settings=RouteSettings(name="am", kind="alertmanager"), url="http://h/api/v2/alerts"))
