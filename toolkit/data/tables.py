"""A table in a file, csv or parquet, as columns of text; and the same file with some rows left out."""

from __future__ import annotations

import csv
import io
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from toolkit.paths import reading

MOST_ROWS = 10_000_000
TABLES = frozenset({".csv", ".parquet"})


@dataclass(frozen=True)
class Table:
    """`columns` by name, each one text a row; row r stands at `unit` ("line" or "row") `places[r]` of the file."""

    path: Path
    columns: dict[str, list[str]]
    places: Sequence[int]
    unit: str

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """Such as "steel/manifest.csv: line 7", for an error."""
        return f"{self.path}: {self.unit} {self.places[row]}"

    def take(self, *names: str) -> list[str] | None:
        """The first of the named columns that is there, taken out."""
        return next((self.columns.pop(name) for name in names if name in self.columns), None)

    def take_needed(self, *names: str) -> list[str]:
        """The first of the named columns, taken out.

        Raises:
            BadInput: none of them is there.
        """
        header = ", ".join(self.columns)
        column = self.take(*names)
        if column is None:
            raise BadInput(f"{self.path}: no column {' or '.join(names)}; it has {header}")
        return column


def read_table(path: Path) -> Table:
    """The table in a .parquet file, or in any other as csv: utf-8, comma, one header, values stripped of blanks.

    Equal values of a column share one string, so that a column of few values costs 8 bytes a row. In parquet nulls and
    NaN are empty, times are ISO 8601, and every other plain type is its usual text.

    Raises:
        BadInput: unreadable, damaged, a column twice, a row longer or shorter than the header, a parquet column that
            is nested or binary, over ten million rows.
    """
    check_plain(path)
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


def check_plain(path: Path) -> None:
    """Refuse what would block or never end when it is read.

    Raises:
        BadInput: there is something else than a plain file.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: is no plain file")


def without_rows(path: Path, drop: Callable[[dict[str, str]], bool]) -> tuple[bytes, int]:
    """The content of the table's file without the rows that `drop` (given name to stripped text) picks, and their
    number. What stays keeps its text, or its types in parquet.

    Raises:
        BadInput: as `read_table`.
    """
    table = read_table(path)
    names = list(table.columns)
    keep = [not drop(dict(zip(names, row, strict=True))) for row in zip(*table.columns.values(), strict=True)]
    write = _parquet_rows if path.suffix.lower() == ".parquet" else _csv_rows
    return write(path, keep), len(keep) - sum(keep)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A csv table.

    >>> csv_text(["file", "class"], [["a,b.png", "pit"]])
    'file,class\\n"a,b.png",pit\\n'
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return out.getvalue()


def _read_csv(path: Path) -> Table:
    places = array("q")
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            table = csv.reader(text, strict=True)
            header = _check_header(path, next((row for row in table if row), []))
            values: list[list[str]] = [[] for _ in header]
            shared: list[dict[str, str]] = [{} for _ in header]
            for row in table:
                if not row:
                    continue
                if len(row) != len(header):
                    raise BadInput(f"{path}: line {table.line_num} has {len(row)} fields, the header {len(header)}")
                _check_rows(path, len(places) + 1)
                places.append(table.line_num)
                for value, column, known in zip(row, values, shared, strict=True):
                    value = value.strip()
                    column.append(known.setdefault(value, value))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path}: cannot be read as a csv file in utf-8: {reason.lower()}") from error
    return Table(path, dict(zip(header, values, strict=True)), places, "line")


def _check_header(path: Path, row: Sequence[str]) -> list[str]:
    header = [name.strip() for name in row]
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: column {twice!r} stands twice in the header; each name must stand once")
    return header


def _check_rows(path: Path, rows: int) -> None:
    if rows > MOST_ROWS:
        raise BadInput(f"{path}: over {MOST_ROWS:,} rows; a table of images has at most so many")


def _read_parquet(path: Path) -> Table:
    table = _parquet(path)
    names = _check_header(path, table.column_names)
    columns = {name: _texts(path, name, column) for name, column in zip(names, table.columns, strict=True)}
    return Table(path, columns, range(1, table.num_rows + 1), "row")


def _parquet(path: Path) -> Any:
    parquet, arrow = require("pyarrow.parquet", extra="toolkit"), require("pyarrow", extra="toolkit")
    try:
        with reading(path), path.open("rb") as source:
            file = parquet.ParquetFile(source)
            _check_rows(path, file.metadata.num_rows)
            return file.read()
    except arrow.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as a parquet file: {_first_line(error)}") from error


def _texts(path: Path, name: str, column: Any) -> list[str]:
    arrow, compute = require("pyarrow", extra="toolkit"), require("pyarrow.compute", extra="toolkit")
    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (types.is_primitive(column.type) or types.is_decimal(column.type) or types.is_null(column.type)) and not (
        types.is_string(column.type) or types.is_large_string(column.type) or types.is_string_view(column.type)
    ):
        raise BadInput(f"{path}: column {name!r} is of type {column.type}; text, numbers and times can be read")
    try:
        if types.is_floating(column.type):
            column = compute.if_else(compute.is_nan(column), None, column)
        if types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(arrow.timestamp(column.type.unit, "UTC"))
        column = column.cast(arrow.string())
    except arrow.ArrowException as error:
        raise BadInput(f"{path}: column {name!r} cannot be read as text: {_first_line(error)}") from error
    shared: dict[str, str] = {}
    out: list[str] = []
    for chunk in column.chunks:
        texts = ((value or "").strip() for value in chunk.to_pylist())
        out += [shared.setdefault(text, text) for text in texts]
    return out


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["damaged"])[0].lower()


def _csv_rows(path: Path, keep: Sequence[bool]) -> bytes:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    with reading(path), path.open("rb") as raw:
        mark = raw.read(3) == b"\xef\xbb\xbf"
    with path.open(newline="", encoding="utf-8-sig") as text:
        rows = (row for row in csv.reader(text, strict=True) if row)
        table.writerow(next(rows))
        table.writerows(row for row, kept in zip(rows, keep, strict=True) if kept)
    return out.getvalue().encode("utf-8-sig" if mark else "utf-8")


def _parquet_rows(path: Path, keep: Sequence[bool]) -> bytes:
    parquet, arrow = require("pyarrow.parquet", extra="toolkit"), require("pyarrow", extra="toolkit")
    out = io.BytesIO()
    parquet.write_table(_parquet(path).filter(arrow.array(keep, arrow.bool_())), out)
    return out.getvalue()
