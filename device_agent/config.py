"""What one run of the agent is told: its cameras, the brokers' addresses, and how often it speaks."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal, NamedTuple

from device_agent.contract.broker import Broker
from device_agent.contract.credentials import Credentials
from device_agent.drift import BreakerSettings
from device_agent.frames import Address
from device_agent.local.settings import MetricsSettings, PreviewSettings
from device_agent.outputs.settings import LineSettings
from device_agent.samples.settings import SampleSettings
from device_agent.shadow import ShadowSettings
from device_agent.triggers import TriggerAddress


class Timing(NamedTuple):
    """Seconds that delivery goes by, fitted to the report interval."""

    connect_s: float
    retry_low_s: float
    retry_high_s: float
    resend_live_s: float
    resend_backfill_s: float
    retry_first_s: float

    @classmethod
    def of(cls, interval_s: float) -> Timing:
        """10 s for the broker to answer; retries of 1 to 300 s, the first one within 40 s, so that a broker that
        restarts is not stormed by its fleet; a resend without progress after 360 s live, 30 s in backfill; less of each
        at short intervals.

        >>> Timing.of(60)
        Timing(connect_s=10.0, retry_low_s=1.0, retry_high_s=300.0, resend_live_s=360.0, resend_backfill_s=30.0,
            retry_first_s=40.0)
        >>> Timing.of(1)
        Timing(connect_s=3.0, retry_low_s=1.0, retry_high_s=5.0, resend_live_s=10.0, resend_backfill_s=5.0,
            retry_first_s=2.0)
        """
        return cls(
            min(10.0, max(3.0, interval_s)),
            1.0,
            max(2.0, min(300.0, 5.0 * interval_s)),
            min(360.0, 10.0 * interval_s),
            min(30.0, max(5.0, 5.0 * interval_s)),
            min(40.0, max(2.0, 0.7 * interval_s)),
        )


def phase_s(device: str, interval_s: float) -> float:
    """Where in the interval a device reports: spreads a fleet that was switched on at once.

    >>> 0 <= phase_s("press-1", 60) < 60
    True
    """
    return zlib.crc32(device.encode()) / 2**32 * interval_s


class Camera(NamedTuple):
    """A camera, and the device that it is to the fleet: reports, spool in `state` and broker account are its own. The
    model, the runtime and the process are shared."""

    device: str
    source: Address
    broker: Broker | None
    state: Path
    credentials: Credentials = Credentials()
    trigger: TriggerAddress | None = None
    line: LineSettings | None = None
    fleet_key: Path | None = None


def needs_pins(settings: Settings) -> bool:
    """Does any camera have a trigger or an output on a pin of the board?"""
    pins = ("gpio_pass", "gpio_reject", "gpio_review", "gpio_fault")
    return any(
        (camera.trigger is not None and camera.trigger.kind == "gpio")
        or (camera.line is not None and any(camera.line.pin(name) is not None for name in pins))
        for camera in settings.cameras
    )


class Settings(NamedTuple):
    """Everything that `lineside-agent run` is told. `state`: folder of the first camera and of what all share."""

    bundle: Path
    cameras: tuple[Camera, ...]
    state: Path
    interval_s: float = 60.0
    frames: int | None = None
    artifact: str | None = None
    encoding: Literal["msgpack", "json"] = "msgpack"
    log: Literal["plain", "json"] = "plain"
    breaker: BreakerSettings = BreakerSettings()
    samples: SampleSettings | None = None
    preview: PreviewSettings | None = None
    metrics: MetricsSettings | None = None
    shadow: ShadowSettings | None = None
