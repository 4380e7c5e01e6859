import itertools

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from device_agent.contract.broker import parse_broker
from device_agent.contract.codec import SCHEMA
from device_agent.contract.errors import BadInput, Unreachable
from device_agent.contract.report import read_backfill, read_report
from device_agent.contract.session import Ack
from fleet.commands.simulate import simulate
from fleet.detector_fleet import Settings
from fleet.ingest import Ingest
from fleet.schema import DEVICE, REPORT
from fleet.simulation.carriers import Outbox, carry
from fleet.simulation.direct import Kept, Plan, SiteRun, run_site, summarise
from fleet.simulation.plant import SimulatedFleet, phases_s
from fleet.simulation.stored import store_fleet
from fleet.simulation.storm import FIRST_S, HIGH_S, most_in_a_second, storm, wait_s
from fleet.store import open_store
from fleet.worlds import WORLDS, World
from tests.fixtures_broker import wait_until

END_MS = 1_790_000_000_000
SMALL = World(devices=4, frames=60)


def small(world=SMALL, devices=3, **options):
    return SimulatedFleet(world, devices, 5, **options)


def test_reports_are_sound_and_the_same_for_a_seed():
    first, again = (list(itertools.islice(small().minutes(1, start_ms=END_MS), 30)) for _ in range(2))
    assert first == again and [len(said) for said in first] == [3] * 30
    reports = [read_report(one.payload) for said in first for one in said if one.device == 1]
    assert [report.sequence for report in reports] == list(range(1, 31))
    assert all(report.frames == 60 and report.wall_ms == END_MS + report.sequence * 60_000 for report in reports)
    other = next(SimulatedFleet(SMALL, 3, 6).minutes(1, start_ms=END_MS))
    assert other != first[0]


def test_lost_reports_never_come_and_late_ones_once():
    world = World(devices=4, frames=60, lost=0.2, late=0.3)
    fleet = small(world)
    seen = [one for said in fleet.minutes(1, start_ms=END_MS) for one in said]
    keys = [(one.device, one.sequence) for one in seen]
    assert len(set(keys)) == len(keys)
    assert len(keys) / (3 * 1440) == pytest.approx(0.8, abs=0.03)
    late = [one for one in seen if one.late]
    assert len(late) / (3 * 1440) == pytest.approx(0.3, abs=0.03)
    assert read_report(late[0].payload).flags & 2


def test_wrong_clocks_are_wrong_by_as_much_for_ever():
    fleet = small(World(devices=4, frames=60, clock_s=3600.0))
    said = list(itertools.islice(fleet.minutes(1, start_ms=END_MS), 3))
    off = [read_report(minute[0].payload).wall_ms - END_MS - (k + 1) * 60_000 for k, minute in enumerate(said)]
    assert len(set(off)) == 1 and abs(off[0]) > 1000
    assert not read_report(said[0][0].payload).flags & 1


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"affected": 1.5}, {"interval_ms": 0}])
def test_fleets_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInput, match="simulation"):
        small(**wrong)


def test_phases_are_spread_over_the_interval():
    phases = phases_s(small(devices=400, interval_ms=10_000))
    assert phases.min() < 0.3 and phases.max() > 9.7 and np.histogram(phases, 10, (0, 10))[0].min() > 20


def test_a_store_is_filled_and_filling_goes_on_where_it_was(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path / 'fleet.db'}", create=True)
    fleet = small(World(devices=3, frames=60))

    class Stopped(Exception):
        pass

    def stop_at_noon(_line):
        raise Stopped

    with pytest.raises(Stopped):
        store_fleet(engine, fleet, 2, Settings(), end_ms=END_MS, tell=stop_at_noon)
    with engine.connect() as tx:
        assert tx.scalar(select(func.count()).select_from(REPORT)) == 3 * 1440
    rest = store_fleet(engine, fleet, 2, Settings(), end_ms=END_MS + 86_400_000)
    assert (rest.skipped_minutes, rest.stored, rest.rejected, rest.alerts) == (1440, 3 * 1440, 0, {})
    with engine.connect() as tx:
        times = tx.execute(select(func.min(REPORT.c.at_ms), func.max(REPORT.c.at_ms))).one()
        assert set(tx.scalars(select(DEVICE.c.site))) == {"site-0000"}
    assert times[1] - times[0] == 2879 * 60_000, "one run of time, as if it had not been stopped"


