"""ECharts options of the device page. Neutral ink, so that they read on light and dark ground alike."""

from __future__ import annotations

import math
from typing import Any

from device_agent.contract.histogram import BINS, EDGES
from fleet.history import DeviceHistory
from fleet.reading import Reading

INK, FAINT = "#8a929e", "rgba(138,146,158,0.18)"
SEEN, NORMAL, WARN, PAGE, GOOD = "#3b82f6", "#a3acb9", "#f59e0b", "#ef4444", "#10b981"
FLOOR = 0.01
Options = dict[str, Any]


def bin_labels() -> list[str]:
    """Lower edge of each bin as top-1 probability.

    >>> labels = bin_labels()
    >>> labels[0], labels[3], labels[9], labels[23]
    ('<27%', '50%', '95.3%', '99.995%')
    """
    return [f"<{_percent(EDGES[0])}", *(_percent(edge) for edge in EDGES)]


def _percent(log_odds: float) -> str:
    share = 100 / (1 + math.exp(-log_odds))
    digits = 0 if share < 95 else 1 if share < 99.5 else 2 if share < 99.95 else 3
    return f"{share:.{digits}f}%"


def confidence(history: DeviceHistory | None) -> Options:
    """Confidence seen in the last reports as bars, normal as a stepped line, share of frames in percent, log scale."""
    seen = _per_bin(history.seen if history else None)
    normal = _per_bin(history.normal if history else None)
    return {
        **_plain(),
        "legend": _legend("seen", "normal"),
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "xAxis": {
            **_axis("category"),
            "data": bin_labels(),
            "axisLabel": {"color": INK, "interval": 2, "fontSize": 11},
        },
        "yAxis": {**_share(), "axisLabel": {"color": INK, "formatter": "{value} %"}},
        "series": [
            {"name": "seen", "type": "bar", "data": seen, "itemStyle": {"color": SEEN}, "barWidth": "70%"},
            {
                "name": "normal",
                "type": "line",
                "step": "middle",
                "symbol": "none",
                "data": normal,
                "lineStyle": {"color": NORMAL, "width": 2},
                "itemStyle": {"color": NORMAL},
            },
        ],
    }


def classes(history: DeviceHistory | None) -> Options:
    """Share of frames of each predicted class, seen beside normal, percent, log scale."""
    labels = history.labels if history else []
    seen = _per_class(history.seen if history else None, len(labels))
    normal = _per_class(history.normal if history else None, len(labels))
    return {
        **_plain(left=88),
        "legend": _legend("seen", "normal"),
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "xAxis": {**_share(), "axisLabel": {"color": INK, "formatter": "{value}%"}},
        "yAxis": {**_axis("category"), "data": labels, "inverse": True},
        "series": [
            {"name": "seen", "type": "bar", "data": seen, "itemStyle": {"color": SEEN}, "barMaxWidth": 14},
            {"name": "normal", "type": "bar", "data": normal, "itemStyle": {"color": NORMAL}, "barMaxWidth": 14},
        ],
    }


def score(history: DeviceHistory | None) -> Options:
    """Score over time with the levels that warn and page."""
    points = history.points if history else []
    reading = history.reading if history else None
    data = [[point.at_ms, None if point.score is None else round(point.score, 2)] for point in points]
    top = max([reading.page_at * 1.15 if reading else 1.0, *(value for _, value in data if value is not None)])
    line = {
        "name": "score",
        "type": "line",
        "symbol": "none",
        "data": data,
        "lineStyle": {"color": SEEN, "width": 2},
        "areaStyle": {"color": SEEN, "opacity": 0.12},
        "markLine": {"symbol": "none", "silent": True, "animation": False, "data": _levels(reading)},
        "markArea": {
            "silent": True,
            "itemStyle": {"color": FAINT},
            "data": [
                [{"xAxis": start, "name": "silent"}, {"xAxis": end}] for start, end in (history.gaps if history else [])
            ],
        },
    }
    return {
        **_plain(),
        "tooltip": {"trigger": "axis"},
        "xAxis": _time(),
        "yAxis": {
            **_axis("value"),
            "min": 0,
            "max": math.ceil(top),
            "axisLabel": {"color": INK, "showMaxLabel": False},
        },
        "series": [line],
    }


