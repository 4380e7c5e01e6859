"""Silent and flapping devices: each is found; no outage of monitor or broker, no clock and no late report is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.absence import NEVER, count_sites, is_silent, judge, silence_limit_ms, silence_ms
from fleet.presence import BACK_MS, Presence

MINUTE = 60_000
LIMIT = 330_000
WALL = 1_760_000_000_000
TURN_MS = 5_000


class Plant:
    """Devices that report every minute, the broker between, and a monitor that looks every 5 s; times in ms."""

    def __init__(self, sites: dict[str, int], *, seed: int = 0, interval_ms: int = MINUTE) -> None:
        self.rng, self.interval_ms = random.Random(seed), interval_ms
        self.now, self.step_ms = 0, 0
        self.names = [f"{site}-{k}" for site, count in sites.items() for k in range(count)]
        self.phase = {name: self.rng.randrange(self.interval_ms) for name in self.names}
        self.back = dict.fromkeys(self.names, 0)
        self.session = dict.fromkeys(self.names, 65_536)
        self.dead: set[str] = set()
        self.last_wall = dict.fromkeys(self.names, WALL)
        self.broker = self.monitor = True
        self.found: dict[tuple[str, str, str], object] = {}
        self.opened: list = []
        self.start_monitor()

    def start_monitor(self) -> None:
        self.monitor, self.presence = True, Presence(self.now)
        for name in self.names:
            self.presence.know(
                name,
                site=name.rpartition("-")[0],
                interval_ms=self.interval_ms,
                due=True,
                wall_ms=self.last_wall[name],
                session=self.session[name],
            )
        for absence in self.found.values():
            self.presence.take_up(*absence[:4], absence.devices)

    def wall(self) -> int:
        return WALL + self.now + self.step_ms

    def run(self, ms: int) -> None:
        for _ in range(ms // TURN_MS):
            self.now += TURN_MS
            if self.monitor:
                self.turn()

    def turn(self) -> None:
        self.presence.turn(self.now, hearing=self.broker)
        if self.broker:
            spoke = [name for name in self.names if name not in self.dead and self._speaks(name)]
            self.presence.hear_reports(spoke, self.now, self.wall())
            self.last_wall.update(dict.fromkeys(spoke, self.wall()))
        held, over = self.presence.find()
        self.opened += [absence for absence in held if absence.key not in self.found]
        self.found = {**self.found, **{absence.key: absence for absence in held}}
        for absence in over:
            del self.found[absence.key]

    def _speaks(self, name: str) -> bool:
        due = (self.now - self.phase[name]) % self.interval_ms < TURN_MS
        return self.now >= self.back[name] and (due or self.now - self.back[name] < TURN_MS)

    def lose_broker(self, ms: int) -> None:
        """Afterwards each device comes back within 300 s, with the report that it kept."""
        self.broker = False
        self.run(ms)
        self.broker = True
        for name in self.names:
            self.back[name] = self.now + self.rng.randrange(300_000)
            if name not in self.dead:
                self.connect(name, at_ms=self.back[name])

    def connect(self, name: str, *, at_ms: int | None = None, times: int = 1) -> None:
        self.session[name] += times
        moment = self.now if at_ms is None else at_ms
        self.presence.hear_state(name, self.session[name], online=True, ended=False, now_ms=moment)

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        return set(self.found)


def test_a_device_that_stops_is_found_once_and_over_when_it_speaks():
    plant = Plant({"hall": 8})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-3")
    plant.run(5 * MINUTE)
    assert not plant.found
    plant.run(2 * MINUTE)
    (absence,) = plant.found.values()
    assert absence.key == ("silent", "device", "hall-3") and absence.severity == "warn"
    assert absence.onset_ms == plant.last_wall["hall-3"] and absence.text.startswith(
        "hall-3: no report since 2025-10-09"
    )
    plant.run(60 * MINUTE)
    assert len(plant.opened) == 1
    plant.dead.clear()
    plant.run(2 * MINUTE)
    assert not plant.found


@pytest.mark.parametrize("dead", [11, 20])
def test_a_site_that_falls_silent_is_one_finding(dead):
    plant = Plant({"hall": 20, "yard": 6})
    plant.run(20 * MINUTE)
    plant.dead = set(plant.names[:dead])
    plant.run(10 * MINUTE)
    (absence,) = plant.opened
    assert absence.key == ("silent", "site", "hall") and len(absence.devices) == dead
    assert f"{dead} of 20 devices send no reports" in absence.text
    for name in plant.names[:dead]:  # they come back one by one within 300 s, but for one that stays away
        plant.back[name] = plant.now + plant.rng.randrange(300_000)
    plant.dead = {plant.names[0]}
    plant.run(5 * MINUTE)
    assert plant.keys == {("silent", "site", "hall")}, "no finding for those that are not back yet"
    plant.run(BACK_MS + MINUTE)
    assert plant.keys == {("silent", "device", plant.names[0])}
    assert len(plant.opened) == 2


def test_fewer_than_half_of_a_site_are_findings_of_their_own():
    plant = Plant({"hall": 20})
    plant.run(20 * MINUTE)
    plant.dead = set(plant.names[:9])
    plant.run(10 * MINUTE)
    assert plant.keys == {("silent", "device", name) for name in plant.names[:9]}


def test_devices_without_a_place_have_no_site():
    presence = Presence(0)
    for name in "abcd":
        presence.know(name, site="", interval_ms=1000, due=True, wall_ms=WALL)
    for now in range(0, 400_000, 5000):
        presence.turn(now, hearing=True)
    assert {absence.scope for absence in presence.find().held} == set("abcd")


@pytest.mark.parametrize("away_ms", [2 * MINUTE, 4 * MINUTE, 3_600_000, 7 * 86_400_000 // 60])
def test_a_restart_of_the_monitor_finds_nobody(away_ms):
    plant = Plant({"hall": 12})
    plant.run(20 * MINUTE)
    plant.monitor = False
    plant.run(away_ms)
    plant.start_monitor()
    plant.run(30 * MINUTE)
    assert not plant.opened


def test_before_a_full_limit_after_its_start_a_monitor_finds_nobody_however_long_they_are_silent():
    plant = Plant({"hall": 12})
    plant.dead = set(plant.names)
    plant.run(LIMIT)
    assert not plant.opened
    plant.run(2 * TURN_MS)
    assert plant.keys == {("silent", "site", "hall")}


def test_open_findings_survive_a_restart_without_being_opened_again_or_closed():
    plant = Plant({"hall": 12, "yard": 9})
    plant.run(20 * MINUTE)
    plant.dead = {"hall-1", *(f"yard-{k}" for k in range(8))}
    plant.run(10 * MINUTE)
    before = plant.keys
    assert before == {("silent", "device", "hall-1"), ("silent", "site", "yard")}
    onsets = {key: absence.onset_ms for key, absence in plant.found.items()}
    plant.monitor = False
    plant.run(MINUTE)
    plant.start_monitor()
    plant.run(MINUTE)
    assert plant.keys == before and len(plant.opened) == 2
    plant.run(20 * MINUTE)
    assert plant.keys == before and len(plant.opened) == 2
    assert {key: absence.onset_ms for key, absence in plant.found.items()} == onsets
    plant.dead.clear()
    plant.run(2 * MINUTE)
    assert not plant.found


@pytest.mark.parametrize("interval_ms", [10_000, MINUTE])
@pytest.mark.parametrize("away_ms", [30_000, 10 * MINUTE])
def test_an_outage_of_the_broker_finds_nobody_while_devices_come_back_at_random(away_ms, interval_ms):
    plant = Plant({"hall": 20, "yard": 20}, interval_ms=interval_ms)
    plant.run(20 * MINUTE)
    for _ in range(15):
        plant.lose_broker(away_ms)
        plant.run(4 * MINUTE)
    plant.run(20 * MINUTE)
    assert not plant.opened, "neither silent nor flapping"


def test_a_device_that_stops_is_found_though_the_broker_goes_away_meanwhile():
    plant = Plant({"hall": 20})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-3")
    plant.run(3 * MINUTE)
    plant.lose_broker(MINUTE)
    plant.run(7 * MINUTE)
    assert plant.keys == {("silent", "device", "hall-3")}


def test_a_monitor_that_was_stopped_for_an_hour_finds_nobody_when_it_goes_on():
    """As by SIGSTOP, or on a machine that stood still: its broker counts as connected all the time."""
    plant = Plant({"hall": 12})
    plant.run(20 * MINUTE)
    plant.now += 3_600_000
    plant.run(20 * MINUTE)
    assert not plant.opened


@pytest.mark.parametrize("step_ms", [-86_400_000, 3_600_000, 10 * 365 * 86_400_000])
def test_a_step_of_the_wall_clock_finds_nobody(step_ms):
    plant = Plant({"hall": 12})
    plant.run(20 * MINUTE)
    plant.step_ms = step_ms
    plant.run(20 * MINUTE)
    assert not plant.opened


def test_late_and_merged_reports_are_signs_of_life():
    """A device that comes back sends what it kept, for longer than a finding takes; its reports are of days ago."""
    plant = Plant({"hall": 4})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-0")
    plant.run(10 * MINUTE)
    assert plant.keys == {("silent", "device", "hall-0")}
    for _ in range(30):
        plant.presence.hear_reports(["hall-0"], plant.now, plant.wall() - 2 * 86_400_000)
        plant.run(30_000)
        assert not plant.found


def test_a_device_that_ended_in_order_is_not_missed_until_it_is_back():
    plant = Plant({"hall": 6})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-2")
    plant.presence.hear_state("hall-2", 65_536, online=False, ended=True, now_ms=plant.now)
    plant.run(60 * MINUTE)
    assert not plant.opened
    plant.session["hall-2"] = 2 * 65_536
    plant.connect("hall-2")
    plant.run(5 * MINUTE)
    assert not plant.opened, "the time for which it was away is no silence"
    plant.run(MINUTE)
    assert plant.keys == {("silent", "device", "hall-2")}
    assert "sends nothing" in next(iter(plant.found.values())).cause


def test_a_device_that_was_lost_is_missed_and_the_cause_says_so():
    plant = Plant({"hall": 6})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-2")
    plant.presence.hear_state("hall-2", 65_536, online=False, ended=False, now_ms=plant.now)
    plant.run(7 * MINUTE)
    assert "its connection was lost" in next(iter(plant.found.values())).cause


def test_a_device_that_was_only_imported_is_not_missed_until_it_speaks():
    presence = Presence(0)
    presence.know("new", site="hall", interval_ms=MINUTE, due=False, wall_ms=0)
    for now in range(0, 3_600_000, 5000):
        presence.turn(now, hearing=True)
    presence.hear_state("new", 65_536, online=False, ended=False, now_ms=3_600_000)
    assert not presence.find().held
    presence.hear_state("new", 65_537, online=True, ended=False, now_ms=3_600_000)
    assert not presence.find().held
    for now in range(3_600_000, 3_600_000 + LIMIT + 10_000, 5000):
        presence.turn(now, hearing=True)
    assert [absence.scope for absence in presence.find().held] == ["new"]


def test_a_device_that_connects_again_and_again_is_flapping_until_it_stays():
    plant = Plant({"hall": 8})
    plant.run(20 * MINUTE)
    for _ in range(6):
        plant.connect("hall-5")
        plant.run(MINUTE)
    (absence,) = plant.found.values()
    assert absence.key == ("flapping", "device", "hall-5") and "about 6 times" in absence.text
    plant.run(15 * MINUTE)
    assert plant.keys == {("flapping", "device", "hall-5")}
    plant.run(45 * MINUTE)
    assert not plant.found and len(plant.opened) == 1


def test_a_site_whose_network_flaps_is_one_finding():
    plant = Plant({"hall": 8})
    plant.run(20 * MINUTE)
    for _ in range(7):
        for name in plant.names:
            plant.connect(name)
        plant.run(MINUTE)
    assert [absence.key for absence in plant.opened] == [("flapping", "site", "hall")]


def test_connections_that_were_not_heard_and_reboots_count():
    plant = Plant({"hall": 2})
    plant.run(20 * MINUTE)
    plant.connect("hall-0", times=3)
    for boot in (2, 3):
        plant.session["hall-1"] = boot * 65_536
        plant.connect("hall-1", times=0)
    plant.run(TURN_MS)
    assert not plant.found
    plant.connect("hall-0", times=3)
    plant.run(TURN_MS)
    assert plant.keys == {("flapping", "device", "hall-0")}


def test_a_spool_of_its_own_starts_sessions_anew():
    plant = Plant({"hall": 1})
    plant.run(20 * MINUTE)
    plant.session["hall-0"] = 9 * 65_536
    plant.connect("hall-0")
    plant.session["hall-0"] = 65_536
    plant.connect("hall-0")
    plant.presence.start_sessions("hall-0")
    for _ in range(7):
        plant.connect("hall-0")
    plant.run(TURN_MS)
    assert plant.keys == {("flapping", "device", "hall-0")}


def test_a_site_in_two_workers_is_found_by_the_one_that_speaks_for_it():
    workers = [Presence(0), Presence(0)]
    for k in range(10):
        workers[k % 2].know(f"hall-{k}", site="hall", interval_ms=MINUTE, due=True, wall_ms=WALL + k)
    for now in range(0, 400_000, 5000):
        for one in workers:
            one.turn(now, hearing=True)
        workers[0].hear_reports(["hall-0", "hall-2"], now, WALL)
    counts = [{kind: one.counts(kind) for kind in ("silent", "flapping")} for one in workers]
    assert counts[0]["silent"] == {"hall": (5, 3, 3)} and counts[1]["silent"] == {"hall": (5, 5, 5)}
    first = workers[0].find(elsewhere=counts[1].__getitem__).held
    second = workers[1].find(elsewhere=counts[0].__getitem__, speaks_for=lambda _site: False).held
    assert second == [], "covered by what the other tells"
    (absence,) = first
    assert absence.key == ("silent", "site", "hall") and "8 of 10 devices" in absence.text
    nobody_here = Presence(0)
    nobody_here.turn(0, hearing=True)
    nobody_here.turn(5000, hearing=True)
    (absence,) = nobody_here.find(elsewhere=lambda kind: {"hall": (10, 8, 8)} if kind == "silent" else {}).held
    assert absence.scope == "hall" and absence.devices == []


def test_a_deaf_monitor_says_nothing_new():
    plant = Plant({"hall": 12})
    plant.run(20 * MINUTE)
    plant.dead.add("hall-1")
    plant.run(10 * MINUTE)
    held = plant.presence.find().held
    plant.broker = False
    plant.presence.turn(plant.now + 5000, hearing=False)
    assert plant.presence.find() == (held, [])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from(["run", "broker", "restart", "stopped", "step"]),
            st.integers(1, 25),
        ),
        max_size=12,
    ),
)
def test_whatever_happens_to_the_monitor_no_healthy_device_is_found(seed, events):
    plant = Plant({"hall": 5, "yard": 3}, seed=seed)
    for what, minutes in events:
        if what == "run":
            plant.run(minutes * MINUTE)
        elif what == "broker":
            plant.lose_broker(minutes * MINUTE)
        elif what == "restart":
            plant.monitor = False
            plant.run(minutes * MINUTE)
            plant.start_monitor()
        elif what == "stopped":
            plant.now += minutes * MINUTE
        else:
            plant.step_ms += (minutes - 12) * 3_600_000
    plant.run(12 * MINUTE)
    assert not plant.opened
    plant.dead.add("hall-0")
    plant.run(12 * MINUTE)
    assert plant.keys == {("silent", "device", "hall-0")}, "and after all of it a silent one still is"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**5), st.booleans(), st.integers(-1, 3)), min_size=1))
def test_every_silent_device_is_found_once_for_itself_or_with_its_site(rows):
    last, interval, due, site = (np.array(column) for column in zip(*rows, strict=True))
    silence, limit = silence_ms(last, 0, 10**6), silence_limit_ms(interval)
    near, over = is_silent(silence, limit, last, 0, np.zeros(len(rows), bool))
    counts = count_sites(near, over, due, site, 4)
    found = judge(near, over, due, site, counts, np.zeros(4, bool))
    assert not (found.alone & found.covered).any()
    assert ((found.alone | found.covered) >= (over & due)).all() and not (found.alone & ~over).any()
    assert (found.covered <= (site >= 0)).all() and not found.sites[counts.near < 3].any()
    assert is_silent(silence, limit, np.full(len(rows), NEVER), 0, np.ones(len(rows), bool))[1].all()
