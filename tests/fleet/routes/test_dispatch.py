"""Delivery: at least once, never twice in practice, never held up by another route."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from sqlalchemy import delete, select

from fleet.acknowledgements import acknowledge
from fleet.matching import Matcher
from fleet.routes import NotTaken
from fleet.routes.outbox import read_deliveries
from fleet.routes.settings import RouteSettings
from fleet.routes.state import read_route_status, say_route_troubles
from fleet.schema import AUDIT, DELIVERY, OUTBOX
from fleet.silences import add_silence, expire_silence

DAY_MS = 86_400_000


def route(name="team", **changes):
    return RouteSettings(**{"name": name, "kind": "memory", **changes})


def closed(alert, at_ms):
    return msgspec.structs.replace(alert, closed_ms=at_ms, updated_ms=at_ms, closed_reason="back to normal")


def test_an_alert_is_told_once_and_once_more_when_it_closes(desk, alert_of):
    d = desk(route())
    d.change((alert_of(), "opened"))
    d.turn(10)
    assert d.told("team") == [("opened", "a1")]
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn(10)
    assert d.told("team") == [("opened", "a1"), ("closed", "a1")]


def test_newer_figures_are_not_told_and_a_worse_severity_is(desk, alert_of):
    d = desk(route(severity="warn"))
    d.change((alert_of(severity="warn"), "opened"))
    d.turn()
    d.change((alert_of(severity="warn", text="newer"), "updated"))
    d.turn()
    d.change((alert_of(severity="critical"), "raised"))
    d.turn()
    assert d.told("team") == [("opened", "a1"), ("raised", "a1")]


def test_teams_get_theirs(desk, alert_of):
    d = desk(
        route("hall", match=Matcher(site=["hall*"])),
        route("yard", match=Matcher(site=["yard"])),
        route("blind", match=Matcher(stream=["def-*"], label=["scratch"]), severity="warn"),
        route("all", severity="info"),
    )
    d.change(
        (alert_of(), "opened"),
        (alert_of(id="a2", site="yard", severity="warn"), "opened"),
        (alert_of(id="a3", site="yard", stream="def-:scratch/runs", severity="warn"), "opened"),
    )
    d.turn(8)
    assert d.told("hall") == [("opened", "a1")] and d.told("yard") == []
    assert d.told("blind") == [("opened", "a3")] and sorted(d.told("all"))[0] == ("opened", "a1")
    assert len(d.told("all")) == 3


def test_a_restart_tells_nothing_twice_and_forgets_nothing(desk, alert_of):
    d = desk(route())
    d.change((alert_of(), "opened"))
    d.turn()
    d.change((alert_of(id="a2"), "opened"))
    d.anew()
    d.turn(6)
    assert d.told("team") == [("opened", "a1"), ("opened", "a2")]


def test_what_was_sent_and_not_written_down_is_sent_again_under_the_same_id(desk, alert_of):
    d = desk(route())
    d.change((alert_of(), "opened"))
    d.turn(1)  # sent; a kill here comes before the outcome is written
    assert len(d.routes["team"].taken) == 1
    d.lanes[0].done()
    d.anew()
    d.turn(4)
    first, second = d.routes["team"].taken
    assert first.id == second.id


def test_an_unreachable_route_is_tried_ever_more_rarely_and_holds_up_no_other(desk, alert_of):
    d = desk(route("broken"), route("good"))
    d.routes["broken"].failing = NotTaken("smtp://mail is away")
    tries = []
    original = d.routes["broken"].take
    d.routes["broken"].take = lambda notice: (tries.append(d.now_ms), original(notice))
    d.change((alert_of(), "opened"))
    d.turn(5, step_ms=1000)
    assert d.told("good") == [("opened", "a1")]
    d.turn(60, step_ms=5000)
    d.turn(200, step_ms=60_000)
    gaps = [later - before for before, later in pairwise(tries)]
    assert gaps[0] <= 8_000 and all(450_000 <= gap <= 960_000 for gap in gaps[9:]) and 12 <= len(tries) < 30
    with d.engine.connect() as tx:
        (broken,) = [each for each in read_route_status(tx) if each.failing_ms is not None]
        assert (broken.route, broken.waiting) == ("broken", 1) and "smtp://mail is away" in say_route_troubles(
            [broken]
        )[0]
    assert len([line for line in d.said if "broken" in line]) == 1, "said once, not at every try"
    d.routes["broken"].failing = None
    d.turn(20, step_ms=60_000)
    assert d.told("broken") == [("opened", "a1")]


def test_a_page_that_opened_and_closed_while_the_route_was_away_is_told_when_it_is_back(desk, alert_of):
    d = desk(route())
    d.routes["team"].failing = NotTaken("away")
    d.change((alert_of(), "opened"))
    d.turn(4)
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn(3)
    d.routes["team"].failing = None
    d.turn(100, step_ms=1000)
    assert d.told("team") == [("closed", "a1")]


def test_a_closed_alert_is_given_up_after_a_week_with_a_record_and_an_open_one_never(desk, alert_of):
    d = desk(route())
    d.routes["team"].failing = NotTaken("away")
    d.change((alert_of(), "opened"), (alert_of(id="a2"), "opened"))
    d.turn(4)
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn(3)
    d.turn(220, step_ms=3_600_000)  # 9 days
    with d.engine.connect() as tx:
        found = read_deliveries(tx, ["a1", "a2"])
    assert found["a1"][0].given_up_ms is not None and "given up" in found["a1"][0].held
    assert found["a2"][0].given_up_ms is None and found["a2"][0].due_ms is not None
    assert any("gives up" in line for line in d.said)


def test_a_notice_that_is_refused_does_not_hold_up_the_next_one(desk, alert_of):
    d = desk(route())
    taken, original = [], d.routes["team"].take

    def picky(notice):
        if notice.items[0].alert.id == "a1":
            raise NotTaken("status 422", refused=True)
        original(notice)
        taken.append(notice.items[0].alert.id)

    d.routes["team"].take = picky
    d.change((alert_of(severity="critical"), "opened"))
    d.turn()
    d.change((alert_of(id="a2"), "opened"))
    d.turn()
    assert taken == ["a2"]


def test_a_storm_is_one_digest_with_counts_and_the_rate_holds(desk, alert_of):
    d = desk(route(most_a_minute=3))
    storm = [alert_of(id=f"s{k}", scope=f"cam-{k}", devices=[f"cam-{k}"], site=f"hall-{k % 3}") for k in range(10_000)]
    d.change(*((alert, "opened") for alert in storm))
    d.turn(4)
    (notice,) = d.routes["team"].taken
    assert notice.kind == "digest" and notice.counts == {"page": 10_000} and len(notice.items) == 10_000
    assert "10000 alerts at once" in notice.text and "3334 at hall-0" in notice.text and len(notice.text) <= 6000
    for k in range(40):
        d.change((alert_of(id=f"t{k}"), "opened"))
        d.turn(2)
    assert len(d.routes["team"].taken) <= 4, "3 a minute, and 40 s went by"
    d.turn(150, step_ms=1000)
    assert {alert for _, alert in d.told("team")} >= {f"t{k}" for k in range(40)}
    assert len(d.told("team")) == 10_040


def silence(d, minutes, **matcher):
    with d.engine.begin() as tx:
        return add_silence(
            tx, "silence", Matcher(**matcher), from_ms=d.now_ms, until_ms=d.now_ms + minutes * 60_000,
            reason="lamp", who="ann", now_ms=d.now_ms,
        )  # fmt: skip


def test_a_silenced_alert_is_told_when_the_silence_ends_if_it_is_still_open(desk, alert_of):
    d = desk(route())
    silence(d, 10, site=["hall"])
    d.change((alert_of(), "opened"), (alert_of(id="a2"), "opened"), (alert_of(id="a3", site="yard"), "opened"))
    d.turn(20, step_ms=10_000)
    assert d.told("team") == [("opened", "a3")]
    with d.engine.connect() as tx:
        assert read_deliveries(tx, ["a1"])["a1"][0].held.startswith("silenced by ")
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn(60, step_ms=10_000)
    assert d.told("team") == [("opened", "a3"), ("opened", "a2")]


def test_a_silence_that_is_ended_by_hand_ends_at_once(desk, alert_of):
    d = desk(route())
    made = silence(d, 600)
    d.change((alert_of(), "opened"))
    d.turn(4)
    with d.engine.begin() as tx:
        expire_silence(tx, made.id, d.now_ms)
    d.turn(20, step_ms=1000)
    assert d.told("team") == [("opened", "a1")]


def test_the_close_of_an_alert_that_was_told_is_told_in_silence_too(desk, alert_of):
    d = desk(route())
    d.change((alert_of(), "opened"))
    d.turn()
    silence(d, 600)
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn()
    assert d.told("team")[-1] == ("closed", "a1")


def test_a_changeover_window_ends_with_a_new_baseline_and_without_a_message(desk, alert_of):
    from fleet.registry import Device, import_places

    d = desk(route())
    with d.engine.begin() as tx:
        import_places(tx, [Device(device="cam-1", site="hall", product="tin", imported=True),
                           Device(device="cam-9", site="yard", imported=True)])  # fmt: skip
        add_silence(tx, "changeover", Matcher(site=["hall"]), from_ms=d.now_ms, until_ms=d.now_ms + 60_000,
                    reason="new tin", who="ann", now_ms=d.now_ms)  # fmt: skip
    d.change((alert_of(), "opened"))
    d.turn(14, step_ms=5000)  # 70 s: the window is over, the monitor has not yet done what it was asked
    assert d.told("team") == []
    with d.engine.connect() as tx:
        assert tx.execute(select(AUDIT.c.action, AUDIT.c.target)).all() == [("changeover", "cam-1")]
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn(30, step_ms=5000)
    with d.engine.connect() as tx:
        assert len(tx.execute(select(AUDIT.c.id)).all()) == 1, "asked once"
    assert d.told("team") == []


def test_a_page_that_nobody_takes_note_of_goes_to_the_next_and_again_until_somebody_does(desk, alert_of):
    d = desk(route("lead", repeat_min=10), route("manager", after_min=15))
    d.change((alert_of(), "opened"))
    d.turn(14 * 6, step_ms=10_000)
    assert d.told("manager") == [] and [what for what, _ in d.told("lead")] == ["opened", "reminder"]
    d.turn(2 * 6, step_ms=10_000)
    assert d.told("manager") == [("opened", "a1")]
    with d.engine.begin() as tx:
        acknowledge(tx, "a1", who="ann", note="on my way", now_ms=d.now_ms)
    before = len(d.told("lead"))
    d.turn(60 * 6, step_ms=10_000)
    assert len(d.told("lead")) == before


def test_nobody_is_called_who_comes_after_one_that_took_note(desk, alert_of):
    d = desk(route("manager", after_min=15))
    d.change((alert_of(), "opened"))
    d.turn()
    with d.engine.begin() as tx:
        acknowledge(tx, "a1", who="ann", note="", now_ms=d.now_ms)
    d.turn(20 * 6, step_ms=10_000)
    d.change((closed(alert_of(), d.now_ms), "closed"))
    d.turn()
    assert d.told("manager") == []


def test_a_covered_alert_is_not_told_and_told_once_it_is_covered_no_more(desk, alert_of):
    d = desk(route(match=Matcher(device=["cam-1"])))
    d.change((alert_of(inhibited_by="site"), "inhibited"))
    d.turn()
    assert d.told("team") == []
    d.change((alert_of(), "raised"))
    d.turn()
    assert d.told("team") == [("opened", "a1")]


def test_of_two_dispatchers_one_works_and_the_other_takes_over(desk, alert_of):
    first, second = desk(route()), desk(route(), owner="two")
    first.change((alert_of(), "opened"))
    assert first.dispatcher.turn() and not second.dispatcher.turn()
    first.turn()
    second.now_ms = first.now_ms + 31_000
    second.turn()
    assert not second.told("team"), "it was told already"
    second.change((alert_of(id="a2"), "opened"))
    second.turn()
    assert second.told("team") == [("opened", "a2")]
    first.now_ms = second.now_ms
    assert not first.dispatcher.turn()
    second.dispatcher.close()
    assert first.dispatcher.turn()


def test_open_alerts_of_a_store_without_an_outbox_are_told_after_a_start(desk, alert_of):
    d = desk(route())
    d.change((alert_of(), "opened"))
    with d.engine.begin() as tx:
        tx.execute(delete(OUTBOX))
    d.turn()
    assert d.told("team") == [("opened", "a1")]


def test_a_route_that_blocks_is_left_to_itself_and_others_go_on(desk, alert_of):
    jobs = []
    d = desk(route("stuck", timeout_s=1), start=jobs.append)
    d.change((alert_of(), "opened"))
    d.turn(2)
    assert len(jobs) == 1
    d.turn(45, step_ms=1000)
    assert len(jobs) == 2 and any("blocked for 33 s" in line for line in d.said)
    jobs[1]()
    d.turn(4)
    assert d.told("stuck") == [("opened", "a1")]
    jobs[0]()  # the first one comes back after all, and counts for nothing
    d.turn(10, step_ms=60_000)
    assert len(jobs) == 2


def test_a_store_that_cannot_be_written_is_said_once_and_tried_again(desk, alert_of, monkeypatch):
    from device_agent.contract.errors import NotWritable

    d = desk(route())
    d.change((alert_of(), "opened"))
    with monkeypatch.context() as broken:
        broken.setattr("fleet.routes.dispatch.plan", lambda *_, **__: (_ for _ in ()).throw(NotWritable("disk full")))
        d.turn(5)
    assert d.said == ["disk full; alerts wait, trying again"] and d.told("team") == []
    d.turn(5)
    assert d.told("team") == [("opened", "a1")]


def test_machines_hear_of_open_alerts_again_and_of_every_change(desk, alert_of):
    d = desk(route(resend_min=2))
    d.change((alert_of(), "opened"))
    d.turn(30, step_ms=10_000)
    assert [what for what, _ in d.told("team")] == ["opened", "reminder", "reminder"]
    d.change((alert_of(cause="light: brightness 60, was 120"), "explained"))
    d.turn()
    d.change((alert_of(inhibited_by="s1"), "inhibited"))
    d.turn()
    assert [what for what, _ in d.told("team")][-2:] == ["explained", "inhibited"]


@pytest.mark.parametrize("count", [1, 5, 6])
def test_few_are_told_alone_and_many_together(desk, alert_of, count):
    d = desk(route())
    d.change(*((alert_of(id=f"b{k}"), "opened") for k in range(count)))
    d.turn(20)
    assert [notice.kind for notice in d.routes["team"].taken] == (["digest"] if count > 5 else ["alert"] * count)


def test_secrets_are_in_no_table(desk, alert_of):
    d = desk(route(url_env="TEAM_URL"))
    d.change((alert_of(), "opened"))
    d.turn()
    with d.engine.connect() as tx:
        assert "TEAM_URL" not in str(tx.execute(select(DELIVERY)).all())


def test_what_ingest_finds_is_told(plant, desk_of):
    from fleet.detector_fleet import Settings
    from fleet.inbox import read_batch
    from fleet.ingest import Ingest

    engine = plant.open(places={"cam-1": ("hall", "tin")})
    d, ingest = desk_of(engine, route()), Ingest(engine, Settings(interval_ms=1000))
    speaker = plant.speaker("cam-1", seed=2)
    for window in range(70):
        message = speaker.message(speaker.report("healthy" if window < 30 else "dirty"))
        ingest.process(read_batch([message]), message.received_ms)
        d.now_ms = message.received_ms
        d.turn(1)
    d.turn()
    (told,) = {alert for _, alert in d.told("team")}
    assert told in ingest.alerts.open and d.told("team")[0][0] == "opened"
    text = d.routes["team"].taken[-1].text
    assert "x baseline (" in text and "measured: e-value 10^" in text and "likely cause: lens" in text
