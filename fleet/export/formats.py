"""Files that rows are written to a batch at a time: Parquet, CSV and JSON lines.

A row is a tuple in the order of its columns. A time is wall-clock ms, `counts` are (length, flat list number, count,
...), as the store has them: they become dense here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import IO, Any, Protocol

import msgspec
import numpy as np

from device_agent.contract.optional import require
from fleet.export.columns import About, Column

Row = tuple[Any, ...]
GROUP_ROWS = 32_768
"""Rows of a row group of Parquet."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ZSTD = 3
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula, in full width too."""


class Writer(Protocol):
    """An open file."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append a batch."""

    def close(self) -> None:
        """Finish the file; its handle stays open."""


class ParquetFile:
    """Parquet with zstd; the file's metadata holds `About` as JSON under "lineside", each field its meaning."""

    def __init__(self, out: IO[bytes], about: About) -> None:
        self._arrow, parquet = require("pyarrow", extra="fleet"), require("pyarrow.parquet", extra="fleet")
        self._columns = about.columns
        self.schema = arrow_schema(about)
        self._file = parquet.ParquetWriter(out, self.schema, compression="zstd", compression_level=_ZSTD)

    def write(self, rows: Sequence[Row]) -> None:
        """Append a row group."""
        if not rows:
            return
        arrays = [
            self._array(field.type, column.kind, values)
            for field, column, values in zip(self.schema, self._columns, zip(*rows, strict=True), strict=True)
        ]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self.schema), row_group_size=GROUP_ROWS)

    def close(self) -> None:
        """Write the end of the file."""
        self._file.close()

    def _array(self, kind: Any, name: str, values: Sequence[Any]) -> Any:
        if name != "counts":
            return self._arrow.array(values, kind)
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum([length for length, _ in values], out=offsets[1:])
        dense = np.zeros(offsets[-1], np.int64)
        pairs = np.array([number for _, flat in values for number in flat], np.int64).reshape(-1, 2)
        dense[pairs[:, 0] + np.repeat(offsets[:-1], [len(flat) // 2 for _, flat in values])] = pairs[:, 1]
        return self._arrow.ListArray.from_arrays(self._arrow.array(offsets), self._arrow.array(dense))


class CsvFile:
    """CSV of UTF-8 with a header, lists as JSON. A text that a spreadsheet would run as a formula gets a ' in front."""

    def __init__(self, out: IO[bytes], about: About) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
        self._file = csv.writer(self._text, lineterminator="\n")
        self._say = [_plain(column) for column in about.columns]
        self._file.writerow(column.name for column in about.columns)

    def write(self, rows: Sequence[Row]) -> None:
        """Append lines."""
        say = self._say
        self._file.writerows([one(value) for one, value in zip(say, row, strict=True)] for row in rows)

    def close(self) -> None:
        """Hand over what is left."""
        self._text.detach()


class JsonLines:
    """A JSON object a line; times as in ISO 8601, what is not known is null."""

    def __init__(self, out: IO[bytes], about: About) -> None:
        self._out, self._encoder = out, msgspec.json.Encoder()
        self._names = [column.name for column in about.columns]
        self._say = [_JSON.get(column.kind, _same) for column in about.columns]

    def write(self, rows: Sequence[Row]) -> None:
        """Append lines."""
        objects = (
            {name: say(value) for name, say, value in zip(self._names, self._say, row, strict=True)} for row in rows
        )
        self._out.write(self._encoder.encode_lines(objects))

    def close(self) -> None:
        """Nothing is left."""


FORMATS: dict[str, Callable[[IO[bytes], About], Writer]] = {
    "parquet": ParquetFile,
    "csv": CsvFile,
    "jsonl": JsonLines,
}


def arrow_schema(about: About) -> Any:
    """The Arrow schema of an export: a text is string, a time timestamp[ms, UTC], counts list<int64>.

    Raises:
        MissingPackage: pyarrow is not installed.
    """
    arrow = require("pyarrow", extra="fleet")
    kinds = {
        "text": arrow.string(),
        "int": arrow.int64(),
        "real": arrow.float64(),
        "flag": arrow.bool_(),
        "time": arrow.timestamp("ms", tz="UTC"),
        "counts": arrow.list_(arrow.int64()),
        "names": arrow.list_(arrow.string()),
    }
    fields = [arrow.field(one.name, kinds[one.kind], metadata={"description": one.text}) for one in about.columns]
    return arrow.schema(fields, metadata={"lineside": msgspec.json.encode(about)})


def iso(at_ms: int | None) -> str | None:
    """Wall-clock ms as ISO 8601 in UTC.

    >>> iso(1_760_000_000_005)
    '2025-10-09T08:53:20.005Z'
    """
    if at_ms is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")[:-6] + "Z"
    except OverflowError:
        return None


def defused(text: str) -> str:
    """A text that no spreadsheet runs.

    >>> defused("=1+1"), defused("press-1")
    ("'=1+1", 'press-1')
    """
    return "'" + text if text.startswith(FORMULA) else text


def dense(counts: tuple[int, list[int]]) -> list[int]:
    """All counts of (length, flat list number, count, ...).

    >>> dense((4, [1, 7]))
    [0, 7, 0, 0]
    """
    length, flat = counts
    out = [0] * length
    for number, count in zip(flat[::2], flat[1::2], strict=True):
        out[number] = count
    return out


def _same(value: Any) -> Any:
    return value


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_JSON: dict[str, Callable[[Any], Any]] = {"time": iso, "counts": dense}
_CSV: dict[str, Callable[[Any], Any]] = {
    "text": lambda text: None if text is None else defused(text),
    "flag": lambda flag: None if flag is None else str(bool(flag)).lower(),
    "time": iso,
    "counts": lambda counts: _as_json(dense(counts)),
    "names": _as_json,
}


def _plain(column: Column) -> Callable[[Any], Any]:
    return _CSV.get(column.kind, _same)