def quality(history: DeviceHistory | None) -> Options:
    """Sharpness and brightness of the pictures over time."""
    points = history.points if history else []
    return {
        **_plain(right=48),
        "legend": _legend("sharpness", "brightness"),
        "tooltip": {"trigger": "axis"},
        "xAxis": _time(),
        "yAxis": [
            {**_axis("value"), "min": 0},
            {**_axis("value"), "min": 0, "max": 255, "interval": 85, "splitLine": {"show": False}},
        ],
        "series": [
            _line("sharpness", [[point.at_ms, point.sharpness] for point in points], SEEN),
            {**_line("brightness", [[point.at_ms, point.brightness] for point in points], WARN), "yAxisIndex": 1},
        ],
    }


def latency(history: DeviceHistory | None) -> Options:
    """Median time of one inference over time, ms."""
    points = history.points if history else []
    data = [[point.at_ms, None if point.infer_ms is None else round(point.infer_ms, 2)] for point in points]
    return {
        **_plain(),
        "tooltip": {"trigger": "axis"},
        "xAxis": _time(),
        "yAxis": {**_axis("value"), "min": 0, "axisLabel": {"color": INK, "formatter": "{value} ms"}},
        "series": [{**_line("inference p50", data, GOOD), "step": "middle"}],
    }


def _levels(reading: Reading | None) -> list[Options]:
    if reading is None:
        return []
    levels = (("warn", reading.warn_at, WARN, "insideEndTop"), ("page", reading.page_at, PAGE, "insideStartTop"))
    return [
        {
            "yAxis": round(at, 1),
            "lineStyle": {"color": colour, "type": "dashed"},
            "label": {"formatter": f"{name} {at:.1f}", "color": colour, "position": position},
        }
        for name, at, colour, position in levels
    ]


def _line(name: str, data: list[list[Any]], colour: str) -> Options:
    style = {"lineStyle": {"color": colour, "width": 2}, "itemStyle": {"color": colour}}
    return {"name": name, "type": "line", "symbol": "none", "data": data, **style}


def _per_bin(shares: list[list[float]] | None) -> list[float | None]:
    if shares is None:
        return [None] * BINS
    return [_shown(sum(row[each] for row in shares)) for each in range(BINS)]


def _per_class(shares: list[list[float]] | None, number: int) -> list[float | None]:
    if shares is None or len(shares) != number:
        return [None] * number
    return [_shown(sum(row)) for row in shares]


def _shown(share: float) -> float | None:
    return round(100 * share, 4) if 100 * share > FLOOR else None


def _plain(*, left: int = 52, right: int = 20) -> Options:
    return {
        "animation": False,
        "useUTC": True,
        "backgroundColor": "transparent",
        "grid": {"left": left, "right": right, "top": 34, "bottom": 28},
        "textStyle": {"fontFamily": "inherit"},
    }


def _legend(*names: str) -> Options:
    return {"data": list(names), "right": 8, "top": 0, "itemWidth": 14, "itemHeight": 8, "textStyle": {"color": INK}}


def _axis(kind: str) -> Options:
    return {
        "type": kind,
        "axisLine": {"lineStyle": {"color": FAINT}},
        "axisTick": {"show": False},
        "axisLabel": {"color": INK},
        "splitLine": {"show": kind != "category", "lineStyle": {"color": FAINT}},
    }


def _share() -> Options:
    """Percent on a log scale; bars begin at its lower end, not at 1."""
    return {**_axis("log"), "min": FLOOR, "max": 100, "startValue": FLOOR}


def _time() -> Options:
    return {**_axis("time"), "splitLine": {"show": False}, "axisLabel": {"color": INK, "hideOverlap": True}}