def test_a_fault_on_one_device_opens_an_alert_of_that_device(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path / 'fleet.db'}", create=True)
    fleet = SimulatedFleet(World(devices=5), 5, 8, fault="ood20", onset_min=300, affected=0.2)
    store_fleet(engine, fleet, 1, Settings(), end_ms=END_MS)
    opened = Ingest(engine, Settings()).alerts.open.values()
    assert {name for alert in opened for name in alert.devices} == {"sim-000000"}


def test_a_site_goes_straight_into_the_detector_the_same_each_time():
    plan = Plan(
        world="plain", devices=20, days=1, seed=61, fault="ood20", onset_min=200, affected=0.25, reference_days=1
    )
    world = World(devices=8)
    run = run_site(plan, world, 3)
    assert run == run_site(plan, world, 3) != run_site(plan, world, 4)
    paged = {alarm.device for alarm in run.alarms if alarm.level == "page" and alarm.delay_min}
    assert paged == {0, 4} and run.sick == 2 and run.healthy_minutes == 6 * 1440 + 2 * 200
    summary = summarise(plan, [run])
    assert summary.found["page"] == 1 and summary.false_alarms["page"] == 0 and summary.median_min["page"] < 60


@pytest.mark.parametrize("world", ["lossy", "int8", "classes"])
def test_harder_worlds_go_straight_into_the_detector(world):
    from dataclasses import replace

    plan = Plan(world=world, devices=20, days=1, seed=62, fault="bulk", onset_min=720, affected=0.5, reference_days=1)
    run = run_site(plan, replace(WORLDS[world], devices=4), 0)
    assert {alarm.device for alarm in run.alarms if alarm.delay_min is not None} >= {0, 2}
    assert not [alarm for alarm in run.alarms if alarm.delay_min is None and alarm.level != "warn"]


def test_a_textbook_test_can_be_simulated_in_the_detectors_place():
    plan = Plan(world="plain", devices=20, days=1, seed=63, fault="bulk", onset_min=0, reference_days=1, test="chi2")
    run = run_site(plan, World(devices=3), 0)
    assert {alarm.device for alarm in run.alarms if alarm.level == "page"} == {0, 1, 2}
    with pytest.raises(BadInput, match="known are"):
        run_site(msgspec.structs.replace(plan, test="hunch"), World(devices=3), 0)


def test_median_and_share_count_those_that_were_never_found():
    from fleet.simulation.direct import Alarm

    def alarm(device, delay):
        return Alarm(device=device, minute=9, level="page", delay_min=delay, stream="low+", score=20.0, ratio=None)

    plan = Plan(world="plain", devices=4, days=1, seed=1, fault="bulk")
    half = SiteRun(site=0, devices=4, sick=4, healthy_minutes=0, alarms=[alarm(0, 5), alarm(1, 9)])
    assert summarise(plan, [half]).median_min["page"] is None and summarise(plan, [half]).found["page"] == 0.5
    most = msgspec.structs.replace(half, alarms=[*half.alarms, alarm(2, 7), alarm(2, 400), alarm(3, None)])
    found = summarise(plan, [most])
    assert (found.median_min["page"], found.found["page"], found.false_alarms["page"]) == (9.0, 0.75, 1)


