"""What is exported is what the store holds, whatever the format, and stays so."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timezone

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import func, insert, select, update

from device_agent.contract import topics
from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput, NotFound, NotWritable
from device_agent.contract.report import GAP, read_report
from device_agent.merging import merge
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.export import folder as folders
from fleet.export import walk
from fleet.export.columns import COLUMNS, TIDY, about
from fleet.export.folder import export_file, export_folder
from fleet.export.manifest import MANIFEST, Request
from fleet.export.tables import TABLES, Chosen
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.retention import Limits, retain
from fleet.rollup import DAY_MS, read_sums, roll
from fleet.schema import ALERT, DEVICE, EVENT, LABEL, REPORT, ROLLUP

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SETTINGS = Settings(interval_ms=600_000)
START_MS = 1_760_000_000_000
FIRST_DAY = "day=2025-10-09"
EVERY_MS = 3_600_000
EVERYBODY = Chosen()


class Line:
    """Two devices at two sites that report every hour, the second of them with gaps."""

    def __init__(self, plant) -> None:
        self.plant = plant
        self.engine = plant.open(places={"press-1": ("hall", "plate"), "press-2": ("yard", "plate")})
        self.ingest = Ingest(self.engine, SETTINGS)
        self.speakers = [
            plant.speaker(name, interval_ms=EVERY_MS, seed=k, model=k) for k, name in enumerate(("press-1", "press-2"))
        ]

    def take(self, speaker, *reports) -> None:
        self.process([(speaker, one) for one in reports])

    def process(self, reports: list) -> None:
        messages = [
            Message(topics.up(speaker.device, "report"), encode(one), START_MS + one.monotonic_ms)
            for speaker, one in reports
        ]
        self.ingest.process(read_batch(messages), messages[-1].received_ms)

    def run(self, hours: int) -> None:
        made = []
        for hour in range(hours):
            for speaker in self.speakers:
                look = "dirty" if hour % 7 == 0 else "healthy"
                flags = 1 | (GAP if hour % 20 == 5 and speaker is self.speakers[1] else 0)
                made.append((speaker, speaker.report(look, flags=flags)))
        for at in range(0, len(made), 30):
            self.process(made[at : at + 30])

    def house(self, now_ms: int) -> None:
        for _ in range(100):
            with self.engine.begin() as tx:
                if not roll(tx, now_ms, spend_s=1.0):
                    return
        pytest.fail("rolling does not end")

    def count(self, table) -> int:
        with self.engine.connect() as tx:
            return tx.scalar(select(func.count()).select_from(table))


@pytest.fixture
def line(plant) -> Line:
    line = Line(plant)
    line.run(60)
    return line


def ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def read_folder(path, order=("device", "at_utc", "epoch", "sequence")) -> list[dict]:
    """As pyarrow's dataset reader finds it, the partition's column among the others."""
    import pyarrow.dataset as ds

    rows = ds.dataset(path, format="parquet", partitioning="hive").to_table().to_pylist()
    return sorted(rows, key=lambda row: tuple(row[name] for name in order)) if rows and order[0] in rows[0] else rows


def stored_reports(engine) -> list:
    with engine.connect() as tx:
        asked = select(REPORT).order_by(REPORT.c.device, REPORT.c.at_ms, REPORT.c.epoch, REPORT.c.sequence)
        return tx.execute(asked).all()


def check_reports(rows: list[dict], engine) -> None:
    """Every value of every stored report, from its own payload."""
    stored = stored_reports(engine)
    assert len(rows) == len(stored) > 0
    for row, held in zip(rows, stored, strict=True):
        report = read_report(held.payload)
        assert (row["device"], row["epoch"], row["sequence"]) == (held.device, held.epoch, held.sequence)
        assert (ms(row["at_utc"]), ms(row["received_utc"])) == (held.at_ms, held.received_ms)
        assert row["score_log_e"] == held.score and row["first_sequence"] == held.first and row["live"] == held.live
        for name in ("frames", "dropped", "parts", "same", "identical", "interval_ms", "boot", "monotonic_ms"):
            assert row[name] == getattr(report, name)
        assert row["model"] == report.model.hex() and row["classes"] == 2
        assert np.array_equal(np.array(row["counts"]).reshape(2, 24), report.histogram.dense())
        infer = dict(zip(report.latency[2][::2], report.latency[2][1::2], strict=True))
        assert {bucket: count for bucket, count in enumerate(row["infer_latency"]) if count} == infer
        assert (row["brightness"], row["sharpness"], row["clipped_permille"]) == tuple(
            getattr(report.quality, name) for name in report.quality.__struct_fields__
        )
        assert (row["clock_synced"], row["gap"], row["merged"]) == (
            bool(report.flags & 1), bool(report.flags & GAP), bool(report.flags & 8),
        )  # fmt: skip
        assert row["cpu_percent"] is None and row["throttled"] is None


def test_reports_come_back_from_a_folder_of_days_as_they_are_stored(line, tmp_path):
    done = export_folder(line.engine, tmp_path / "out", Request(what="reports"))
    assert done.rows == 120 and done.written[0] == FIRST_DAY and len(done.written) == 3
    rows = read_folder(tmp_path / "out")
    check_reports(rows, line.engine)
    assert {f"day={row['day']}" for row in rows} == set(done.written)
    assert all(f"{row['at_utc']:%Y-%m-%d}" == str(row["day"]) for row in rows), "each lies in its own day"
    one = pq.read_table(tmp_path / "out" / FIRST_DAY / "part-0.parquet", partitioning=None)
    assert (
        one.schema.metadata[b"lineside"]
        == json.dumps(json.loads(one.schema.metadata[b"lineside"]), separators=(",", ":")).encode()
    )
    said = json.loads(one.schema.metadata[b"lineside"])
    assert said["schema"] == "1.0" and said["bins"] == "logodds24-v1" and len(said["bin_edges"]) == 23
    assert [column["name"] for column in said["columns"]] == one.column_names


def test_pandas_reads_it_too(line, tmp_path):
    pandas = pytest.importorskip("pandas")
    export_folder(line.engine, tmp_path / "out", Request(what="reports"))
    frame = pandas.read_parquet(tmp_path / "out")
    assert frame["frames"].sum() == sum(row.frames for row in stored_reports(line.engine)) == 120 * 20
    assert str(frame["at_utc"].dtype).startswith("datetime64[ms, UTC")


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_of_any_size_make_the_same_rows(line, tmp_path, batch, monkeypatch):
    export_file(line.engine, tmp_path / "a.parquet", Request(what="reports"))
    monkeypatch.setattr(walk, "BATCH_ROWS", batch)
    export_file(line.engine, tmp_path / "b.parquet", Request(what="reports"))
    parts = pq.ParquetFile(tmp_path / "b.parquet")
    assert parts.num_row_groups == -(-120 // batch)
    assert parts.read().equals(pq.read_table(tmp_path / "a.parquet"))


def test_histograms_of_very_many_classes_end_a_batch_early():
    rows = iter([(0, (1_000_000, [5, 1]))] * 10)
    assert [len(batch) for batch in walk._cut(rows, 1)] == [3, 3, 3, 1]


def test_a_tidy_export_has_a_row_for_each_class_and_bin_that_was_seen(line, tmp_path):
    export_file(line.engine, tmp_path / "t.parquet", Request(what="reports", tidy=True))
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == [column.name for column in TIDY["reports"]]
    found: dict[tuple, dict[int, int]] = {}
    for row in table.to_pylist():
        key = (row["device"], row["epoch"], row["sequence"])
        found.setdefault(key, {})[row["class"] * 24 + row["bin"]] = row["count"]
        assert row["label"] == ("good", "scratch")[row["class"]]
        assert row["bin_from_log_odds"] == (None if row["bin"] == 0 else -1.5 + 0.5 * row["bin"])
    for held in stored_reports(line.engine):
        flat = read_report(held.payload).histogram.cells
        assert found.pop((held.device, held.epoch, held.sequence)) == dict(zip(flat[::2], flat[1::2], strict=True))
    assert not found


def test_hours_and_days_come_back_as_they_are_summed(line, tmp_path):
    line.house(START_MS + 5 * DAY_MS)
    for what, span in (("hours", "h"), ("days", "d")):
        export_folder(line.engine, tmp_path / what, Request(what=what))
        rows = read_folder(tmp_path / what, ("device", "start_utc", "model"))
        with line.engine.connect() as tx:
            held = [
                (device, start_ms, model, sums)
                for device in ("press-1", "press-2")
                for start_ms, model, sums in read_sums(tx, device, span, 0, 2**50)
            ]
        assert len(rows) == len(held) > 2
        for row, (device, start_ms, model, sums) in zip(rows, held, strict=True):
            assert (row["device"], ms(row["start_utc"]), row["model"]) == (device, start_ms, model)
            for name in ("reports", "frames", "dropped", "parts", "same"):
                assert row[name] == getattr(sums, name)
            assert row["score_log_e"] == sums.score and row["classes"] == 2 and len(row["counts"]) == 48
            assert {cell: count for cell, count in enumerate(row["counts"]) if count} == sums.cells
            assert {bucket: count for bucket, count in enumerate(row["infer_latency"]) if count} == sums.infer
            assert [
                row[name] for name in ("quality_frames", "brightness_sum", "sharpness_sum", "clipped_permille_sum")
            ] == sums.quality
    assert sum(row["frames"] for row in rows) == 120 * 20


def test_gaps_devices_models_labels_and_alerts_come_back(line, tmp_path):
    now = {"severity": "page", "scope_kind": "site", "site": "hall", "model": "m", "stream": "low+", "text": "=x"}
    alert = {
        **now,
        "id": "a1",
        "scope": "hall",
        "opened_ms": START_MS,
        "onset_ms": START_MS,
        "updated_ms": START_MS + 9,
    }
    with line.engine.begin() as tx:
        document = json.dumps({"schema": "1.0", **alert, "devices": ["press-1"], "log_e": 12.5})
        tx.execute(insert(ALERT).values(id="a1", opened_ms=START_MS, closed_ms=None, document=document))
        tx.execute(
            insert(LABEL).values(
                item="s", annotator="eve", label="good", labelled_ms=START_MS + 5, device="press-2", model="m",
                at_ms=START_MS, predicted=1, cell=None,
            )
        )  # fmt: skip
    read = {}
    for what in ("gaps", "events", "devices", "models", "labels", "alerts"):
        export_file(line.engine, tmp_path / f"{what}.parquet", Request(what=what))
        read[what] = pq.read_table(tmp_path / f"{what}.parquet").to_pylist()
    speaker = line.speakers[1]
    assert [(row["device"], row["epoch"], row["sequence"]) for row in read["gaps"]] == [
        ("press-2", speaker.epoch, sequence) for sequence in (6, 26, 46)
    ]
    with line.engine.connect() as tx:
        held = [row._mapping for row in tx.execute(select(DEVICE).order_by(DEVICE.c.device))]
        assert len(read["events"]) == tx.scalar(select(func.count()).select_from(EVENT))
    for row, mine in zip(read["devices"], held, strict=True):
        assert {name: row[name] for name in ("device", "site", "product", "reports", "frames", "model")} == {
            name: mine[name] for name in ("device", "site", "product", "reports", "frames", "model")
        }
        assert ms(row["last_report_utc"]) == mine["last_report_ms"]
    assert [row["labels"] for row in read["models"]] == [["good", "scratch"]] * 3
    assert read["labels"][0]["cell"] is None and ms(read["labels"][0]["labelled_utc"]) == START_MS + 5
    (found,) = read["alerts"]
    assert found["devices"] == ["press-1"] and found["log_e"] == 12.5 and found["closed_utc"] is None
    for chosen, rows in (
        (Chosen(devices=("press-1",)), 1), (Chosen(devices=("press-2",)), 0), (Chosen(sites=("hall",)), 1),
        (Chosen(sites=("yard",)), 0),
    ):  # fmt: skip
        assert export_file(line.engine, tmp_path / "x.parquet", Request(what="alerts", chosen=chosen)).rows == rows


def test_columns_of_every_table_fit_what_is_read(line, tmp_path):
    line.house(START_MS + 5 * DAY_MS)
    assert set(COLUMNS) == set(TABLES)
    for what in COLUMNS:
        for form in ("parquet", "csv", "jsonl"):
            export_file(line.engine, tmp_path / f"x.{form}", Request(what=what, format=form))
        names = [column.name for column in about(what).columns]
        assert len(set(names)) == len(names) and pq.read_schema(tmp_path / "x.parquet").names == names
        assert next(csv.reader((tmp_path / "x.csv").open())) == names


def test_csv_and_json_lines_hold_the_same_as_parquet(line, tmp_path):
    for form in ("parquet", "csv", "jsonl"):
        export_file(line.engine, tmp_path / f"r.{form}", Request(what="reports", format=form))
    parquet = pq.read_table(tmp_path / "r.parquet").to_pylist()
    lines = [json.loads(text) for text in (tmp_path / "r.jsonl").read_text().splitlines()]
    with (tmp_path / "r.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(parquet) == len(lines) == len(table) == 120
    for row, said, cells in zip(parquet, lines, table, strict=True):
        for name in ("at_utc", "received_utc"):
            row[name] = f"{row[name]:%Y-%m-%dT%H:%M:%S}.{row[name].microsecond // 1000:03}Z"
        assert said == row
        assert json.loads(cells["counts"]) == row["counts"] and int(cells["frames"]) == row["frames"]
        assert (cells["at_utc"], cells["gap"], cells["cpu_percent"]) == (row["at_utc"], str(row["gap"]).lower(), "")


def test_csv_runs_no_formula(line, tmp_path):
    bad = ("=cmd|'/c calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1")
    for text in bad:
        with line.engine.begin() as tx:
            tx.execute(update(DEVICE).where(DEVICE.c.device == "press-1").values(agent=text, reason='a,"b"\nc'))
        export_file(line.engine, tmp_path / "d.csv", Request(what="devices", format="csv"))
        with (tmp_path / "d.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        assert row["agent"] == "'" + text and row["reason"] == 'a,"b"\nc'


def test_a_day_that_is_done_is_left_alone_and_one_that_changed_is_written_again(line, tmp_path):
    out = tmp_path / "out"
    first = export_folder(line.engine, out, Request(what="reports"))
    again = export_folder(line.engine, out, Request(what="reports"))
    assert again.written == [] and again.unchanged == first.written
    stamps = {name: (out / name / "part-0.parquet").stat().st_ino for name in first.written}
    line.run(3)
    more = export_folder(line.engine, out, Request(what="reports"))
    assert more.written == first.written[-1:] and more.unchanged == first.written[:-1]
    for name in more.unchanged:
        assert (out / name / "part-0.parquet").stat().st_ino == stamps[name]
    check_reports(read_folder(out), line.engine)


def test_late_and_merged_reports_find_their_way_into_days_that_were_done(line, tmp_path):
    out, speaker = tmp_path / "out", line.speakers[0]
    made = [speaker.report() for _ in range(30)]
    line.take(speaker, made[0], made[29])
    export_folder(line.engine, out, Request(what="reports"))
    line.take(speaker, made[1])
    late = export_folder(line.engine, out, Request(what="reports"))
    assert len(late.written) == 1 and late.rows > 0
    check_reports(read_folder(out), line.engine)
    line.take(speaker, merge(made))
    merged = export_folder(line.engine, out, Request(what="reports"))
    rows = read_folder(out)
    check_reports(rows, line.engine)
    assert len(merged.written) + len(merged.removed) >= 2, "days of what it replaces change too"
    assert sum(row["frames"] for row in rows if row["device"] == "press-1") == 90 * 20
    assert [(row["first_sequence"], row["sequence"]) for row in rows if row["merged"]] == [(61, 90)]


def test_a_day_whose_reports_were_all_replaced_is_taken_away(line, tmp_path):
    out, speaker = tmp_path / "out", line.speakers[0]
    made = [speaker.report() for _ in range(60)]
    line.take(speaker, *made[24:40])
    export_folder(line.engine, out, Request(what="reports"))
    line.take(speaker, merge(made))
    done = export_folder(line.engine, out, Request(what="reports"))
    assert done.removed
    assert not any((out / name).exists() for name in done.removed)
    check_reports(read_folder(out), line.engine)


def test_what_retention_took_stays_exported(line, tmp_path):
    out = tmp_path / "out"
    before = export_folder(line.engine, out, Request(what="reports"))
    held = read_folder(out)
    now_ms = START_MS + 8 * DAY_MS + DAY_MS // 2
    line.house(now_ms)
    with line.engine.begin() as tx:
        assert retain(tx, now_ms, Limits(), spend_s=5.0) > 0
    assert 0 < line.count(REPORT) < 120
    after = export_folder(line.engine, out, Request(what="reports"))
    assert after.written == [] and after.kept and set(after.kept + after.unchanged) <= set(before.written)
    assert read_folder(out) == held
    fresh = export_folder(line.engine, tmp_path / "new", Request(what="reports"))
    parts = json.loads((tmp_path / "new" / MANIFEST).read_text())["parts"]
    assert [parts[name]["whole"] for name in fresh.written] == [False, True]


def test_hours_that_were_taken_away_stay_exported_and_a_sum_that_grew_is_written_again(line, tmp_path):
    out, speaker = tmp_path / "out", line.speakers[0]
    held = speaker.report()
    line.run(2)
    line.house(START_MS + 5 * DAY_MS)
    first = export_folder(line.engine, out, Request(what="hours"))
    assert export_folder(line.engine, out, Request(what="hours")).unchanged == first.written
    line.take(speaker, held)
    line.house(START_MS + 5 * DAY_MS)
    again = export_folder(line.engine, out, Request(what="hours"))
    assert len(again.written) == 1
    held_rows = read_folder(out, ("device", "start_utc", "model"))
    with line.engine.begin() as tx:
        tx.execute(ROLLUP.delete().where(ROLLUP.c.start_ms < START_MS + 6 * 3_600_000))
    done = export_folder(line.engine, out, Request(what="hours"))
    assert done.kept == [FIRST_DAY] and not done.written
    assert read_folder(out, ("device", "start_utc", "model")) == held_rows


def test_months_hold_what_days_hold(line, tmp_path):
    line.house(START_MS + 5 * DAY_MS)
    export_folder(line.engine, tmp_path / "d", Request(what="hours"))
    done = export_folder(line.engine, tmp_path / "m", Request(what="hours", months=True))
    assert done.written == ["month=2025-10"]
    order = ("device", "start_utc", "model")
    days, months = read_folder(tmp_path / "d", order), read_folder(tmp_path / "m", order)
    strip = lambda rows: [{name: row[name] for name in row if name not in ("day", "month")} for row in rows]  # noqa: E731
    assert strip(days) == strip(months)
    with pytest.raises(BadInput, match="cannot be a file a month"):
        export_folder(line.engine, tmp_path / "r", Request(what="reports", months=True))


def test_devices_sites_and_times_are_chosen(line, tmp_path):
    def exported(chosen=EVERYBODY, **times):
        export_file(line.engine, tmp_path / "c.parquet", Request(what="reports", chosen=chosen), **times)
        return pq.read_table(tmp_path / "c.parquet").to_pylist()

    assert {row["device"] for row in exported(Chosen(devices=("press-2",)))} == {"press-2"}
    assert {row["device"] for row in exported(Chosen(sites=("hall",)))} == {"press-1"}
    assert exported(Chosen(sites=("hall",), devices=("press-2",))) == []
    from_ms, until_ms = START_MS + 5 * EVERY_MS, START_MS + 9 * EVERY_MS
    rows = exported(from_ms=from_ms, until_ms=until_ms)
    times = sorted({ms(row["at_utc"]) for row in rows})
    assert len(rows) == 8 and times[0] >= from_ms and times[-1] < until_ms
    done = export_folder(
        line.engine,
        tmp_path / "whole",
        Request(what="reports"),
        from_ms=START_MS + DAY_MS,
        until_ms=START_MS + DAY_MS + 1,
    )
    assert done.written == ["day=2025-10-10"] and done.rows == 48, "whole days of UTC"


def test_devices_that_are_not_in_the_table_of_devices_yet_are_exported(line, tmp_path):
    with line.engine.begin() as tx:
        tx.execute(DEVICE.delete())
    assert export_folder(line.engine, tmp_path / "out", Request(what="reports")).rows == 120


def test_nothing_is_left_half_written(line, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_folder(line.engine, out, Request(what="reports"))
    held = read_folder(out)
    line.run(2)
    real = walk.TABLES["reports"]

    def fails(row, labels):
        if row.sequence == 62:
            raise OSError(28, "No space left on device")
        return real.value(row, labels)

    monkeypatch.setitem(walk.TABLES, "reports", real._replace(value=fails))
    with pytest.raises(NotWritable, match="no space left on device"):
        export_folder(line.engine, out, Request(what="reports"))
    assert read_folder(out) == held and not list(out.rglob("*.part"))
    monkeypatch.undo()
    (out / FIRST_DAY / ".part-0.parquet.0a1b2c3d.part").write_bytes(b"PAR1 of one that was killed")
    assert export_folder(line.engine, out, Request(what="reports")).written
    check_reports(read_folder(out), line.engine)
    assert not list(out.rglob("*.part"))


def test_a_file_that_went_or_is_cut_is_written_again(line, tmp_path):
    out = tmp_path / "out"
    first = export_folder(line.engine, out, Request(what="reports"))
    (out / first.written[0] / "part-0.parquet").unlink()
    cut = out / first.written[1] / "part-0.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    assert export_folder(line.engine, out, Request(what="reports")).written == first.written[:2]
    check_reports(read_folder(out), line.engine)


def test_a_folder_of_something_else_is_left_alone(line, tmp_path):
    export_folder(line.engine, tmp_path / "out", Request(what="reports"))
    for other in (
        Request(what="hours"), Request(what="reports", format="csv"), Request(what="reports", tidy=True),
        Request(what="reports", chosen=Chosen(devices=("press-1",))),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="holds another export"):
            export_folder(line.engine, tmp_path / "out", other)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="holds something else"):
        export_folder(line.engine, tmp_path / "home", Request(what="reports"))
    with pytest.raises(BadInput, match="is a file"):
        export_folder(line.engine, tmp_path / "home" / "letter.txt", Request(what="reports"))
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(BadInput):
        export_folder(line.engine, tmp_path / "out", Request(what="reports"))
    with pytest.raises(BadInput, match="no tidy form"):
        export_file(line.engine, tmp_path / "x.csv", Request(what="alerts", tidy=True, format="csv"))


def test_two_exports_do_not_write_to_one_folder(line, tmp_path):
    def again(*_told) -> None:
        with pytest.raises(BadInput, match="another export writes there"):
            export_folder(line.engine, tmp_path / "out", Request(what="reports"))
        seen.append(1)

    seen: list[int] = []
    export_folder(line.engine, tmp_path / "out", Request(what="reports"), tell=again)
    assert len(seen) == 3


def test_reports_that_come_meanwhile_are_in_the_next_export(line, tmp_path, monkeypatch):
    real, came = walk.TABLES["reports"], []

    def slow(row, labels):
        if not came:
            came.append(1)
            line.run(1)
        return real.value(row, labels)

    monkeypatch.setitem(walk.TABLES, "reports", real._replace(value=slow))
    export_file(line.engine, tmp_path / "a.parquet", Request(what="reports"))
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 120 and line.count(REPORT) == 122
    export_file(line.engine, tmp_path / "a.parquet", Request(what="reports"))
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 122


def test_days_are_those_of_utc_and_of_any_time():
    assert folders._bounds("day=1970-01-01") == (0, DAY_MS)
    assert folders._bounds("month=2024-02")[1] - folders._bounds("month=2024-02")[0] == 29 * DAY_MS
    assert folders._bounds(folders._day(20_454))[0] == 20_454 * DAY_MS
    assert folders._bounds(folders._day(10**9)) == (253_402_214_400_000, 2**62) == folders._bounds("day=9999-12-31")
    assert folders._bounds("month=9999-12")[1] == 2**62
    assert datetime.fromtimestamp(20_454 * 86_400, timezone.utc).date().isoformat() == folders._day(20_454)[4:]


def test_the_command_says_what_it_did(line, tmp_path):
    def run(*more: str):
        return CliRunner().invoke(cli, ["export", *more, "--store", line.plant.url])

    done = run("--out", str(tmp_path / "out"))
    assert done.exit_code == 0 and "120 rows" in done.output and "3 files written" in done.output
    assert "3 unchanged" in run("--out", str(tmp_path / "out")).output
    done = run("--what", "devices", "--out", str(tmp_path / "d.csv"), "--json")
    assert done.exit_code == 0 and json.loads(done.output)["rows"] == 2
    assert (
        "rows"
        in run("--from", "2025-10-09", "--to", "2025-10-10T00:00+02:00", "--out", str(tmp_path / "a.jsonl")).output
    )
    assert "0 rows" in run("--from", "7d", "--out", str(tmp_path / "b.jsonl")).output
    assert "counts" in run("--describe").output
    for words, said in (
        (("--out", str(tmp_path / "x.csv"), "--format", "parquet"), "ends in .csv"),
        (("--from", "1d", "--to", "2d", "--out", "x"), "must be later"),
        (("--tidy", "--what", "alerts", "--out", "x"), "no tidy form"),
        (("--compact", "--out", str(tmp_path / "x.csv")), "for a folder"),
    ):
        found = run(*words)
        assert isinstance(found.exception, BadInput) and said in str(found.exception)
    for words in (("--device", "nobody"), ("--site", "nowhere")):
        assert isinstance(run(*words, "--out", str(tmp_path / "x.csv")).exception, NotFound)
    assert "must read like" in run("--from", "yesterday", "--out", "x").output
    assert run().exit_code == 2
