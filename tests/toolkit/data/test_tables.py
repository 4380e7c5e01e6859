"""Tables: csv and parquet mean the same, and what cannot be read is one line."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import BadInput
from toolkit.data import tables
from toolkit.data.tables import read_table, without_rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_csv_table_with_a_mark_blank_lines_and_quoted_newlines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufefffile , note\n\n a.png ,"two\nlines, one cell"\n\nb.png,\n'.encode())
    table = read_table(path)
    assert table.columns == {"file": ["a.png", "b.png"], "note": ["two\nlines, one cell", ""]}
    assert len(table) == 2 and table.where(0) == f"{path}: line 4" and table.where(1) == f"{path}: line 6"


def test_equal_values_of_a_column_are_one_string(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("site\n" + "north hall\n" * 50)
    parquet(tmp_path / "t.parquet", site=["north hall"] * 50)
    for name in ("t.csv", "t.parquet"):
        assert len({id(value) for value in read_table(tmp_path / name).columns["site"]}) == 1, name


def test_parquet_types_become_the_text_that_csv_would_have(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 31, 10, 11, 12)
    zone = datetime.timezone(datetime.timedelta(hours=1))
    path = parquet(
        tmp_path / "t.parquet",
        file=pa.array(["a.png", " b.png "]).dictionary_encode(),
        part=pa.array([7, None], pa.int64()),
        light=[0.9, float("nan")],
        single=pa.array([0.1, None], pa.float32()),
        checked=[True, False],
        day=[datetime.date(2026, 1, 31), None],
        time=[moment, None],
        zoned=[moment.replace(tzinfo=zone), None],
        price=[Decimal("1.50"), None],
        nothing=pa.nulls(2),
    )
    table = read_table(path)
    assert table.columns == {
        "file": ["a.png", "b.png"],
        "part": ["7", ""],
        "light": ["0.9", ""],
        "single": ["0.1", ""],
        "checked": ["true", "false"],
        "day": ["2026-01-31", ""],
        "time": ["2026-01-31 10:11:12.000000", ""],
        "zoned": ["2026-01-31 09:11:12.000000Z", ""],
        "price": ["1.50", ""],
        "nothing": ["", ""],
    }
    assert table.where(1) == f"{path}: row 2"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([["pit"], ["dent", "pit"]], "list"),
        ([{"bytes": b"x"}, {"bytes": b"y"}], "struct"),
        ([b"\x89PNG", b"\xff"], "binary"),
    ],
)
def test_a_parquet_column_that_is_no_text_is_named(tmp_path: Path, column: list[Any], kind: str) -> None:
    path = parquet(tmp_path / "t.parquet", file=["a", "b"], image=column)
    with pytest.raises(BadInput, match=f"column 'image' is of type {kind}.*; text, numbers and times can be read"):
        read_table(path)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", file=["a"] * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="cannot be read as a parquet file") as error:
        read_table(path)
    assert "\n" not in str(error.value)
    path.write_text("file,class\n")
    with pytest.raises(BadInput, match="cannot be read as a parquet file"):
        read_table(path)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_more_rows_than_a_table_may_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "t.csv").write_text("file\na\nb\nc\n")
    parquet(tmp_path / "t.parquet", file=["a", "b", "c"])
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    assert len(read_table(tmp_path / name)) == 3
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    with pytest.raises(BadInput, match="over 2 rows"):
        read_table(tmp_path / name)


def test_rows_are_left_out_and_the_others_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufefffile,note\n a.png,"x,\n y"\nb.png,\nc.png," z"\n'.encode())
    content, count = without_rows(path, lambda row: row["file"] == "b.png")
    assert count == 1 and content.decode() == '\ufefffile,note\n a.png,"x,\n y"\nc.png, z\n'


def test_rows_left_out_of_parquet_leave_the_types_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", file=["a", "b", "c"], part=[1, 2, 3])
    content, count = without_rows(path, lambda row: row["part"] == "2")
    left = pq.read_table(pa.BufferReader(content))
    assert (
        count == 1
        and left.to_pydict() == {"file": ["a", "c"], "part": [1, 3]}
        and left.schema.field("part").type == "int64"
    )
