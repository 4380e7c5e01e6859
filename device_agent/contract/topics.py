"""MQTT topics: the direction first, so that an access list is two lines.

lineside/1/up/<shard>/<device>/{state,birth,report,backfill,event,job,response,sample}
lineside/1/down/<device>/{ack,config,command,job}
lineside/1/fleet/state                      the monitor's own last will, retained
lineside/1/fleet/alert/<site>/<id>          retained while the alert is open
"""

from __future__ import annotations

import re
import zlib

from device_agent.contract.errors import BadInput

ROOT = "lineside/1"
SHARDS = 64
UP = ("state", "birth", "report", "backfill", "event", "job", "response", "sample")
DOWN = ("ack", "config", "command", "job")
FLEET_STATE = f"{ROOT}/fleet/state"
_RESERVED = re.compile(r"[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]")
_DEVICE = re.compile(r"[a-z0-9-]{3,32}")
_UP_TOPIC = re.compile(rf"{ROOT}/up/([0-9]{{2}})/([a-z0-9-]{{3,32}})/({'|'.join(UP)})")


def check_device(device: str) -> str:
    """The device id itself, if it is one.

    Raises:
        BadInput: not 3 to 32 lower-case letters, digits and dashes.
    """
    if not _DEVICE.fullmatch(device):
        raise BadInput(f"device id {device!r} must be 3 to 32 of a-z, 0-9 and '-'")
    return device


def shard(device: str) -> int:
    """Shard 0 to 63 of a device: one device's reports always reach the same worker.

    >>> shard("press-1")
    12
    """
    return zlib.crc32(device.encode()) % SHARDS


def up(device: str, kind: str) -> str:
    """Topic on which a device publishes.

    >>> up("press-1", "report")
    'lineside/1/up/12/press-1/report'
    """
    return f"{ROOT}/up/{shard(device):02d}/{device}/{kind}"


def up_filter(number: int | None, kind: str) -> str:
    """What to subscribe to for one kind of message of all devices of a shard, or of all shards.

    >>> up_filter(2, "report"), up_filter(None, "report")
    ('lineside/1/up/02/+/report', 'lineside/1/up/+/+/report')
    """
    return f"{ROOT}/up/{'+' if number is None else f'{number:02d}'}/+/{kind}"


def down(device: str, kind: str) -> str:
    """Topic on which a device is spoken to.

    >>> down("press-1", "ack")
    'lineside/1/down/press-1/ack'
    """
    return f"{ROOT}/down/{device}/{kind}"


def alert(site: str, alert_id: str) -> str:
    """Topic of one open alert; characters that MQTT reserves or forbids are replaced in the site's name.

    >>> alert("hall 2/north", "9f3c")
    'lineside/1/fleet/alert/hall 2_north/9f3c'
    """
    level = "".join("_" if _RESERVED.match(c) or ord(c) & 0xFFFE == 0xFFFE else c for c in site)
    return f"{ROOT}/fleet/alert/{level}/{alert_id}"


def parse_up(topic: str) -> tuple[str, str]:
    """Device and kind of an upward topic.

    >>> parse_up("lineside/1/up/12/press-1/report")
    ('press-1', 'report')

    Raises:
        BadInput: not an upward topic, or a shard that is not the device's.
    """
    found = _UP_TOPIC.fullmatch(topic)
    if not found or int(found[1]) != shard(found[2]):
        raise BadInput(f"topic {topic!r} is none that a device may publish on")
    return found[2], found[3]
