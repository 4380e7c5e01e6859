"""Shadows are added up once for each report, whatever is merged, repeated or rolled back."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.report import Shadow, read_report
from fleet.shadow.tally import HOUR_MS, Counts, Gone, forget_tally, read_candidates, read_tally, tally

OTHER = b"\x0f" * 8
START = 1_760_000_400_000


def test_the_reports_of_a_device_and_hour_add_up(plant, shadowed, entry):
    engine, speaker = plant.open(), plant.speaker("press-1")
    reports = [shadowed(speaker, agreed=3, apart=each) for each in (1, 0, 2)]
    with engine.begin() as tx:
        assert tally(tx, [entry("press-1", reports[0])]) == 1
        assert tally(tx, [entry("press-1", reports[1], START + HOUR_MS), entry("press-1", reports[2])]) == 2
        assert tally(tx, [entry("press-1", plant.speaker("press-1").report())]) == 0
    with engine.connect() as tx:
        first, second = read_tally(tx, OTHER.hex())
        assert read_candidates(tx) == [OTHER.hex()]
        assert read_tally(tx, "00" * 8) == [] and len(read_tally(tx, OTHER.hex(), since_ms=second.start_ms)) == 1
    assert (first.counts.frames, first.counts.agreed, first.counts.reports) == (9, 6, 2)
    assert first.counts.matrix == {0: 6, 2: 3} and first.counts.cells == {12: 9} and first.counts.latency == {5: 9}
    assert sum(first.counts.served.values()) == 40 and first.counts.same == reports[0].same + reports[2].same
    assert (second.start_ms - first.start_ms, second.counts.frames) == (HOUR_MS, 3)


def test_nothing_stays_of_a_transaction_that_failed(plant, shadowed, entry):
    engine, speaker = plant.open(), plant.speaker("press-1")
    with pytest.raises(ZeroDivisionError), engine.begin() as tx:
        tally(tx, [entry("press-1", shadowed(speaker))])
        _ = 1 / 0
    with engine.connect() as tx:
        assert read_candidates(tx) == []


def test_a_merged_report_takes_the_place_of_those_it_stands_for(plant, shadowed, entry):
    engine, speaker = plant.open(), plant.speaker("press-1")
    singles = [shadowed(speaker) for _ in range(3)]
    merged = shadowed(speaker, agreed=9, apart=3)
    with engine.begin() as tx:
        tally(tx, [entry("press-1", one, START + i * HOUR_MS) for i, one in enumerate(singles)])
        tally(tx, [entry("press-1", merged)], [Gone("press-1", START + i * HOUR_MS, o) for i, o in enumerate(singles)])
    with engine.connect() as tx:
        [hour] = read_tally(tx, OTHER.hex())
    assert (hour.counts.frames, hour.counts.agreed, hour.counts.reports) == (12, 9, 1)


def test_another_number_of_classes_is_set_aside_and_counted(plant, shadowed):
    counts, report = Counts(), shadowed(plant.speaker("press-1"))
    counts.enter(report)
    before = msgspec.msgpack.encode(counts)
    odd = msgspec.structs.replace(report.histogram, classes=3, cells=[60, 20])
    counts.enter(msgspec.structs.replace(report, histogram=odd))
    assert counts.odd == 1 and counts.frames == 4
    counts.odd = 0
    assert msgspec.msgpack.encode(counts) == before


def test_a_device_of_schema_1_0_counts_without_a_matrix(plant, entry):
    engine = plant.open()
    old = msgspec.structs.replace(plant.speaker("press-1").report(), shadow=Shadow(OTHER, 10, 9))
    assert read_report(msgspec.msgpack.encode(old)).shadow == Shadow(OTHER, 10, 9)
    with engine.begin() as tx:
        tally(tx, [entry("press-1", old)])
        [hour] = read_tally(tx, OTHER.hex())
        assert (hour.counts.frames, hour.counts.agreed, hour.counts.matrix) == (10, 9, {})
        assert forget_tally(tx, START + HOUR_MS) == 1 and read_tally(tx, OTHER.hex()) == []
