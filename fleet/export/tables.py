"""How each table that can be exported is read: which rows, in which order, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import Alert
from device_agent.contract.codec import decode
from device_agent.contract.histogram import BINS, EDGES
from device_agent.contract.latency import BUCKETS
from device_agent.contract.report import (
    BACKFILL,
    CLOCK_SYNCED,
    DEGRADED,
    GAP,
    MERGED,
    STAGES,
    DeviceReport,
    ImageQuality,
    System,
)
from fleet.export.formats import Row
from fleet.gaps import KIND
from fleet.models import read_models
from fleet.schema import ALERT, DEVICE, EVENT, LABEL, MODEL, REPORT, ROLLUP

Labels = Mapping[str, Sequence[str]]
"""Names of the classes of each model."""


class Chosen(msgspec.Struct, frozen=True):
    """Whose rows are exported; empty: everybody's. A site is where a device stands now."""

    devices: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()

    def of(self, device: Any) -> list[ColumnElement[bool]]:
        """Conditions on a column that names devices."""
        found = [device.in_(self.devices)] if self.devices else []
        if self.sites:
            found.append(device.in_(select(DEVICE.c.device).where(DEVICE.c.site.in_(self.sites))))
        return found


class Table(NamedTuple):
    """`moment` is the column of time that partitions it, None for what is as it is now; `value` the values of a row,
    `cells` where its histogram is among them, for the tidy form. `keeps` says whether a row is chosen where its device
    is no column."""

    asked: Select[Any]
    order: tuple[Any, ...]
    value: Callable[[Any, Labels], Row]
    moment: Any = None
    device: Any = None
    keys: tuple[int, ...] = ()
    cells: int = 0
    keeps: Callable[[Row, Chosen], bool] = lambda _row, _chosen: True

    def select(self, chosen: Chosen, from_ms: int, until_ms: int) -> Select[Any]:
        """The rows of a time, in their order."""
        asked = self.asked.order_by(*self.order)
        if self.moment is not None:
            asked = asked.where(self.moment >= from_ms, self.moment < until_ms)
        return asked.where(*chosen.of(self.device)) if self.device is not None else asked

    def tidy(self, rows: Iterator[Row], labels: Labels) -> Iterator[Row]:
        """A row for each class and bin that was seen."""
        for row in rows:
            keys = tuple(row[key] for key in self.keys)
            names = labels.get(keys[-1], ())
            _, flat = row[self.cells]
            for cell, count in zip(flat[::2], flat[1::2], strict=True):
                of, bin_ = divmod(cell, BINS)
                edge = float(EDGES[bin_ - 1]) if bin_ else None
                yield (*keys, of, names[of] if of < len(names) else None, bin_, edge, count)


def read_labels(tx: Connection) -> dict[str, tuple[str, ...]]:
    """Names of the classes of every model."""
    return {name: tuple(label.name for label in model.labels) for name, model in read_models(tx).items()}


def _report(row: Any, _labels: Labels) -> Row:
    """What was stored was checked then; it is decoded, not checked again."""
    report = decode(row.payload, DeviceReport)
    quality: Any = report.quality or _NO_QUALITY
    system, flags = report.system or _NO_SYSTEM, report.flags
    stages = [(BUCKETS, flat) if flat else _UNMEASURED for flat in report.latency[: len(STAGES)]]
    stages += [_UNMEASURED] * (len(STAGES) - len(stages))
    return (
        row.device, row.epoch, row.sequence, row.at_ms, row.model, row.first, row.received_ms, row.interval_ms,
        report.boot, report.monotonic_ms, row.live, row.frames, row.dropped, report.parts, report.same,
        report.identical, row.score, report.histogram.classes,
        (report.histogram.classes * BINS, report.histogram.cells),
        *stages,
        quality.brightness, quality.sharpness, quality.clipped_permille,
        system.cpu_percent, system.temperature_c, system.throttled, system.rss_mib, system.disk_free_mib,
        report.self_test_ok,
        flags & CLOCK_SYNCED != 0, flags & BACKFILL != 0, flags & DEGRADED != 0, flags & MERGED != 0, flags & GAP != 0,
    )  # fmt: skip


class _Unknown(NamedTuple):
    brightness: int | None = None
    sharpness: int | None = None
    clipped_permille: int | None = None


_NO_QUALITY: _Unknown | ImageQuality = _Unknown()
_NO_SYSTEM = System()
_UNMEASURED: tuple[int, list[int]] = (0, [])
_SUMS = msgspec.msgpack.Decoder(dict[int, int])


