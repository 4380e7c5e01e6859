"""The metrics by name, and the text that Prometheus reads: exposition format 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from device_agent.contract.latency import BUCKETS, upper_ms
from device_agent.contract.report import STAGES

if TYPE_CHECKING:
    from device_agent.local.live import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "lineside_"
COUNTERS = {
    "frames": "Frames that were answered.",
    "dropped": "Frames that were captured and not answered.",
    "reports": "Reports that were stored in the spool.",
    "acknowledged": "Reports that the monitor acknowledged.",
    "preview_refused": "Requests to the preview without a right token.",
}
GAUGES = {
    "spool_rows": "Reports that wait in the spool.",
    "online": "1 while the broker is connected.",
    "camera_up": "1 while the camera delivers.",
    "degraded": "1 while another artifact than the first choice answers, or none.",
    "breaker_open": "1 while the breaker keeps the accelerator out.",
    "self_test_ok": "1 if the last self-test gave the golden answers.",
    "temperature_celsius": "The hottest sensor of the board.",
    "cpu_ratio": "CPU time of all cores in use, 0 to 1.",
    "throttled": "1 while the board is slowed down by heat or by its power supply.",
    "resident_memory_bytes": "Resident memory of the agent.",
    "disk_free_bytes": "Free space on the disk of the state folder.",
    "clock_synced": "1 while the wall clock is synchronised.",
}
SAYS = {
    "camera_lost": ("camera_up", 0.0),
    "camera_found": ("camera_up", 1.0),
    "broker_connected": ("online", 1.0),
    "broker_unreachable": ("online", 0.0),
    "breaker_open": ("breaker_open", 1.0),
    "breaker_closed": ("breaker_open", 0.0),
}
"""Gauges that an event of a kind sets."""
AGES = {
    "frame": "Seconds since a frame was answered.",
    "report": "Seconds since a report was stored.",
    "ack": "Seconds since the monitor acknowledged a report.",
}
EDGES_S = [f"{upper_ms(bucket) / 1000:.6g}" for bucket in range(BUCKETS - 1)]
Sample = tuple[str, Mapping[str, str], float]


def exposition(views: Mapping[str, View], *, version: str = "") -> str:
    """The text of /metrics, each camera by its device's name: counters, gauges, ages, and a histogram of each stage's
    latency with the agent's own buckets. What is not known is left out."""

    def family(name: str, kind: str, help_: str, read: Callable[[View], Iterable[Sample]]) -> list[str]:
        samples = [
            (suffix, {"device": device, **labels}, value)
            for device, view in views.items()
            for suffix, labels, value in read(view)
        ]
        return _family(name, kind, help_, samples)

    text = _family("build_info", "gauge", "1, with the version.", [("", {"version": version}, 1)])
    text += family("frames_per_second", "gauge", "Frames answered a second, of late.", lambda v: _one(v.frames_per_s))
    for name, help_ in COUNTERS.items():
        text += family(f"{name}_total", "counter", help_, lambda v, name=name: _one(v.counters[name]))  # type: ignore[misc]
    text += family("decisions_total", "counter", "Frames by decision.", lambda v: _labelled("decision", v.decisions))
    text += family("events_total", "counter", "Events by kind.", lambda v: _labelled("kind", v.kinds))
    for name, help_ in GAUGES.items():
        text += family(name, "gauge", help_, lambda v, name=name: _one(v.gauges.get(name)))  # type: ignore[misc]
    for name, help_ in AGES.items():
        text += family(f"{name}_age_seconds", "gauge", help_, lambda v, name=name: _one(v.ages_s.get(name)))  # type: ignore[misc]
    text += family("stage_seconds", "histogram", "What a frame took, by stage.", _stages)
    return "\n".join(text) + "\n"


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [("", {}, value)]


def _labelled(label: str, counts: Mapping[str, int]) -> list[Sample]:
    return [("", {label: value}, count) for value, count in sorted(counts.items())]


def _stages(view: View) -> Iterable[Sample]:
    for stage, buckets, sum_us in zip(STAGES, view.buckets, view.sums_us, strict=True):
        seen = 0
        for edge, count in zip([*EDGES_S, "+Inf"], buckets, strict=True):
            seen += count
            yield "_bucket", {"stage": stage, "le": edge}, seen
        yield "_sum", {"stage": stage}, sum_us / 1e6
        yield "_count", {"stage": stage}, seen


def _family(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> list[str]:
    """One metric with its HELP and TYPE; nothing if it has no sample.

    >>> _family("x", "gauge", "Back\\\\slash.", [("", {"a": 'quo"te'}, 1.5)])
    ['# HELP lineside_x Back\\\\\\\\slash.', '# TYPE lineside_x gauge', 'lineside_x{a="quo\\\\"te"} 1.5']
    """
    full = PREFIX + name
    lines = [f"{full}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in samples]
    if not lines:
        return []
    return [f"# HELP {full} {_escape(help_)}", f"# TYPE {full} {kind}", *lines]


def _labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{_quoted(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escape(text).replace('"', r"\"")


def _number(value: float) -> str:
    """
    >>> _number(3), _number(0.25), _number(float("inf")), _number(float("nan"))
    ('3', '0.25', '+Inf', 'NaN')
    """
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
