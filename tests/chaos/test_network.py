"""What happens to the network between agents and broker."""

from __future__ import annotations

import time

import pytest

from device_agent.mqtt import KEEPALIVE_S
from fleet.chaos.audit import read_stored
from fleet.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.broker]


def need(stage, fault):
    if fault in stage.absent:
        pytest.skip(f"system: {fault}: {stage.absent[fault]}")


def test_a_partition_costs_nothing_and_memory_stays_bounded(rehearse):
    stage = rehearse()
    need(stage, "partition")
    device = stage.devices[0]
    wire = stage.wires[device.name]
    for _ in range(2):
        wire.down()
        stage.wait_until(lambda: stage.journal().count("broker_unreachable") > stage.journal().count("connected") - 1)
        before = stage.count(0)
        stage.run_for(8.0)
        assert stage.count(0) == before, "nothing comes through"
        wire.up()
        stage.wait_for_reports(20, device=0)
    (account,) = stage.finish()
    assert account.open == 0 and account.missing == 0
    used = [one.system.rss_mib for one in read_stored(open_store(stage.url), device.name) if one.system]
    assert max(used) <= used[0] + 8, used


def test_a_narrow_network_carries_everything(rehearse):
    stage = rehearse()
    need(stage, "partition")
    wire = stage.wires[stage.devices[0].name]
    wire.slow(16_000)
    stage.wait_for_reports(20)
    wire.down()
    stage.run_for(5.0)
    wire.up()
    stage.wait_for_reports(20)
    (account,) = stage.finish()
    assert account.open == 0


def test_latency_loss_and_resets_cost_nothing(rehearse):
    stage = rehearse(seed=3)
    proxy = stage.proxies[stage.devices[0].name]
    proxy.delay_s, proxy.loss = 0.4, 0.5
    stage.wait_for_reports(15)
    for _ in range(4):
        opened = proxy.opened
        proxy.cut()
        stage.wait_until(lambda opened=opened: proxy.opened > opened)
    proxy.stalled = True
    stage.run_for(4.0)
    proxy.stalled = False
    proxy.delay_s = proxy.loss = 0.0
    stage.wait_for_reports(15)
    (account,) = stage.finish()
    assert account.open == 0 and account.answered == account.counted


def test_a_half_open_connection_is_given_up_within_one_and_a_half_keep_alives(rehearse, capsys):
    stage = rehearse(keepalive_s=24)
    proxy = stage.proxies[stage.devices[0].name]
    opened, start_s = proxy.opened, time.monotonic()
    proxy.half_open()
    stage.wait_until(lambda: proxy.opened > opened and stage.journal().count("broker_connected") > 1)
    spent_s = time.monotonic() - start_s
    with capsys.disabled():
        print(f"\na half-open connection is replaced after {spent_s:.1f} s, the keep-alive is 24 s")
    assert spent_s < 1.5 * 24
    stage.wait_for_reports(4)
    (account,) = stage.finish()
    assert account.open == 0 and KEEPALIVE_S == 60
