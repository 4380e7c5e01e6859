"""Who gets a bundle in which wave: drawn by hash, spread over sites, and never a whole site first."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput

STAGES = (0.01, 0.1, 0.5, 1.0)
State = Literal["planned", "running", "halted", "done", "rolled_back"]
ENDED = frozenset({"done", "rolled_back"})
Share = Annotated[float, Meta(gt=0, le=1)]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """When a wave may be followed by the next: `frames` independent frames and `hours` hours of all devices that have
    the bundle, since the wave began. `reporting`: share of these devices, 0 to 1, that must speak. `alpha`: probability
    of a roll-back, within `watched` hours, of a bundle that is no worse than `fleet.rollouts.peers` tolerates."""

    frames: Annotated[int, Meta(ge=1)] = 5_000
    hours: Annotated[int, Meta(ge=1, le=8760)] = 24
    reporting: Share = 0.7
    alpha: Annotated[float, Meta(gt=0, le=0.5)] = 0.01
    watched: Annotated[int, Meta(ge=1, le=8760)] = 336


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on its way. `bundle` and `back` are the SHA-256 of the new bundle and of the one to go back to, `models`
    and `old` the ids of their models. `waves`: devices that each stage adds; `stage` -1 before the start. `halted_by`:
    empty, "monitor" (it goes on by itself) or "person NAME". Times in wall-clock ms."""

    schema: str = "1.0"
    id: str
    bundle: str
    back: str
    models: list[str]
    old: list[str]
    waves: list[list[str]]
    terms: Terms = Terms()
    state: State = "planned"
    stage: int = -1
    started_ms: int = 0
    stage_ms: int = 0
    halted_by: str = ""
    created_by: str = ""
    created_ms: int = 0
    trigger: str = ""
    text: str = ""

    @property
    def chosen(self) -> list[str]:
        """Devices that are to have the new bundle by now."""
        return [device for wave in self.waves[: self.stage + 1] for device in wave]

    @property
    def devices(self) -> list[str]:
        """The whole group, in the order in which it is reached."""
        return [device for wave in self.waves for device in wave]


def make_waves(sites: Mapping[str, str], seed: str, shares: Sequence[float] = STAGES) -> list[list[str]]:
    """Devices of each wave; a share that adds none makes no wave. The order is drawn by hash of `seed` and name, the
    same wherever it is asked for; each site is reached in proportion, and one device of it stays for the end as long as
    others are there.

    Args:
        sites: site of each device.
        shares: of the group that has the bundle after each wave, growing, the last one 1.

    >>> sites = {f"d{i}": "north" if i < 4 else "south" for i in range(8)}
    >>> waves = make_waves(sites, "r-1")
    >>> [len(wave) for wave in waves], sorted(sites[device] for device in waves[0] + waves[1])
    ([1, 3, 4], ['north', 'north', 'south', 'south'])

    Raises:
        BadInput: no devices, or shares that do not grow to 1.
    """
    if not sites:
        raise BadInput("rollout: no device in the group")
    if list(shares) != sorted(set(shares)) or not shares or shares[0] <= 0 or shares[-1] != 1:
        raise BadInput(f"rollout: shares must grow from over 0 to 1, got {', '.join(f'{share:g}' for share in shares)}")
    members: dict[str, list[str]] = defaultdict(list)
    for device in sorted(sites, key=lambda name: _draw(seed, name)):
        members[sites[device]].append(device)
    order = []
    for site, devices in members.items():
        shift = _draw(seed, f"site {site}")
        for rank, device in enumerate(devices):
            last = rank == len(devices) - 1
            order.append((last, (rank + shift) / len(devices), _draw(seed, device), device))
    ordered = [device for *_, device in sorted(order)]
    ends = [min(len(ordered), math.ceil(share * len(ordered) - 1e-9)) for share in shares]
    waves = [ordered[first:end] for first, end in zip([0, *ends], ends, strict=False)]
    return [wave for wave in waves if wave]


def _draw(seed: str, name: str) -> float:
    """A number in [0, 1) that belongs to a name."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:8], "big") / 2**64
