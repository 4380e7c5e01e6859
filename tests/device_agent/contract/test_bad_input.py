"""Whatever arrives on a topic or lies in a bundle: a message, or one line of BadInput, and never another exception."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.contract.codec import check_document_schema, decode, encode, read_document
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, ConfidenceHistogram, dense_cells
from device_agent.contract.manifest import MOST_CLASSES, Baseline, BundleManifest, read_manifest
from device_agent.contract.report import (
    MAX_BACKFILL_BYTES,
    Backfill,
    DeviceReport,
    open_backfill,
    read_backfill,
    read_report,
    write_backfill,
)
from device_agent.contract.session import State
from device_agent.contract.topics import check_device, parse_up, up

FIELDS = DeviceReport.__struct_fields__
FUZZ = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def refused(read: Callable[[], object], saying: str = "") -> str:
    """The sentence of the BadInput that `read` raises: one line, of a length that a log can take."""
    with pytest.raises(BadInput) as caught:
        read()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert 10 < len(sentence) < 400
    assert saying in sentence, sentence
    return sentence


def read_or_refuse(read: Callable[[bytes], object], payload: bytes) -> None:
    """Read, or refuse in one line."""
    try:
        read(payload)
    except BadInput as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="session")
def readers(golden) -> dict[str, Callable[[bytes], object]]:
    """For each golden file the function that a program reads it with."""

    def reader(name: str) -> Callable[[bytes], object]:
        kind = golden[name].kind
        if kind is DeviceReport:
            return read_report
        if kind is BundleManifest:
            return read_manifest
        if not kind.__struct_config__.array_like:
            return lambda text: read_document(text, kind, where=name)
        return lambda payload: decode(payload, kind)

    return {name: reader(name) for name in golden}


@pytest.fixture
def numbers(golden) -> dict[str, object]:
    """The full golden report, field by field as it travels."""
    return dict(zip(FIELDS, msgspec.msgpack.decode(golden["DeviceReport-full.bin"].payload), strict=True))


def with_fields(numbers: dict[str, object], **changed: object) -> bytes:
    return msgspec.msgpack.encode([*{**numbers, **changed}.values()])


def test_every_truncation_of_every_message_is_refused(golden, readers):
    for name, item in golden.items():
        if name.endswith(".bin") and "newer-major" not in name:
            for cut in range(len(item.payload)):
                refused(partial(readers[name], item.payload[:cut]))


def test_every_truncation_of_every_json_text_is_refused(golden, readers):
    for name, item in golden.items():
        text = item.payload.rstrip()
        if name.endswith(".json"):
            for cut in range(0, len(text), 3):
                refused(partial(readers[name], text[:cut]))


def test_bytes_after_the_message_are_refused(golden, readers):
    for name, item in golden.items():
        if "newer-major" not in name:
            refused(partial(readers[name], item.payload + b"\x01"))


def test_the_table_starts_from_a_good_report(numbers):
    assert read_report(with_fields(numbers)).frames == 600


WRONG_FIELDS = [
    ("schema", "1.0", "expected `int`"),
    ("schema", None, "expected `int`"),
    ("schema", 2**40, "cannot be read"),
    ("epoch", -1, "$[1]"),
    ("epoch", 2**32, "$[1]"),
    ("epoch", 1.5, "$[1]"),
    ("sequence", -1, "$[2]"),
    ("sequence", 2**63, "$[2]"),
    ("sequence", True, "$[2]"),
    ("boot", "7", "$[3]"),
    ("wall_ms", -1, "$[4]"),
    ("monotonic_ms", 2**64 - 1, "$[5]"),
    ("interval_ms", None, "$[6]"),
    ("model", b"", "$[7]"),
    ("model", b"1234567", "$[7]"),
    ("model", b"123456789", "$[7]"),
    ("model", "12345678", "$[7]"),
    ("frames", -1, "$[8]"),
    ("frames", 599, "599 frames but 600 in the histogram"),
    ("frames", 2**60, "$[8]"),
    ("dropped", -5, "$[9]"),
    ("parts", 601, "more pairs or parts"),
    ("same", 601, "more pairs or parts"),
    ("identical", 601, "more pairs or parts"),
    ("same", -1, "$[11]"),
    ("histogram", [], "$[13]"),
    ("histogram", None, "$[13]"),
    ("histogram", [5, {}], "$[13]"),
    ("histogram", [0, []], "0 rows of 24 bins"),
    ("histogram", [-5, [3, 600]], "-5 rows of 24 bins"),
    ("histogram", [10**9, [3, 600]], "1000000000 rows of 24 bins"),
    ("histogram", [5, [3, 1, 4]], "3 numbers are not pairs"),
    ("histogram", [5, [4, 300, 3, 300]], "cells must grow"),
    ("histogram", [5, [3, 300, 3, 300]], "cells must grow"),
    ("histogram", [5, [-1, 600]], "cells must grow from 0 to 119"),
    ("histogram", [5, [120, 600]], "cells must grow from 0 to 119"),
    ("histogram", [5, [0, 1, 2**63 - 1, 1, -(2**63), 1, 5, 597]], "cells must grow"),
    ("histogram", [5, [3, -600]], "counts must be 1"),
    ("histogram", [5, [3, 0, 4, 600]], "counts must be 1"),
    ("histogram", [5, [3, 601, 4, -1]], "counts must be 1"),
    ("histogram", [5, [3, 2**41]], "counts must be 1"),
    ("histogram", [5, [3, 2**64 - 1]], "over 63 bits"),
    ("histogram", [5, [3, 600.0]], "$[13]"),
    ("histogram", [5, [3, 600], "percent-v9"], "bins 'percent-v9' cannot be read"),
    ("histogram", [5, [3, 600], "x" * 10_000], "$[13]"),
    ("latency", [[32, 600]], "a bucket under 32"),
    ("latency", [[1]], "pairs of a bucket"),
    ("latency", [[-1, 600]], "$[14]"),
    ("latency", [[1, -600]], "$[14]"),
    ("latency", [[1, 2**64 - 1]], "$[14]"),
    ("latency", [[0, 1] * 33], "$[14]"),
    ("latency", [[]] * 17, "$[14]"),
    ("quality", [256, 0, 0], "$[15]"),
    ("quality", [0, -1, 0], "$[15]"),
    ("quality", [0, 0, 1001], "$[15]"),
    ("quality", [0], "$[15]"),
    ("system", ["hot"], "$[16]"),
    ("shadow", [b"12", 1, 1], "$[17]"),
    ("shadow", [bytes(8), 3, 4], "agrees on 4 of 3 frames"),
    ("shadow", [bytes(8), 3, 2, [0, 2, 1, 2]], "3 frames but 4 in its matrix"),
    ("shadow", [bytes(8), 3, 2, [0, 1, 1, 2]], "agrees on 2 frames but 1 in its matrix"),
    ("shadow", [bytes(8), 3, 2, [25, 3]], "shadow matrix: cells must grow from 0 to"),
    ("shadow", [bytes(8), 3, 2, [], [5]], "shadow cells: 1 numbers are not pairs"),
    ("shadow", [bytes(8), 3, 2, [], [], [32, 3]], "shadow latency: cells must grow from 0 to 31"),
    ("self_test_ok", 1, "$[18]"),
    ("flags", -1, "$[19]"),
    ("flags", 2**31, "$[19]"),
    ("merged", [5], "$[20]"),
    ("merged", [1, 2], "must end with its own sequence"),
    ("merged", [1_000_043, 1_000_042], "must end with its own sequence"),
]


@pytest.mark.parametrize(("field", "value", "saying"), WRONG_FIELDS)
def test_a_report_with_one_wrong_field_is_refused(numbers, field, value, saying):
    refused(lambda: read_report(with_fields(numbers, **{field: value})), saying)


MONSTERS = {
    "empty": b"",
    "json garbage": b'[16, "}{',
    "json object": b'{"schema": 16}',
    "json number": b"[16, " + b"9" * 5000 + b"]",
    "json nested": b"[" * 200_000,
    "json nested in a field": b'[16, 1, true, "", ' + b"[" * 200_000,
    "text": b"hello",
    "nested arrays": b"\x91" * 200_000,
    "nested in a later field": b"\x95\x10\x01\xc3\xa0" + b"\x91" * 200_000,
    "nested maps": b"\x95\x10\x01\xc3\xa0" + b"\x81\x01" * 200_000,
    "array of 2^32": b"\xdd\xff\xff\xff\xff\x10",
    "map of 2^32": b"\xdf\xff\xff\xff\xff\x10",
    "binary of 2^32": b"\x92\x10\xc6\xff\xff\xff\xff",
    "text of 2^32": b"\x94\x10\x01\xc3\xdb\xff\xff\xff\xff",
    "list of 2^32": b"\x92\x10\xdd\xff\xff\xff\xff",
    "no utf-8": b"\x94\x10\x01\xc3\xa2\xff\xfe",
    "json no utf-8": b'[16, 1, true, "\xff\xfe"]',
    "extension": b"\x93\x10\xc7\x04\x01abcd\xc3",
    "unused byte": b"\xc1",
    "nan as a number": b"\x93\x10\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xc3",
}


@pytest.mark.parametrize("name", MONSTERS)
def test_a_monster_is_refused_by_every_reader_without_taking_memory(name, readers):
    tracemalloc.start()
    for read in readers.values():
        refused(lambda read=read: read(MONSTERS[name]))
    refused(lambda: read_backfill(MONSTERS[name]))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20e6


def test_a_backfill_that_is_none_is_refused(golden):
    good = golden["DeviceReport.bin"].payload
    payload = write_backfill([good] * 60)
    assert len(read_backfill(payload)) == 60
    for cut in range(len(payload)):
        refused(lambda cut=cut: read_backfill(payload[:cut]), "backfill")
    refused(lambda: read_backfill(payload + b"x"), "followed by others")
    refused(lambda: read_backfill(write_backfill([good] * 61)), "length <= 60")
    mixed = write_backfill([good, good[:-1]])
    assert open_backfill(mixed) == [good, good[:-1]]
    refused(lambda: read_backfill(mixed), "DeviceReport")
    bomb = Backfill(schema=16, reports=[bytes(2 * MAX_BACKFILL_BYTES)])
    refused(lambda: read_backfill(zlib.compress(encode(bomb))), "over 1 MiB")


def test_a_backfill_bomb_takes_no_more_than_its_limit():
    bomb = zlib.compress(bytes(64 << 20), 1)
    tracemalloc.start()
    refused(lambda: read_backfill(bomb), "over 1 MiB")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * MAX_BACKFILL_BYTES


def test_a_baseline_that_is_none_is_refused():
    assert Baseline.of(np.ones((2, 2, BINS), int)).dense().sum() == 96
    refused(lambda: Baseline(classes=-3, cells=[]).dense(), "-3 classes")
    refused(lambda: Baseline(classes=0, cells=[]).dense(), "0 classes")
    refused(lambda: Baseline(classes=MOST_CLASSES + 1, cells=[]).dense(), "1025 classes")
    refused(lambda: Baseline(classes=2, cells=[96, 1]).dense(), "cells must grow from 0 to 95")
    refused(lambda: Baseline(classes=2, cells=[1, 1], prevalence=[0.5, 0.6]).dense(), "add up to 1")
    refused(lambda: Baseline(classes=2, cells=[1, 1], prevalence=[1.0]).dense(), "2 shares")
    refused(lambda: Baseline(classes=2, cells=[1, 1], prevalence=[1.5, -0.5]).dense(), ">= 0")


def test_a_baseline_of_a_thousand_classes_can_be_stated():
    last = 1000 * 1000 * BINS - 1
    assert Baseline(classes=1000, cells=[0, 3, last, 4]).dense()[-1, -1, -1] == 4


def change(document: dict, path: str, value: object) -> bytes:
    *places, last = path.split("/")
    target = document
    for place in places:
        target = target[int(place)] if place.isdigit() else target[place]
    target[int(last) if last.isdigit() else last] = value
    return msgspec.json.encode(document)


DECISION = {"low": 0, "high": 1, "scale": [1, 1], "shift": [0, 0], "prevalence": [0.9, 0.1], "confidence": 0.95}
WRONG_MANIFESTS = [
    ("schema", "one", "schema must read like"),
    ("schema", 1, "expected `str`"),
    ("schema", "1.", "schema must read like"),
    ("schema", "\u0661.\u0660", "schema must read like"),
    ("schema", "1." + "0" * 100_000, "schema must read like"),
    ("labels", [], "length >= 2"),
    ("labels/0/role", "bad", "labels[0].role"),
    ("labels/0/name", "", "labels[0].name"),
    ("labels/0/name", "scratch", "two labels have the same name"),
    ("labels", [{"name": n, "role": "good"} for n in "abc"], "does not have the 3 classes of the labels"),
    ("artifacts", [], "length >= 1"),
    ("artifacts/0/files", [], "length >= 1"),
    ("artifacts/0/temperature", 0, "temperature"),
    ("artifacts/0/temperature", -1.5, "temperature"),
    ("artifacts/0/temperature", None, "temperature"),
    ("artifacts/0/temperature", 1e-320, "temperature"),
    ("artifacts/0/temperature", 1e9, "temperature"),
    ("run/affinity", [-1], "affinity"),
    ("run/affinity", [2**62], "affinity"),
    ("artifacts/0/files/0/name", "golden.npy/x", "is a file and the folder of another file"),
    ("artifacts/0/precision", "int4", "precision"),
    ("artifacts/0/input/height", 4, "height"),
    ("artifacts/0/input/width", 10**6, "width"),
    ("artifacts/0/input/channels", 2, "channels"),
    ("artifacts/0/input/resize", "lanczos", "resize"),
    ("artifacts/0/golden/logits", [[1.0]], "does not have the 2 classes"),
    ("artifacts/0/golden/tolerance", -1, "tolerance"),
    ("artifacts/0/baseline/classes", -2, "does not have the 2 classes"),
    ("artifacts/0/baseline/cells", [1], "not pairs"),
    ("artifacts/0/baseline/cells", [5, 1, 4, 1], "cells must grow"),
    ("artifacts/0/baseline/prevalence", [0.2, 0.2], "add up to 1"),
    ("artifacts/0/files/0/name", "../../etc/passwd", "name"),
    ("artifacts/0/files/0/name", "a/../../b", "leaves the bundle"),
    ("artifacts/0/files/0/name", "/etc/passwd", "name"),
    ("artifacts/0/files/0/name", "a//b", "names no file"),
    ("artifacts/0/files/0/name", "a/", "names no file"),
    ("artifacts/0/files/0/name", "a\\b", "name"),
    ("artifacts/0/files/0/name", "model\n", "name"),
    ("artifacts/0/files/0/name", "x" * 300, "name"),
    ("artifacts/0/files/0/name", "manifest.json", "stands for two files"),
    ("artifacts/0/files/0/name", "golden.npy", "stands for two files"),
    ("artifacts/0/files/0/size", -1, "size"),
    ("artifacts/0/files/0/sha256", "F" * 64, "sha256"),
    ("artifacts/0/files/0/sha256", "0" * 63, "sha256"),
    ("artifacts/0/files/0/sha256", "0" * 64 + "\n", "sha256"),
    ("artifacts/0/decision", {"low": 0, "high": 1}, "missing required field"),
    ("artifacts/0/decision", {**DECISION, "low": 2}, "low 2 must not be over high 1"),
    ("artifacts/0/decision", {**DECISION, "scale": [1]}, "must have 2 numbers"),
    ("artifacts/0/decision", {**DECISION, "shift": [0, 0, 0]}, "must have 2 numbers"),
    ("artifacts/0/decision", {**DECISION, "prevalence": [1]}, "must have 2 numbers"),
    ("artifacts/0/decision", {**DECISION, "prevalence": [1.5, -0.5]}, "prevalence"),
    ("artifacts/0/decision", {**DECISION, "confidence": 1}, "confidence"),
    ("artifacts/0/decision", {**DECISION, "escape_upper": 1.5}, "escape_upper"),
    ("run/threads", 0, "threads"),
    ("run/threads", 1000, "threads"),
]


@pytest.mark.parametrize(("path", "value", "saying"), WRONG_MANIFESTS)
def test_a_manifest_with_one_wrong_field_is_refused(golden, path, value, saying):
    document = msgspec.json.decode(golden["BundleManifest.json"].payload)
    assert read_manifest(msgspec.json.encode(document)).profile == "raspberry-pi-4"
    text = change(document, path, value)
    assert refused(lambda: read_manifest(text, where="m.json"), saying).startswith("m.json: ")


@pytest.mark.parametrize("name", ["Alert.json", "Trigger.json", "BenchmarkReport.json", "Verdict.json"])
def test_a_document_with_a_wrong_or_lacking_field_is_refused(golden, name):
    for field, value in msgspec.json.decode(golden[name].payload).items():
        document = msgspec.json.decode(golden[name].payload)
        wrong = {"not": "this"} if not isinstance(value, dict) else 1
        text = change(document, field, wrong)
        refused(lambda text=text: read_document(text, golden[name].kind, where=name), name)
    refused(lambda: read_document(b'{"schema": "1.0"}', golden[name].kind, where=name), "missing required field")
    refused(lambda: read_document(b"{}", golden[name].kind, where=name), "missing required field `schema`")


@pytest.mark.parametrize("device", ["", "ab", "x" * 33, "Press-1", "a b c", "press_1", "../..", "press-1\n", "prés-1"])
def test_a_device_id_that_is_none_is_refused(device):
    refused(lambda: check_device(device))


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "lineside/1/up/12/press-1",
        "lineside/1/up/13/press-1/report",
        "lineside/2/up/12/press-1/report",
        "lineside/1/up/12/press-1/ack",
        "lineside/1/up/12/press-1/report\n",
        "lineside/1/up/\u0661\u0662/press-1/report",
        "lineside/1/down/press-1/ack",
        "x/lineside/1/up/12/press-1/report",
    ],
)
def test_a_topic_that_is_none_is_refused(topic):
    assert parse_up(up("press-1", "report")) == ("press-1", "report")
    refused(lambda: parse_up(topic))


@FUZZ
@given(payload=st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(readers, payload):
    for read in readers.values():
        read_or_refuse(read, payload)
    read_or_refuse(read_backfill, payload)


@FUZZ
@given(data=st.data())
def test_mutated_golden_payloads_are_read_or_refused(golden, readers, data):
    name = data.draw(st.sampled_from(sorted(golden)))
    payload = bytearray(golden[name].payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        piece = data.draw(st.binary(max_size=6))
        payload[at : at + data.draw(st.integers(0, 6))] = piece
        if not payload:
            break
    read_or_refuse(readers[name], bytes(payload))
    read_or_refuse(read_backfill, zlib.compress(bytes(payload)))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(data=st.data())
def test_reports_with_fields_of_any_kind_are_read_or_refused(golden, data):
    numbers = msgspec.msgpack.decode(golden["DeviceReport-full.bin"].payload)
    for _ in range(data.draw(st.integers(1, 3))):
        numbers[data.draw(st.integers(0, len(numbers) - 1))] = data.draw(VALUES)
    read_or_refuse(read_report, msgspec.msgpack.encode(numbers))


@FUZZ
@given(
    cells=st.lists(st.integers(-(2**64), 2**64), max_size=9), classes=st.integers(-(2**64), 2**64) | st.integers(0, 9)
)
def test_any_cells_are_made_dense_or_refused(cells, classes):
    try:
        dense = dense_cells(cells, classes)
    except BadInput:
        return
    assert dense.shape == (classes, BINS)
    assert dense.min() >= 0
    assert dense.sum() == ConfidenceHistogram(classes=classes, cells=cells).total


@FUZZ
@given(text=st.text(max_size=20))
def test_any_schema_text_is_known_or_refused(text):
    try:
        check_document_schema(text, where="x")
    except BadInput as error:
        assert "\n" not in str(error)


def test_a_state_reason_over_its_length_is_refused():
    state = State(schema=16, session=1, online=True, reason="x" * 33)
    refused(lambda: decode(encode(state), State), "length <= 32")