def test_results_are_kept_and_a_line_that_was_cut_is_run_again(tmp_path):
    path, plan = tmp_path / "runs.jsonl", Plan(world="plain", devices=40, days=1, seed=1)
    run = SiteRun(site=0, devices=20, sick=0, healthy_minutes=9, alarms=[])
    Kept(path, plan).add(run)
    with path.open("ab") as out:
        out.write(b'{"plan":{"world":"pl')
    again = Kept(path, plan)
    assert again.runs == {0: run}
    again.add(msgspec.structs.replace(run, site=1))
    assert set(Kept(path, plan).runs) == {0, 1}
    assert not Kept(path, msgspec.structs.replace(plan, seed=2)).runs, "another plan has its own lines"
    path.write_text("device,site\n")
    with pytest.raises(BadInput, match="line 1 is no result"):
        Kept(path, plan)


def test_an_outbox_sends_again_what_was_not_acknowledged():
    outbox = Outbox(epoch=9)
    payloads = [one.payload for said in itertools.islice(small(devices=1).minutes(1, start_ms=1), 70) for one in said]
    for sequence, payload in enumerate(payloads, start=1):
        outbox.put(sequence, payload, float(sequence))
    assert outbox.acknowledge(Ack(SCHEMA, 9, 2), 72.0) == [71.0, 70.0]
    assert [report.sequence for report in read_backfill(outbox.again(80.0))] == list(range(3, 63))
    assert outbox.acknowledge(Ack(SCHEMA, 9, 99), 90.0) and outbox.again(91.0) is None


def test_agents_wait_longer_after_each_failure():
    rng = np.random.default_rng(1)
    first, later = (np.array([wait_s(failures, rng) for _ in range(4000)]) for failures in (1, 9))
    assert first.min() >= 1 and FIRST_S * 0.95 < first.max() <= FIRST_S and HIGH_S * 0.95 < later.max() <= HIGH_S
    assert most_in_a_second(rng.uniform(1, FIRST_S, 10_000).tolist()) < 500
    assert most_in_a_second([]) == 0


def test_a_storm_of_more_agents_than_files_is_refused():
    with pytest.raises(BadInput, match="open files"):
        storm(parse_broker("mqtt://127.0.0.1"), small(devices=900_000), rng=np.random.default_rng(1), clock_s=float)


class Answering:
    """The monitor's side: takes what comes and acknowledges, but not before it was told to."""

    def __init__(self, mosquitto):
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        from device_agent.contract import topics
        from device_agent.contract.codec import encode

        self.seen, self.kinds, self.answer, self._mqtt = {}, [], True, topics
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)

        def hear(client, _data, message):
            device, kind = topics.parse_up(message.topic)
            self.kinds.append(kind)
            if kind in ("report", "backfill"):
                read = read_backfill if kind == "backfill" else lambda payload: [read_report(payload)]
                for report in read(message.payload):
                    self.seen.setdefault(device, set()).add(report.sequence)
                    if self.answer:
                        client.publish(topics.down(device, "ack"), encode(Ack(SCHEMA, report.epoch, report.sequence)))

        self.client.on_message = hear
        self.client.connect(mosquitto.host, mosquitto.port)
        self.client.subscribe(f"{topics.ROOT}/up/#", qos=1)
        self.client.loop_start()

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


def carried(mosquitto, fleet, minutes, **options):
    import time

    return carry(
        parse_broker(mosquitto.url),
        fleet,
        1,
        connections=2,
        start_ms=END_MS,
        clock_s=time.monotonic,
        pause=time.sleep,
        minutes=minutes,
        **options,
    )


@pytest.mark.broker
def test_a_fleet_speaks_over_a_broker_until_everything_is_acknowledged(mosquitto):
    monitor, fleet = Answering(mosquitto), small(devices=5, interval_ms=200)
    monitor.answer = False
    said = []

    def later(line):
        said.append(line)
        monitor.answer = len(said) > 2

    found = carried(mosquitto, fleet, 6, tell=later, patience_s=20)
    wait_until(lambda: monitor.kinds.count("state") >= 10, message="the last states did not come")
    monitor.stop()
    assert (found.sent, found.acknowledged, found.held, found.connections) == (30, 30, 0, 2)
    assert monitor.seen == {fleet.name(k): set(range(1, 7)) for k in range(5)}
    assert monitor.kinds.count("birth") == 5 and found.lag_s is not None and len(said) == 6


