"""Parts by the clock: a regular one, and a simulated sensor."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from typing import Annotated

from msgspec import Meta

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.triggers import Fired, Options, TriggerAddress, options_of
from device_agent.triggers.firings import Firings

LEAST_S, MOST_S = 0.001, 3600.0


class SensorOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts come at `parts_per_minute`, each up to `jitter` of the time between two of them early or late."""

    parts_per_minute: Annotated[float, Meta(ge=60 / MOST_S, le=60 / LEAST_S)] = 30.0
    jitter: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    seed: Annotated[int, Meta(ge=0)] = 0


def moments(parts_per_minute: float, jitter: float = 0.0, seed: int = 0) -> Iterator[float]:
    """Seconds from the start at which parts come, for ever; they keep their pace whatever their jitter.

    >>> from itertools import islice
    >>> list(islice(moments(30), 3))
    [2.0, 4.0, 6.0]
    """
    rng, gap_s, number = random.Random(seed), 60 / parts_per_minute, 0
    while True:
        number += 1
        yield gap_s * (number + rng.uniform(-jitter, jitter))


class SensorTrigger(Firings):
    """A simulated sensor, from a thread of its own, so that parts come whatever the agent does.

    Raises:
        BadInput: an option that is none.
    """

    def __init__(
        self,
        address: TriggerAddress,
        told: Callable[[Fired], None],
        _event: Callable[[str, str], None],
        _credentials: Credentials,
    ) -> None:
        options = self.read(address)
        super().__init__(told, options)
        self._moments = moments(options.parts_per_minute, options.jitter, options.seed)
        self._ended = threading.Event()
        self._started_ns = self._clock()
        threading.Thread(target=self._run, name="sensor", daemon=True).start()

    @staticmethod
    def read(address: TriggerAddress) -> SensorOptions:
        """The options of an address.

        Raises:
            BadInput: a target, which a sensor has not, or an option that is none.
        """
        if address.target:
            raise BadInput(f"trigger {address}: must read like sensor:parts_per_minute=30,jitter=0.1,seed=1")
        options: SensorOptions = options_of(address, SensorOptions)
        return options

    def _run(self) -> None:
        for moment_s in self._moments:
            if self._ended.wait(max(0.0, moment_s - (self._clock() - self._started_ns) / 1e9)):
                return
            self.fire()

    def close(self) -> None:
        """No further parts."""
        self._ended.set()


class EveryTrigger(SensorTrigger):
    """A part every so many seconds.

    Raises:
        BadInput: no such time, or an option that is none.
    """

    @staticmethod
    def read(address: TriggerAddress) -> SensorOptions:
        """The options of an address.

        Raises:
            BadInput: no such time, or an option that is none.
        """
        try:
            seconds = float(address.target)
        except ValueError:
            seconds = math.nan
        if not LEAST_S <= seconds <= MOST_S:
            raise BadInput(f"trigger {address}: must read like every:2, seconds from {LEAST_S:g} to {MOST_S:g}")
        common: Options = options_of(address, Options)
        return SensorOptions(parts_per_minute=60 / seconds, delay_ms=common.delay_ms, within_ms=common.within_ms)
