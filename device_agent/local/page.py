"""The preview page: one view of the agent as HTML. It needs no script to be read, and one of ten lines to be fresh."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from statistics import median

from device_agent.contract.report import STAGES
from device_agent.local.live import Happened, Shot, View
from device_agent.local.style import CSS, SCRIPT

_TONES = {"pass": "good", "review": "warn", "reject": "bad"}


def page(view: View, shot: Shot | None, device: str, devices: Sequence[str], nonce: str) -> bytes:
    """The whole page of one camera, with links to the others; `nonce` is the one of its Content-Security-Policy."""
    links = "".join(f'<a href="/?camera={escape(other)}">{escape(other)}</a>' for other in devices if other != device)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(device)}</title><link rel="icon" href="data:,">
<style nonce="{nonce}">{CSS}</style><noscript><meta http-equiv="refresh" content="2"></noscript></head>
<body><header><b>lineside</b><span>{escape(device)}</span>{links}<i id="fresh">live</i></header>
<main><figure><img id="frame" src="/frame.png?camera={escape(device)}" alt="the latest frame"></figure>
<div id="parts">{parts(view, shot)}</div></main>
<script nonce="{nonce}">{SCRIPT}</script></body></html>
""".encode()


def policy(nonce: str) -> str:
    """The page's Content-Security-Policy: nothing from elsewhere, no script or style but its own."""
    return (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
        f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def parts(view: View, shot: Shot | None) -> str:
    """What changes, as HTML: answer, state, latency, events."""
    return f"{_answer(view, shot)}<section class='tiles'>{_tiles(view)}</section>{_latency(view)}{_events(view.events)}"


def _answer(view: View, shot: Shot | None) -> str:
    if shot is None:
        return '<section class="answer"><h1>no frame was answered yet</h1></section>'
    (_image, answer, fate), labels = shot, view.serving.labels
    name = labels[answer.label] if answer.label < len(labels) else f"class {answer.label}"
    badge = f'<em class="{_TONES.get(fate, "")}">{escape(fate)}</em>' if fate else ""
    return (
        f'<section class="answer"><h1>{escape(name)}{badge}</h1>'
        f'<meter min="0" max="1" value="{answer.probability:.4f}"></meter>'
        f"<p>{100 * answer.probability:.1f} % sure, by {escape(view.serving.artifact)} of {escape(view.serving.model)}"
        f"</p></section>"
    )


def _tiles(view: View) -> str:
    gauges, waiting = view.gauges, view.gauges.get("spool_rows")
    age = view.ages_s.get("frame")
    tiles = [
        _tile("frames a second", f"{view.frames_per_s:.1f}", "bad" if age is not None and age > 10 else ""),
        _tile("camera", *_state(gauges.get("camera_up"), "delivers", "lost")),
        _tile("broker", *_state(gauges.get("online"), "connected", "not connected", "warn")),
        _tile("spool", "-" if waiting is None else f"{waiting:.0f} waiting", "warn" if (waiting or 0) > 60 else ""),
        _tile("artifact", *_rung(view)),
        _tile("dropped", f"{view.counters['dropped']}"),
        _tile("temperature", *_heat(gauges)),
        _tile("CPU", "-" if (cpu := gauges.get("cpu_ratio")) is None else f"{100 * cpu:.0f} %"),
    ]
    return "".join(tiles)


def _tile(name: str, value: str, tone: str = "") -> str:
    return f'<dl><dt>{name}</dt><dd class="{tone}">{escape(value)}</dd></dl>'


def _state(value: float | None, yes: str, no: str, bad: str = "bad") -> tuple[str, str]:
    return ("-", "") if value is None else (yes, "good") if value else (no, bad)


def _rung(view: View) -> tuple[str, str]:
    if view.gauges.get("breaker_open"):
        return "breaker open", "bad"
    return ("fallback", "warn") if view.serving.degraded else ("first choice", "good")


def _heat(gauges: dict[str, float]) -> tuple[str, str]:
    heat = gauges.get("temperature_celsius")
    text = "-" if heat is None else f"{heat:.0f} °C"
    return (f"{text}, throttled", "warn") if gauges.get("throttled") else (text, "")


def _latency(view: View) -> str:
    """Median and slowest of the last frames, by stage, on the scale of the largest median."""
    if not view.recent_us:
        return ""
    stages = list(zip(*view.recent_us, strict=True))
    top = max(0.001, *(median(stage) / 1e3 for stage in stages))
    rows = [
        f'<tr><th>{name}</th><td><meter min="0" max="{top:.3f}" value="{median(stage) / 1e3:.3f}"></meter></td>'
        f"<td>{median(stage) / 1e3:.2f} ms</td><td>{max(stage) / 1e3:.2f} ms</td></tr>"
        for name, stage in zip(STAGES, stages, strict=True)
    ]
    head = f"<tr class='head'><th>last {len(view.recent_us)} frames</th><td></td><td>median</td><td>slowest</td></tr>"
    return f"<section><table>{head}{''.join(rows)}</table></section>"


def _events(events: list[Happened]) -> str:
    rows = [
        f"<tr><td>{time.strftime('%H:%M:%S', time.gmtime(one.wall_s))}</td><th>{escape(one.kind)}</th>"
        f"<td>{escape(one.text)}</td></tr>"
        for one in reversed(events)
    ]
    body = "".join(rows) or "<tr><td>none</td></tr>"
    return f'<section class="events"><h2>Events of the last hour (UTC)</h2><table>{body}</table></section>'
