"""Labels from a CSV file: each line a part, by its sample's digest or by device and time."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from fleet.accuracy.labels import Label
from fleet.models import Model
from fleet.schema import SAMPLE

COLUMNS = ("sample", "device", "time", "label", "annotator", "labelled", "predicted", "model", "probability", "weight")
WITHIN_MS = 1000
MOST_NAME = 64
MOST_ROWS = 1_000_000
FIRST_WRONG = 5


class Sample(NamedTuple):
    """A sample as far as a label needs it."""

    sha256: str
    device: str
    model: str
    at_ms: int
    cell: int


class Read(NamedTuple):
    """Labels of a file, and a sentence for each line that is wrong."""

    labels: list[Label]
    wrong: list[str]


def read_table(path: Path, known: tuple[str, ...], needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of each row of a CSV file, its texts stripped.

    Raises:
        NotFound: no such file.
        BadInput: no CSV text, a missing column, one that is not known, or more than a million rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            if absent := [name for name in needed if name not in header]:
                raise BadInput(f"{path}: line 1: missing columns: {', '.join(absent)}; known are {','.join(known)}")
            if strange := [name for name in header if name not in known]:
                raise BadInput(f"{path}: line 1: unknown column {strange[0]!r}; known are {','.join(known)}")
            rows: list[tuple[int, dict[str, str]]] = []
            for row in reader:
                if len(rows) >= MOST_ROWS:
                    raise BadInput(f"{path}: over {MOST_ROWS:,} rows; split the file")
                if None in row:
                    raise BadInput(f"{path}: line {reader.line_num}: has more columns than the header")
                rows.append((reader.line_num, {name: (row.get(name) or "").strip() for name in known}))
            return rows
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV text: {error}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def read_time(text: str) -> int:
    """Wall-clock ms of a time as ISO 8601, UTC where no offset stands there, or as a number of ms since 1970.

    >>> read_time("2026-03-01T12:00:00Z") == read_time("2026-03-01 13:00+01:00") == read_time("1772366400000")
    True

    Raises:
        BadInput: neither.
    """
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        return max(round(at.timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        raise BadInput(f"time {text[:40]!r} must read like 2026-03-01T12:00:00Z, or be ms since 1970") from None


def read_labels_file(
    tx: Connection, path: Path, models: Mapping[str, Model], *, annotator: str, now_ms: int, within_ms: int = WITHIN_MS
) -> Read:
    """The labels of a CSV file with the column label, and sample, or device and time; further: annotator, labelled
    (when), predicted and model (for a part of which no sample was kept).

    A time finds the sample of the device that is nearest, at most `within_ms` away; two that are equally near are
    refused. A digest may be shortened to 8 digits or more.

    Raises:
        NotFound, BadInput: as for `read_table`; what is wrong with a single line is in the answer.
    """
    rows = read_table(path, COLUMNS, ("label",))
    samples = _Samples(tx)
    labels, wrong = [], []
    for number, row in rows:
        try:
            labels.append(_label(row, samples, models, annotator, now_ms, within_ms))
        except BadInput as error:
            wrong.append(f"line {number}: {error}")
    return Read(labels, wrong)


def say_wrong(path: Path, wrong: list[str]) -> str:
    """The first wrong lines in one sentence."""
    more = f"; and {len(wrong) - FIRST_WRONG} more lines" if len(wrong) > FIRST_WRONG else ""
    return f"{path}: {'; '.join(wrong[:FIRST_WRONG])}{more}"


class _Samples:
    """The samples that a file may speak of."""

    def __init__(self, tx: Connection) -> None:
        columns = [SAMPLE.c[name] for name in Sample._fields]
        everything = [Sample(*row) for row in tx.execute(select(*columns).order_by(SAMPLE.c.sha256))]
        self._short: dict[str, list[Sample]] = defaultdict(list)
        self._of: dict[str, list[Sample]] = defaultdict(list)
        for sample in everything:
            self._short[sample.sha256[:8]].append(sample)
            self._of[sample.device].append(sample)

    def by_digest(self, text: str) -> Sample:
        """The one sample whose digest begins so."""
        text = text.lower()
        if not 8 <= len(text) <= 64 or not set(text) <= set("0123456789abcdef"):
            raise BadInput(f"sample {text[:40]!r} must be 8 to 64 hexadecimal digits")
        found = [sample for sample in self._short[text[:8]] if sample.sha256.startswith(text)]
        if len(found) != 1:
            raise BadInput(f"sample {text[:16]}: {'not in the store' if not found else 'more than one begins so'}")
        return found[0]

    def near(self, device: str, at_ms: int, within_ms: int) -> Sample | None:
        """The sample of a device nearest to a time."""
        found = sorted((abs(sample.at_ms - at_ms), sample) for sample in self._of[device])
        found = [one for one in found if one[0] <= within_ms]
        if len(found) > 1 and found[0][0] == found[1][0]:
            raise BadInput(f"device {device}: two samples are equally near to that time; name one by its digest")
        return found[0][1] if found else None


def _label(
    row: dict[str, str], samples: _Samples, models: Mapping[str, Model], annotator: str, now_ms: int, within_ms: int
) -> Label:
    who = row["annotator"] or annotator
    if not 1 <= len(who) <= MOST_NAME or not who.isprintable():
        raise BadInput(f"annotator must be 1 to {MOST_NAME} printable characters")
    labelled_ms = read_time(row["labelled"]) if row["labelled"] else now_ms
    if row["sample"]:
        sample: Sample | None = samples.by_digest(row["sample"])
    elif row["device"] and row["time"]:
        sample = samples.near(row["device"], read_time(row["time"]), within_ms)
    else:
        raise BadInput("names neither a sample nor a device and a time")
    if sample is None:
        return _unsampled(row, models, who, labelled_ms)
    _number(models, sample.model, row["label"], "label")
    found = (sample.device, sample.model, sample.at_ms, sample.cell // BINS, sample.cell)
    return Label(sample.sha256, who, row["label"], labelled_ms, *found)


def _unsampled(row: dict[str, str], models: Mapping[str, Model], who: str, labelled_ms: int) -> Label:
    """A part of which no picture was kept: the file has to say what the model called it."""
    if not row["predicted"] or not row["model"]:
        raise BadInput(f"device {row['device']}: no sample at that time; say predicted and model, or name a sample")
    if row["model"] not in models:
        raise BadInput(f"model {row['model'][:20]!r} is not known; known are {', '.join(sorted(models)) or 'none'}")
    if len(row["device"]) > 32:
        raise BadInput(f"device {row['device'][:32]!r}... is no name of a device")
    at_ms = read_time(row["time"])
    predicted = _number(models, row["model"], row["predicted"], "predicted")
    _number(models, row["model"], row["label"], "label")
    found = (row["device"], row["model"], at_ms, predicted, None)
    return Label(f"{row['device']}@{at_ms}", who, row["label"], labelled_ms, *found)


def _number(models: Mapping[str, Model], model: str, name: str, what: str) -> int:
    """Number of a class of a model."""
    names = [label.name for label in models[model].labels] if model in models else []
    if not names:
        raise BadInput(f"model {model} is not known; import its bundle with `lineside-fleet models import` first")
    if name not in names:
        shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
        raise BadInput(f"{what} {name[:40]!r} is no class of the model; classes are {shown}")
    return names.index(name)
