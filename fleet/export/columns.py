"""Columns of every table that can be exported: names with units, kinds, and what they mean. Names are only added."""

from __future__ import annotations

from typing import Literal

import msgspec

from device_agent.contract.histogram import BINS_ID, EDGES
from device_agent.contract.latency import BUCKETS

EXPORT_SCHEMA = "1.0"
Kind = Literal["text", "int", "real", "flag", "time", "counts", "names"]


class Column(msgspec.Struct, frozen=True):
    """One column. A `time` is UTC to the millisecond, `counts` a list of 64-bit integers, `names` a list of texts."""

    name: str
    kind: Kind
    text: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself. `bin_edges`: the inner edges of the confidence bins, natural log-odds; bin k of class
    c is number c * 24 + k of `counts`. `latency_buckets`: bucket k of a latency begins at 100 us * sqrt(2)^k."""

    schema: str = EXPORT_SCHEMA
    what: str
    tidy: bool
    columns: list[Column]
    bins: str = BINS_ID
    bin_edges: list[float] = msgspec.field(default_factory=EDGES.tolist)
    latency_buckets: int = BUCKETS


def _columns(*lines: str) -> tuple[Column, ...]:
    """From lines "name kind meaning"."""
    fields = (dict(zip(Column.__struct_fields__, line.split(maxsplit=2), strict=True)) for line in lines)
    return tuple(msgspec.convert(one, Column) for one in fields)


_SEEN = (
    "frames int frames that were judged",
    "dropped int frames that were captured and overwritten before inference",
    "parts int parts that were told apart",
    "same int pairs of consecutive frames in one cell of the histogram",
)
_CELLS = (
    "classes int classes of the model",
    "counts counts frames by predicted class and confidence bin, class * 24 + bin",
)
_TIDY = (
    "class int predicted class, from 0",
    "label text its name, empty where the model is not known",
    "bin int confidence bin, 0 to 23",
    "bin_from_log_odds real lower edge of the bin, empty for the first one",
    "count int frames; pairs of class and bin without any have no row",
)
_REPORT_KEY = (
    "device text name of the device",
    "epoch int names the spool of the device",
    "sequence int number of the report within its spool",
    "at_utc time end of the interval, clock repaired",
    "model text id of the model that served, 16 hexadecimal digits",
)
_SUM_KEY = (
    "device text name of the device",
    "start_utc time start of the hour or day",
    "model text id of the model that served, 16 hexadecimal digits",
)
_SUMS = _columns(
    *_SUM_KEY,
    "reports int reports that were summed",
    *_SEEN,
    "score_log_e real highest evidence of drift, natural log of an e-value, empty where none was judged",
    *_CELLS,
    "infer_latency counts answers by latency bucket of inference",
    "quality_frames int frames with image quality",
    "brightness_sum int brightness 0 to 255, times frames",
    "sharpness_sum int variance of the Laplacian, times frames",
    "clipped_permille_sum int clipped pixels in per mille, times frames",
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "reports": _columns(
        *_REPORT_KEY,
        "first_sequence int first report that a merged one stands for, else its own number",
        "received_utc time when the monitor had it",
        "interval_ms int length of the interval",
        "boot int count of the device's starts",
        "monotonic_ms int end of the interval by the clock of the boot",
        "live flag it came right after its interval",
        *_SEEN,
        "identical int pairs of consecutive frames that are bit-equal",
        "score_log_e real evidence of drift after it, natural log of an e-value, empty where it was not judged",
        *_CELLS,
        "capture_latency counts frames by latency bucket, empty where not measured",
        "preprocess_latency counts frames by latency bucket, empty where not measured",
        "infer_latency counts frames by latency bucket, empty where not measured",
        "post_latency counts frames by latency bucket, empty where not measured",
        "brightness int mean, 0 to 255",
        "sharpness int mean variance of the Laplacian",
        "clipped_permille int clipped pixels in per mille",
        "cpu_percent int of all cores",
        "temperature_c int of the board, deg C",
        "throttled flag the board is throttled",
        "rss_mib int resident set of the agent",
        "disk_free_mib int free disk",
        "self_test_ok flag the model reproduces its golden outputs",
        "clock_synced flag the device says that its clock is right",
        "backfill flag it was sent later, from the spool",
        "degraded flag the device runs with less than it should",
        "merged flag it stands for several reports",
        "gap flag frames of before it may be in no report",
    ),
    "hours": _SUMS,
    "days": _SUMS,
    "alerts": _columns(
        "id text of the alert",
        "severity text info, warn, page or critical",
        "scope_kind text device or site",
        "scope text name of the device or site",
        "site text site at which it was opened",
        "product text product at which it was opened",
        "model text id of the model",
        "stream text what moved",
        "opened_utc time when it was opened",
        "onset_utc time when it began, as far as can be told",
        "updated_utc time when it changed last",
        "paged_utc time when it became a page, empty while it is none",
        "closed_utc time when it was closed, empty while it is open",
        "closed_reason text why it was closed",
        "inhibited_by text alert that covers it",
        "ratio real rate over the expected one",
        "ratio_low real lower 95 % limit",
        "ratio_high real upper 95 % limit",
        "log_e real natural log of the e-value",
        "independent_frames real frames since the onset, less what repeats",
        "cause text likely cause",
        "text text what people were told",
        "devices names devices that are concerned",
    ),
    "gaps": _columns(
        "device text name of the device",
        "at_utc time of the first report after the gap",
        "epoch int names the spool, empty where the device alone told of it",
        "sequence int first report after the gap, empty where the device alone told of it",
        "boot int count of the device's starts",
        "text text what is known of it",
    ),
    "events": _columns(
        "device text name of the device",
        "at_utc time when the monitor had it",
        "kind text what happened",
        "boot int count of the device's starts",
        "monotonic_ms int by the clock of the boot",
        "text text in words",
    ),
    "labels": _columns(
        "item text digest of the sample, or device@ms",
        "annotator text who says so",
        "label text class that the part is of",
        "labelled_utc time when it was said",
        "device text name of the device",
        "model text id of the model that answered",
        "at_utc time of the frame",
        "predicted int class that the model answered, from 0",
        "cell int predicted class * 24 + bin, empty where the bin is not known",
    ),
    "devices": _columns(
        "device text name of the device",
        "site text where it stands",
        "line text where it stands",
        "product text what it looks at",
        "imported flag its place was imported",
        "first_seen_utc time first word",
        "last_report_utc time last report",
        "online flag by its last state",
        "state_utc time of that state",
        "reason text of that state",
        "model text id of the model that serves",
        "agent text version",
        "runtime text of the model",
        "hardware text board",
        "interval_ms int between reports",
        "reports int so far",
        "frames int so far",
        "dropped int frames so far",
    ),
    "models": _columns(
        "model text id, 16 hexadecimal digits",
        "name text of the bundle and artifact",
        "runtime text runtime of the artifact",
        "precision text of the artifact",
        "labels names names of its classes, in their order",
        "bundle_sha256 text of the bundle, empty where none was imported",
        "imported_utc time when the bundle was imported",
    ),
}
"""By what is exported."""
TIDY: dict[str, tuple[Column, ...]] = {
    "reports": _columns(*_REPORT_KEY, *_TIDY),
    "hours": _columns(*_SUM_KEY, *_TIDY),
    "days": _columns(*_SUM_KEY, *_TIDY),
}
"""The same with a row for each class and bin that was seen."""


def about(what: str, *, tidy: bool = False) -> About:
    """What an export of `what` says of itself.

    >>> [column.name for column in about("hours", tidy=True).columns]
    ['device', 'start_utc', 'model', 'class', 'label', 'bin', 'bin_from_log_odds', 'count']
    """
    return About(what=what, tidy=tidy, columns=list((TIDY if tidy else COLUMNS)[what]))