@pytest.mark.broker
def test_a_monitor_that_never_answers_leaves_reports_held(mosquitto):
    found = carried(mosquitto, small(devices=2, interval_ms=50), 3, patience_s=0.6)
    assert (found.held, found.acknowledged, found.lag_s) == (6, 0, None) and found.sent_again > 0


def retained_states(mosquitto, count):
    """What a newcomer is told of each device: online, reason."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    from device_agent.contract import topics
    from device_agent.contract.codec import decode
    from device_agent.contract.session import State

    states = {}

    def hear(_client, _data, message):
        device, kind = topics.parse_up(message.topic)
        if kind == "state":
            state = decode(message.payload, State)
            states[device] = state.online, state.reason

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = hear
    client.connect(mosquitto.host, mosquitto.port)
    client.subscribe(f"{topics.ROOT}/up/#", qos=1)
    client.loop_start()
    wait_until(lambda: len(states) == count and not any(online for online, _ in states.values()), message=str(states))
    client.disconnect()
    client.loop_stop()
    return states


@pytest.mark.broker
def test_agents_of_a_storm_come_back_one_by_one(mosquitto):
    ticks = itertools.count()
    found = storm(
        parse_broker(mosquitto.url), small(devices=60), rng=np.random.default_rng(2), clock_s=lambda: next(ticks) / 5
    )
    assert (found.agents, found.connected, found.retried) == (60, 60, 0) and 1 <= found.most_a_s < 60
    states = retained_states(mosquitto, 60)
    assert set(states.values()) == {(False, "lost")}, "nobody is left online on the broker"


def test_a_broker_that_is_not_there_is_one_clear_line(free_port):
    broker, ticks = parse_broker(f"mqtt://127.0.0.1:{free_port}"), itertools.count()
    with pytest.raises(Unreachable, match="no agent could connect"):
        storm(broker, small(), rng=np.random.default_rng(1), clock_s=lambda: float(next(ticks)), patience_s=90)
    with pytest.raises(Unreachable, match="no answer"):
        carry(
            broker,
            small(),
            1,
            connections=1,
            start_ms=1,
            clock_s=lambda: float(next(ticks)),
            pause=lambda _s: None,
            patience_s=5,
        )


def run(*arguments):
    return CliRunner().invoke(simulate, list(arguments))


def test_the_command_lists_worlds_and_prints_alarms():
    listed = run("--world", "list")
    assert listed.exit_code == 0 and "lossy" in listed.stdout and "slow lens dirt" in listed.stdout
    said = run("--devices", "2", "--days", "1", "--world", "slow", "--fault", "ood20", "--onset", "2h", "--json")
    assert said.exit_code == 0
    found = msgspec.json.decode(said.stdout)
    assert found["summary"]["sick"] == 1 and found["sites"][0]["alarms"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--devices", "2", "--world", "sea"], "known are plain"),
        (["--devices", "2", "--fault", "flood"], "must be one of none"),
        (["--devices", "2", "--fault", "labels"], "several defect classes"),
        (["--devices", "2", "--storm"], "--storm needs --broker"),
        (["--storm"], "--storm needs --devices"),
        (["--devices", "2", "--direct", "--store", "sqlite:///x.db"], "give one of them"),
        (["--devices", "2", "--chaos"], "give one of them"),
        (["--devices", "2", "--broker", "mqtt://x", "--out", "y"], "--out is for --direct"),
        (["--chaos"], "--out FOLDER is missing"),
    ],
)
def test_options_that_do_not_go_together_are_told(arguments, says):
    found = run(*arguments)
    assert isinstance(found.exception, BadInput) and says in str(found.exception)


def test_an_onset_that_is_no_time_is_a_usage_error():
    found = run("--devices", "2", "--onset", "noon")
    assert found.exit_code == 2 and "90m, 12h or 2d" in found.output
