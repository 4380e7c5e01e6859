"""Mail and chat through apprise, to a real HTTP server; names of others forge and break nothing."""

from __future__ import annotations

import json
import logging

import pytest

from device_agent.contract.errors import BadInput
from fleet.routes import Item, NotTaken
from fleet.routes.message import write_digest, write_notice
from fleet.routes.people import AppriseRoute, plain
from fleet.routes.settings import RouteSettings, Wiring

pytest.importorskip("apprise", reason="package: apprise not installed")
EVIL = "hall\r\nsubject: all well\n[critical] closed <script>alert(1)</script> **x** [a](http://e.example) @all"
EVIL += "\x1b[2J\u202e"


def people(url):
    return AppriseRoute(Wiring(settings=RouteSettings(name="team", kind="apprise"), url=url))


def test_a_notice_arrives_with_title_text_and_kind(receiver, alert_of):
    route = people(f"json://127.0.0.1:{receiver.port}/token-x")
    route.take(write_notice(Item("opened", alert_of()), 0))
    route.take(write_notice(Item("closed", alert_of(closed_ms=5)), 0))
    first, second = (json.loads(body) for _, _, body in receiver.requests)
    assert "page" in first["title"] and "2.1x baseline" in first["message"] and first["type"] == "failure"
    assert "lens" in first["title"] and second["type"] == "success" and "closed: " in second["title"]


def test_one_that_is_not_taken_is_said_without_the_url(receiver, alert_of, caplog, capfd):
    receiver.answer = lambda *_: (403, {})
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(NotTaken, match=r"json://\.\.\. did not take it \(status 403\)") as found,
    ):
        people(f"json://127.0.0.1:{receiver.port}/token-x").take(write_notice(Item("opened", alert_of()), 0))
    assert "token-x" not in str(found.value) + caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("url", ["nothing://token-x", "token-x", "", "json://a,json://token-x"])
def test_what_apprise_does_not_know_is_refused_without_repeating_it(url):
    with pytest.raises(BadInput, match="is not one URL of a service") as found:
        people(url)
    assert "token-x" not in str(found.value)


@pytest.mark.parametrize("notice", [
    lambda alert: write_notice(Item("opened", alert), 0),
    lambda alert: write_digest([Item("opened", alert)] * 7, 0),
])  # fmt: skip
def test_names_cannot_forge_or_break_a_message(receiver, alert_of, notice):
    evil = alert_of(
        scope_kind="site", scope=EVIL, site=EVIL, product=EVIL, stream=f"def+:{EVIL}", cause=EVIL, text=f"{EVIL}: x"
    )
    honest = alert_of(scope_kind="site", scope="hall", site="hall")
    people(f"json://127.0.0.1:{receiver.port}/").take(notice(evil))
    people(f"json://127.0.0.1:{receiver.port}/").take(notice(honest))
    sent, fair = (json.loads(body) for _, _, body in receiver.requests)
    for field in ("title", "message"):
        assert not set(sent[field]) & set("<>[]*`@\x1b\r\u202e_|"), field
        assert "http://" not in sent[field]
    assert "\n" not in sent["title"]
    assert sent["message"].count("\n") == fair["message"].count("\n"), "no line more than an honest one has"


def test_plain_leaves_words_and_figures_as_they_are():
    assert plain("low confidence 2.1x baseline (1.8 to 2.5), e-value 10^16.2; 3 %") == (
        "low confidence 2.1x baseline (1.8 to 2.5), e-value 10^16.2; 3 %"
    )
