"""What can go wrong: each fault picks its victim, says what it does, and knows how to heal."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from fleet.chaos.device import Device
from fleet.chaos.machine import Disk, Memory, Unavailable, Wire
from fleet.chaos.programs import Broker, Program
from fleet.chaos.proxy import Proxy

HOUR_S, YEAR_S = 3600.0, 365.25 * 86_400
JUMPS_S = (HOUR_S, -HOUR_S, 10 * YEAR_S, -10 * YEAR_S)


class World(Protocol):
    """What faults act upon. The dictionaries hold what some devices have of their own, by name."""

    rng: random.Random
    devices: list[Device]
    broker: Broker
    monitor: Program
    proxies: dict[str, Proxy]
    wires: dict[str, Wire]
    disks: dict[str, Disk]
    memories: dict[str, Memory]
    busy: set[str]
    """Devices that must not be killed just now: what a full disk keeps out of the spool is in memory only."""


class Done(NamedTuple):
    """A fault that was made: on whom, in words, and how it ends after `heal_s`; `kills` processes were killed."""

    target: str
    text: str
    kills: int = 0
    heal_s: float = 0.0
    heal: Callable[[], None] | None = None


Fault = Callable[[World], Done]


def _any(world: World, names: list[str] | None = None) -> Device:
    free = [d for d in world.devices if d.name not in world.busy and (names is None or d.name in names)]
    if not free:
        raise Unavailable("no device is free for it just now")
    return world.rng.choice(free)


def kill_agent(world: World) -> Done:
    """SIGKILL of an agent, which is started again at once."""
    device = _any(world)
    device.kill()
    device.start()
    return Done(device.name, "SIGKILL", kills=1)


def kill_broker(world: World) -> Done:
    """SIGKILL of the broker, which comes back after up to 0.5 s."""
    pause_s = world.rng.uniform(0.0, 0.5)
    world.broker.kill()
    return Done("broker", f"SIGKILL, back after {pause_s:.2f} s", 1, pause_s, world.broker.start)


def kill_monitor(world: World) -> Done:
    """SIGKILL of the monitor, which is started again at once."""
    world.monitor.kill()
    world.monitor.start()
    return Done("monitor", "SIGKILL", kills=1)


def cut(world: World) -> Done:
    """An agent's connection is reset."""
    device = _any(world)
    world.proxies[device.name].cut()
    return Done(device.name, "its connection is reset")


def half_open(world: World) -> Done:
    """Nothing passes any more on a connection that stays open."""
    device = _any(world)
    world.proxies[device.name].half_open()
    return Done(device.name, "its connection is half-open")


def slow(world: World) -> Done:
    """Latency, and pauses as of lost packets."""
    device = _any(world)
    proxy, heal_s = world.proxies[device.name], world.rng.uniform(1, 6)
    proxy.delay_s, proxy.loss = world.rng.uniform(0.05, 1.0), world.rng.uniform(0, 0.5)

    def heal() -> None:
        proxy.delay_s = proxy.loss = 0.0

    return Done(device.name, f"delay {proxy.delay_s:.2f} s, loss {proxy.loss:.0%} for {heal_s:.1f} s", 0, heal_s, heal)


def partition(world: World) -> Done:
    """A device's network is down; the connection knows nothing of it."""
    device = _any(world, list(world.wires))
    wire, heal_s = world.wires[device.name], world.rng.uniform(1, 10)
    wire.down()
    return Done(device.name, f"its network is down for {heal_s:.1f} s", 0, heal_s, wire.up)


def narrow(world: World) -> Done:
    """A device's network lets 16 to 64 kbit/s through."""
    device = _any(world, list(world.wires))
    wire, heal_s, rate = world.wires[device.name], world.rng.uniform(2, 8), world.rng.randrange(16_000, 64_000)
    wire.slow(rate)
    return Done(device.name, f"its network carries {rate} bit/s for {heal_s:.1f} s", 0, heal_s, wire.fast)


def fill_disk(world: World) -> Done:
    """A device's disk is full. It is not killed meanwhile: reports that no disk takes are in memory only."""
    device = _any(world, list(world.disks))
    disk, heal_s = world.disks[device.name], world.rng.uniform(2, 6)
    world.busy.add(device.name)
    disk.fill()
    return Done(device.name, f"its disk is full for {heal_s:.1f} s", 0, heal_s, disk.empty)


def corrupt_spool(world: World) -> Done:
    """An agent that was killed, or ended in order, finds its spool damaged."""
    device, rng = _any(world), world.rng
    kill = rng.random() < 0.5
    device.kill() if kill else device.stop()
    text = device.corrupt_spool(
        rng.random(), rng.choice((1, 64, 4096)), truncate=rng.random() < 0.3, log=kill and rng.random() < 0.5
    )
    device.start()
    return Done(device.name, f"{'SIGKILL' if kill else 'ended'}; {text}", kills=int(kill))


def jump_clock(world: World) -> Done:
    """A device's wall clock is off by an hour or ten years."""
    device = _any(world)
    offset_s, heal_s = world.rng.choice(JUMPS_S), world.rng.uniform(1, 10)
    device.set_clock(offset_s)
    return Done(device.name, f"its clock is off by {offset_s:+.0f} s", 0, heal_s, lambda: device.set_clock(0.0))


def hang_camera(world: World) -> Done:
    """The capture process stands still."""
    device = _any(world)
    stopped = device.stop_camera()
    return Done(device.name, f"its camera hangs ({len(stopped)} processes)", 0, 12.0, device.wake_camera)


def limit_memory(world: World) -> Done:
    """The kernel kills an agent for want of memory; its supervisor starts it again."""
    device = _any(world, list(world.memories))
    process = device.program.process
    if process is None or process.poll() is not None:
        raise Unavailable("its agent is not running just now")
    memory = world.memories[device.name]
    memory.exhaust(process.pid)
    return Done(device.name, "a neighbour takes its memory", 0, 2.0, memory.relieve)


FAULTS: dict[str, tuple[Fault, float]] = {
    "kill_agent": (kill_agent, 60.0),
    "kill_broker": (kill_broker, 12.0),
    "kill_monitor": (kill_monitor, 12.0),
    "cut": (cut, 3.0),
    "half_open": (half_open, 2.0),
    "slow": (slow, 3.0),
    "partition": (partition, 2.0),
    "narrow": (narrow, 1.5),
    "fill_disk": (fill_disk, 1.5),
    "corrupt_spool": (corrupt_spool, 2.0),
    "jump_clock": (jump_clock, 3.0),
    "hang_camera": (hang_camera, 1.5),
    "limit_memory": (limit_memory, 1.5),
}
"""Faults by name, each with its weight among the others."""
