"""Who is in the fleet: places of devices, what they said of themselves, and how healthy they look from here."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple
from unicodedata import category
from zlib import crc32

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.report import ImageQuality
from device_agent.contract.session import Birth, State
from device_agent.contract.topics import check_device
from fleet.ledger import Entry
from fleet.schema import DEVICE
from fleet.store import upsert

UNASSIGNED = "unassigned"
WILL_DELAY_MS = 30_000
CONNECTIONS = 65_536
MOST = 2**63 - 1
LONGEST_MS = 60_000
"""Between reports of a device that is not known to report more often."""
SENTINELS = 4
SHORTEST_MS = 1000
"""Between reports of a device, as far as it concerns others, whatever it says."""
QUALITY_FIRST = 10
QUALITY_WINDOWS = 3
COLUMNS = ("device", "site", "line", "product")
Health = Literal["online", "silent", "offline", "never"]


class Quality(msgspec.Struct):
    """Image quality now and in the first `QUALITY_FIRST` reports: brightness, sharpness, clipped per mille."""

    seen: int = 0
    first: tuple[float, float, float] = (0.0, 0.0, 0.0)
    recent: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def add(self, quality: ImageQuality) -> None:
        """Count one report."""
        self.seen += 1
        self.recent = _moved(self.recent, quality, 1 / min(self.seen, QUALITY_WINDOWS))
        if self.seen <= QUALITY_FIRST:
            self.first = _moved(self.first, quality, 1 / self.seen)


def _moved(old: tuple[float, float, float], new: ImageQuality, share: float) -> tuple[float, float, float]:
    brightness, sharpness, clipped = old
    return (
        brightness + share * (new.brightness - brightness),
        sharpness + share * (new.sharpness - sharpness),
        clipped + share * (new.clipped_permille - clipped),
    )


class Heard(NamedTuple):
    """When devices could be heard: from `from_ms` until `until_ms`, and before that until `deaf_ms`; wall-clock ms."""

    until_ms: int
    from_ms: int = 0
    deaf_ms: int = 0

    def silence_ms(self, last_ms: int) -> int:
        """How long was listened after `last_ms` without hearing anything; of a time in the future, how far off it is.

        >>> Heard(until_ms=90, from_ms=80, deaf_ms=30).silence_ms(20)
        20
        """
        if last_ms >= self.until_ms:
            return last_ms - self.until_ms
        return self.until_ms - max(last_ms, self.from_ms) + max(0, self.deaf_ms - last_ms)


class Device(msgspec.Struct, kw_only=True):
    """A row of the table `device`; times in wall-clock ms."""

    device: str
    site: str = UNASSIGNED
    line: str = ""
    product: str = ""
    imported: bool = False
    first_seen_ms: int | None = None
    last_report_ms: int | None = None
    session: int | None = None
    online: bool | None = None
    state_ms: int | None = None
    reason: str | None = None
    model: str | None = None
    agent: str | None = None
    runtime: str | None = None
    hardware: str | None = None
    interval_ms: int | None = None
    reports: int = 0
    frames: int = 0
    dropped: int = 0
    quality: str | None = None
    batch: int = 0

    @property
    def group(self) -> tuple[str, str]:
        """Site and product: who counts as a peer. A device without a place stands alone."""
        return (self.site, self.product) if self.imported else (UNASSIGNED, self.device)

    def health(self, heard: Heard) -> Health:
        """How the device looks: offline by its own word or last will that no report followed, silent when it was
        listened for three intervals and 30 s without a report. A time in the future comes of a wrong clock and is no
        sign."""
        state_ms, report_ms = self.state_ms or 0, self.last_report_ms
        if self.online is False and abs(heard.until_ms - state_ms) > WILL_DELAY_MS and state_ms >= (report_ms or 0):
            return "offline"
        if report_ms is None:
            return "never" if self.online is None else "online"
        longest_ms = 3 * (self.interval_ms or 60_000) + WILL_DELAY_MS
        return "silent" if heard.silence_ms(report_ms) > longest_ms else "online"


FOLLOWED = (
    "device", "site", "line", "product", "imported", "last_report_ms", "session", "online", "state_ms", "reason",
    "model", "interval_ms",
)  # fmt: skip
"""What a worker has to know of the devices of others."""


class Before(NamedTuple):
    """What a device of another worker was, as far as it matters."""

    device: str
    last_report_ms: int | None
    session: int | None
    online: bool | None
    model: str | None


class Registry:
    """All devices in memory; `write` stores them. `revision` grows when one speaks for the first time or changes its
    interval. `told`: devices that changed by something that no report tells. `shortest_ms`: between reports of the
    device that sends most."""

    def __init__(self, devices: dict[str, Device] | None = None) -> None:
        self.devices = devices or {}
        self.revision = 0
        self.shortest_ms = LONGEST_MS
        for device in self.devices.values():
            self._note_pace(device.interval_ms)
        self.told: set[str] = set()
        self._quality: dict[str, Quality] = {}
        self._members: dict[tuple[str, str], list[str]] | None = None
        self._sentinels: dict[tuple[str, str], frozenset[str]] = {}
        self._sentinels_of = -1

    @classmethod
    def load(cls, tx: Connection) -> Registry:
        """As the store has it."""
        return cls({device.device: device for device in read_devices(tx)})

    def get(self, device: str) -> Device:
        """The device; a new one stands at the site "unassigned"."""
        if device not in self.devices:
            self.devices[device] = Device(device=device)
            self.told.add(device)
        return self.devices[device]

    def members(self, group: tuple[str, str]) -> list[str]:
        """Devices of a group: those of a site and product, or one that stands alone."""
        if group[0] == UNASSIGNED:
            return [group[1]] if group[1] in self.devices else []
        if self._members is None:
            self._members = defaultdict(list)
            for device in self.devices.values():
                if device.imported:
                    self._members[device.group].append(device.device)
        return self._members.get(group, [])

    def sentinels(self, group: tuple[str, str]) -> frozenset[str]:
        """The up to `SENTINELS` devices of a group that are judged without their peers too; none in a group of one.
        Which they are depends on their names only."""
        if self._sentinels_of != self.revision or self._members is None:
            self._sentinels.clear()
            self._sentinels_of = self.revision
        if (found := self._sentinels.get(group)) is None:
            there = [name for name in self.members(group) if self.devices[name].model]
            chosen = sorted(there, key=lambda name: crc32(name.encode()))[:SENTINELS]
            found = self._sentinels[group] = frozenset(chosen if len(chosen) > 1 else ())
        return found

    def quality(self, device: str) -> Quality:
        """Image quality of a device, now and at first."""
        if device not in self._quality:
            text = self.get(device).quality
            self._quality[device] = msgspec.json.decode(text, type=Quality) if text else Quality()
        return self._quality[device]

    def forget_quality(self, device: str) -> None:
        """What comes next counts as the first reports: after a change-over."""
        self._quality[device] = Quality()
        self.get(device).quality = None
        self.told.add(device)

    def hear_state(self, name: str, state: State, now_ms: int) -> None:
        """Take a state, unless it is of an older session."""
        device = self.get(name)
        if device.session is None or state.session >= device.session:
            device.session, device.online, device.reason = state.session, state.online, state.reason
            device.state_ms = now_ms
            self.told.add(name)

    def hear_birth(self, name: str, birth: Birth, now_ms: int, *, known: bool = False) -> bool:
        """Take a birth. True when boots are counted from the start: the device has another spool, its sessions too. A
        birth of a `known` epoch is an old one that the broker retained."""
        device = self.get(name)
        anew = not known and device.session is not None and birth.boot < device.session // CONNECTIONS
        if anew:
            device.session, device.online, device.state_ms = birth.boot * CONNECTIONS, True, now_ms
        device.agent, device.runtime, device.hardware = birth.agent, birth.runtime, birth.hardware
        if device.interval_ms != max(birth.interval_ms, 1) or device.model is None:
            self.revision += 1
        device.interval_ms = max(birth.interval_ms, 1)
        self._note_pace(device.interval_ms)
        device.model = device.model or birth.model.hex()
        device.first_seen_ms = device.first_seen_ms or now_ms
        self.told.add(name)
        return anew

    def hear_report(self, entry: Entry) -> bool:
        """Count a new report. True when the device speaks for another model than before."""
        report, device = entry.report, self.devices.get(entry.device) or self.get(entry.device)
        device.first_seen_ms = device.first_seen_ms or entry.received_ms
        device.reports += 1
        device.frames = min(device.frames + entry.frames, MOST)
        device.dropped = min(device.dropped + entry.dropped, MOST)
        heard_ms = entry.received_ms if entry.live else entry.at_ms
        changed = False
        if entry.live or heard_ms >= (device.last_report_ms or 0):
            device.last_report_ms, before = heard_ms, device.model
            if before != (model := report.model.hex()):
                self.revision += before is None
                changed, device.model = before is not None, model
            if device.interval_ms is None:
                device.interval_ms = max(report.interval_ms, 1)
                self._note_pace(device.interval_ms)
        if report.quality:
            self.quality(entry.device).add(report.quality)
        return changed

    def _note_pace(self, interval_ms: int | None) -> None:
        self.shortest_ms = min(self.shortest_ms, max(interval_ms or LONGEST_MS, SHORTEST_MS))

    def follow(self, tx: Connection, mine: Callable[[str], bool]) -> list[Before]:
        """Take over what other workers stored of devices that are not `mine`; what those were before that are not as
        they were."""
        changed = []
        for row in tx.execute(select(*(DEVICE.c[name] for name in FOLLOWED))):
            name = row[0]
            if mine(name):
                continue
            device = self.devices.get(name)
            if device is None:
                device = self.devices[name] = Device(device=name)
                self.revision, self._members = self.revision + 1, None
            before = Before(name, device.last_report_ms, device.session, device.online, device.model)
            if device.group != (row.site, row.product) or device.imported != row.imported:
                self._members = None
            self.revision += (device.model is None) != (row.model is None)
            for field, value in zip(FOLLOWED[1:], row[1:], strict=True):
                setattr(device, field, value)
            if before[1:] != (device.last_report_ms, device.session, device.online, device.model):
                changed.append(before)
        return changed

    def refresh_places(self, tx: Connection) -> None:
        """Read site, line and product again: someone imported them."""
        self._members = None
        for stored in read_devices(tx):
            device = self.get(stored.device)
            device.site, device.line, device.product = stored.site, stored.line, stored.product
            device.imported = stored.imported

    def write(self, tx: Connection, names: list[str], batch: int) -> None:
        """Store devices as they are after a batch; their places are only ever written by an import."""
        rows = []
        for name in names:
            device = self.devices[name]
            if (quality := self._quality.get(name)) is not None and quality.seen:
                device.quality = msgspec.json.encode(quality).decode()
            device.batch = batch
            rows.append(msgspec.structs.asdict(device))
        upsert(tx, DEVICE, rows, keep=("site", "line", "product", "imported"))


def read_devices(tx: Connection) -> list[Device]:
    """Every device of the store, by site, line and name."""
    rows = tx.execute(select(DEVICE).order_by(DEVICE.c.site, DEVICE.c.line, DEVICE.c.device)).mappings()
    return [Device(**row) for row in rows]


def read_places(path: Path) -> list[Device]:
    """Devices of a CSV file with the columns device, site, line, product.

    Raises:
        NotFound: no such file.
        BadInput: another header, an empty site, a control character, a bad or repeated device id; the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = reader.fieldnames or []
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV text: {error}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if absent := [column for column in COLUMNS if column not in header]:
        raise BadInput(f"{path}: line 1: columns must be {','.join(COLUMNS)}; missing: {', '.join(absent)}")
    devices: dict[str, Device] = {}
    for number, row in enumerate(rows, start=2):
        place = {column: (row[column] or "").strip() for column in COLUMNS}
        try:
            check_device(place["device"])
        except BadInput as error:
            raise BadInput(f"{path}: line {number}: {error}") from None
        if place["device"] in devices:
            raise BadInput(f"{path}: line {number}: device {place['device']!r} stands there twice")
        if place["site"] == UNASSIGNED:
            raise BadInput(f"{path}: line {number}: site {UNASSIGNED!r} means that a device has none; leave it out")
        if not place["site"] or max(map(len, place.values())) > 64:
            raise BadInput(f"{path}: line {number}: site must be 1 to 64 characters, line and product at most 64")
        if any(category(character) in ("Cc", "Cs") for character in "".join(place.values())):
            raise BadInput(f"{path}: line {number}: a control character stands in site, line or product")
        devices[place["device"]] = msgspec.convert({**place, "imported": True}, Device)
    return list(devices.values())


def import_places(tx: Connection, devices: list[Device]) -> None:
    """Store places; what a device said of itself stays."""
    said = tuple(c.name for c in DEVICE.c if c.name not in (*COLUMNS, "imported"))
    upsert(tx, DEVICE, [msgspec.structs.asdict(device) for device in devices], keep=said)
