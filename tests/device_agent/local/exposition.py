"""A strict reader of Prometheus' text format 0.0.4, written from its specification."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*),?\}})? (\S+)(?: (-?\d+))?")
PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")


class Family(NamedTuple):
    """A metric: its type, its help, and the samples by full name and labels."""

    kind: str
    help: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]


def unescape(text: str, *, quoted: bool) -> str:
    """What was escaped; a backslash before anything else is an error."""
    known = {"\\": "\\", "n": "\n", **({'"': '"'} if quoted else {})}

    def one(match: re.Match[str]) -> str:
        return known[match[1]]

    return re.sub(r"\\(.?)", one, text, flags=re.DOTALL)


def read(text: str) -> dict[str, Family]:
    """The families in a text; raises ValueError or KeyError for what the specification does not allow."""
    if not text.endswith("\n"):
        raise ValueError("the last line must end with a line feed")
    if "\r" in text:
        raise ValueError("lines end with \\n alone")
    families: dict[str, Family] = {}
    closed: set[str] = set()
    helps: dict[str, str] = {}
    current = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, help_ = line.split(" ", 3)
            if name in helps:
                raise ValueError(f"second HELP for {name}")
            helps[name] = unescape(help_, quoted=False)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if kind not in TYPES or name in families or not re.fullmatch(NAME, name):
                raise ValueError(line)
            closed.add(current)
            current, families[name] = name, Family(kind, helps.get(name, ""), {})
        elif line and not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            if match is None:
                raise ValueError(f"no sample: {line!r}")
            _add(families, current, match)
    for name, family in families.items():
        _check(name, family)
    return families


def _add(families: dict[str, Family], current: str, match: re.Match[str]) -> None:
    name = match[1]
    kind = families[current].kind if current in families else ""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}.get(kind, ("",))
    if name not in [current + suffix for suffix in suffixes]:
        raise ValueError(f"{name} stands outside the group of its family, or has no TYPE")
    pairs = [(label, unescape(value, quoted=True)) for label, value in PAIR.findall(match[2] or "")]
    if len({label for label, _ in pairs}) != len(pairs) or any(label.startswith("__") for label, _ in pairs):
        raise ValueError(f"labels of {match[0]!r}")
    key = name, tuple(sorted(pairs))
    if key in families[current].samples:
        raise ValueError(f"twice: {key}")
    families[current].samples[key] = number(match[3])


def number(text: str) -> float:
    """A value as Go's ParseFloat takes it; Python's own spellings are refused."""
    if text in ("NaN", "+Inf", "-Inf"):
        return float(text)
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        raise ValueError(f"no number: {text!r}")
    return float(text)


def _check(name: str, family: Family) -> None:
    """A family has samples; a counter does not fall below zero; a histogram adds up."""
    if not family.samples:
        raise ValueError(f"{name}: no samples")
    if family.kind == "counter" and (not name.endswith("_total") or min(family.samples.values()) < 0):
        raise ValueError(f"{name}: no counter")
    if family.kind != "histogram":
        return
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for (full, labels), value in family.samples.items():
        if full == f"{name}_bucket":
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, []).append((number(dict(labels)["le"]), value))
    for rest, buckets in series.items():
        edges, counts = [edge for edge, _ in buckets], [count for _, count in buckets]
        if edges != sorted(set(edges)) or edges[-1] != math.inf or counts != sorted(counts):
            raise ValueError(f"{name}{rest}: buckets must grow to +Inf")
        if family.samples[f"{name}_count", rest] != counts[-1]:
            raise ValueError(f"{name}{rest}: _count is not the +Inf bucket")
        family.samples[f"{name}_sum", rest]