def _sums(row: Any, labels: Labels) -> Row:
    cells, quality = _flat(row.cells), msgspec.msgpack.decode(row.quality, type=list[int])
    classes = max(len(labels.get(row.model, ())), cells[-2] // BINS + 1 if cells else 0)
    return (
        row.device, row.start_ms, row.model, row.reports, row.frames, row.dropped, row.parts, row.same, row.score,
        classes, (classes * BINS, cells), (BUCKETS, _flat(row.infer)), *quality,
    )  # fmt: skip


def _flat(packed: bytes) -> list[int]:
    return [number for pair in sorted(_SUMS.decode(packed).items()) for number in pair]


_ALERT = (
    "id", "severity", "scope_kind", "scope", "site", "product", "model", "stream", "opened_ms", "onset_ms",
    "updated_ms", "paged_ms", "closed_ms", "closed_reason", "inhibited_by", "ratio", "ratio_low", "ratio_high", "log_e",
    "independent_frames", "cause", "text", "devices",
)  # fmt: skip


def _alert(row: Any, _labels: Labels) -> Row:
    alert = msgspec.json.decode(row.document, type=Alert)
    return tuple(getattr(alert, name) for name in _ALERT)


def _concerns(row: Row, chosen: Chosen) -> bool:
    alert = dict(zip(_ALERT, row, strict=True))
    named = not chosen.devices or not {alert["scope"], *alert["devices"]}.isdisjoint(chosen.devices)
    return named and (not chosen.sites or alert["site"] in chosen.sites)


_GAP_TEXT = re.compile(r"epoch ([0-9a-f]{8}) from report (\d{1,19}):")


def _gap(row: Any, _labels: Labels) -> Row:
    found = _GAP_TEXT.match(row.text)
    epoch, sequence = (int(found[1], 16), int(found[2])) if found else (None, None)
    return (row.device, row.at_ms, epoch, sequence, row.boot, row.text)


def _model(row: Any, _labels: Labels) -> Row:
    names = [label["name"] for label in msgspec.json.decode(row.labels)]
    return (row.model, row.name, row.runtime, row.precision, names, row.bundle_sha256, row.imported_ms)


def _as_stored(row: Any, _labels: Labels) -> Row:
    return tuple(row)


def _hours(span: str) -> Table:
    return Table(
        select(ROLLUP).where(ROLLUP.c.span == span), (ROLLUP.c.start_ms, ROLLUP.c.device, ROLLUP.c.model), _sums,
        ROLLUP.c.start_ms, ROLLUP.c.device, keys=(0, 1, 2), cells=10,
    )  # fmt: skip


_E, _L, _D = EVENT.c, LABEL.c, DEVICE.c
TABLES: dict[str, Table] = {
    "reports": Table(
        select(REPORT), (REPORT.c.device, REPORT.c.at_ms, REPORT.c.epoch, REPORT.c.sequence), _report,
        REPORT.c.at_ms, REPORT.c.device, keys=(0, 1, 2, 3, 4), cells=18,
    ),
    "hours": _hours("h"),
    "days": _hours("d"),
    "alerts": Table(
        select(ALERT.c.document), (ALERT.c.opened_ms, ALERT.c.id), _alert, ALERT.c.opened_ms, keeps=_concerns
    ),
    "gaps": Table(
        select(EVENT).where(_E.kind == KIND), (_E.at_ms, _E.device, _E.boot, _E.monotonic_ms), _gap, _E.at_ms, _E.device
    ),
    "events": Table(
        select(_E.device, _E.at_ms, _E.kind, _E.boot, _E.monotonic_ms, _E.text),
        (_E.at_ms, _E.device, _E.boot, _E.monotonic_ms, _E.kind), _as_stored, _E.at_ms, _E.device,
    ),
    "labels": Table(
        select(_L.item, _L.annotator, _L.label, _L.labelled_ms, _L.device, _L.model, _L.at_ms, _L.predicted, _L.cell),
        (_L.at_ms, _L.item, _L.annotator), _as_stored, _L.at_ms, _L.device,
    ),
    "devices": Table(
        select(
            _D.device, _D.site, _D.line, _D.product, _D.imported, _D.first_seen_ms, _D.last_report_ms, _D.online,
            _D.state_ms, _D.reason, _D.model, _D.agent, _D.runtime, _D.hardware, _D.interval_ms, _D.reports, _D.frames,
            _D.dropped,
        ), (_D.device,), _as_stored, device=_D.device,
    ),
    "models": Table(select(MODEL), (MODEL.c.model,), _model),
}  # fmt: skip
"""By what is exported. Reports are read a device at a time, see fleet.export.walk."""

__all__ = ["TABLES", "Chosen", "Labels", "Table", "read_labels"]
