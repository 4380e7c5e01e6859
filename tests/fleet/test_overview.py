"""Which devices are shown: what the database finds is what a look at every device would find."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sqlalchemy import event, insert, select

from device_agent.contract.alert import SEVERITIES, Alert
from fleet.heartbeat import Heartbeat, read_heard, write_heartbeat
from fleet.overview import URGENCY, Asked, choose, count_places, find_devices, health_of
from fleet.registry import Device, Heard
from fleet.schema import ALERT, DEVICE
from fleet.status import read_status

NOW_MS = 1_760_000_000_000


def people(engine, count: int, seed: int = 0) -> list[Device]:
    """Devices in every state, some with times of wrong clocks."""
    rng = np.random.default_rng(seed)

    def some(values):
        return values[int(rng.integers(len(values)))]

    times = [None, NOW_MS - 5_000, NOW_MS - 100_000, NOW_MS - 211_000, NOW_MS - 10**7, NOW_MS + 10**6, 2**62]
    devices = [
        Device(
            device=f"cam-{k:05d}",
            site=f"hall-{k % 7}",
            line=f"l{k % 3}",
            imported=True,
            last_report_ms=some(times),
            state_ms=some(times),
            online=some([None, True, False]),
            interval_ms=some([None, 1000, 60_000, 2**63 - 1]),
            reports=k,
        )
        for k in range(count)
    ]
    with engine.begin() as tx:
        tx.execute(insert(DEVICE), [msgspec.structs.asdict(device) for device in devices])
    return devices


HEARD = [Heard(NOW_MS), Heard(NOW_MS - 50_000, NOW_MS - 90_000, NOW_MS - 200_000), Heard(NOW_MS, NOW_MS - 10_000)]


@pytest.mark.parametrize("heard", HEARD)
def test_the_database_finds_the_health_that_a_device_has(plant, heard):
    engine = plant.open()
    devices = people(engine, 400)
    with engine.connect() as tx:
        found = dict(tx.execute(select(DEVICE.c.device, health_of(heard))).all())
        assert found == {device.device: device.health(heard) for device in devices}
        counted = count_places(tx, heard)
    assert set(found.values()) == set(URGENCY)
    assert sum(counted["hall-3"].values()) == sum(device.site == "hall-3" for device in devices)


@pytest.mark.parametrize("order", ["place", "urgency", "device", "seen"])
@pytest.mark.parametrize("asked", [
    Asked(), Asked(search="CAM-0001"), Asked(site="hall-2"), Asked(health="silent"), Asked(alerted=True),
    Asked(search="_", health="online"),
])  # fmt: skip
def test_pages_put_together_are_everything_in_order(plant, order, asked):
    engine, heard = plant.open(), HEARD[1]
    devices = people(engine, 120)
    rng = np.random.default_rng(1)
    concerned = {device.device: SEVERITIES[k % 4] for k, device in enumerate(devices) if rng.random() < 0.2}
    keys = {
        "place": lambda one: (one.site, one.line, one.device),
        "device": lambda one: one.device,
        "seen": lambda one: (one.last_report_ms or 0, one.device),
        "urgency": lambda one: (
            -SEVERITIES.index(concerned[one.device]) if one.device in concerned else 1,
            URGENCY.index(one.health(heard)), one.site, one.line, one.device,
        ),
    }  # fmt: skip
    wanted = [
        device.device
        for device in sorted(devices, key=keys[order])
        if asked.search.lower() in device.device
        and asked.site in ("", device.site)
        and asked.health in (None, device.health(heard))
        and (device.device in concerned or not asked.alerted)
    ]
    asked = msgspec.structs.replace(asked, order=order)
    with engine.connect() as tx:
        places = count_places(tx, heard)
        whole = choose(tx, asked, heard, concerned, places)
        assert [device.device for device in whole.devices] == wanted and whole.matching == len(wanted)
        pages = []
        for offset in range(0, len(wanted) + 7, 7):
            part = choose(tx, msgspec.structs.replace(asked, limit=7, offset=offset), heard, concerned, places)
            assert part.matching == len(wanted)
            pages += [device.device for device in part.devices]
    assert pages == wanted


def test_a_page_asks_no_more_of_a_large_fleet_than_of_a_small_one(plant):
    """A statement more for a state of which there are more than fit on a page, none for a device."""
    asked = []
    for number in (60, 3000):
        engine = plant.open()
        with engine.begin() as tx:
            tx.execute(DEVICE.delete())
            write_heartbeat(tx, Heartbeat(at_ms=NOW_MS, connected=True, since_ms=0))
        people(engine, number)
        with engine.begin() as tx:
            tx.execute(ALERT.delete())
            alert = Alert(
                id="a", severity="page", scope_kind="device", scope="cam-00007", site="hall-0", model="", stream="low+",
                opened_ms=1, onset_ms=1, updated_ms=1, text="", devices=["cam-00007"],
            )  # fmt: skip
            document = msgspec.json.encode(alert).decode()
            tx.execute(ALERT.insert().values(id="a", opened_ms=1, closed_ms=None, document=document))
        rows = []

        def count(_connection, cursor, *_rest, rows=rows):
            rows.append(cursor)

        with engine.connect() as tx:
            event.listen(engine, "after_cursor_execute", count)
            status = read_status(tx, NOW_MS, Asked(order="urgency", limit=50))
            event.remove(engine, "after_cursor_execute", count)
        assert len(status.devices) == 50 and status.devices[0].device == "cam-00007"
        assert status.matching == status.all_devices == number and sum(one.devices for one in status.sites) == number
        assert status.sites[0].alerted == 1
        asked.append(len(rows))
    assert max(asked) - min(asked) <= 3 and max(asked) < 25


def test_devices_are_found_by_name_in_the_order_asked_for(plant):
    engine = plant.open()
    people(engine, 30)
    with engine.connect() as tx:
        found = find_devices(tx, ["cam-00009", "nobody", "cam-00002"])
        assert [device.device for device in found] == ["cam-00009", "cam-00002"]
        assert read_heard(tx, NOW_MS) == Heard(NOW_MS)
