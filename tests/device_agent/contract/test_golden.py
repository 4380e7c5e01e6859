"""Golden payloads: each decodes to the message built here, and the message encodes to the same bytes.

A document may have got fields since; then those of the golden file must still be written as they were. A new field gets
a golden file of its own, and the old one stays as it is.

Run as a program, this file writes the payloads that do not exist yet; it never touches one that does.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import msgspec
import pytest

from device_agent.contract.alert import Alert, Trigger
from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.codec import decode, encode, read_document
from device_agent.contract.control import Command, Config, Job, Response
from device_agent.contract.histogram import ConfidenceHistogram
from device_agent.contract.manifest import (
    ArtifactManifest,
    Baseline,
    BundleManifest,
    Decision,
    FileEntry,
    Golden,
    InputSpec,
    Label,
    Lineage,
    RunSection,
    read_manifest,
    write_manifest,
)
from device_agent.contract.report import (
    CLOCK_SYNCED,
    MERGED,
    Backfill,
    DeviceReport,
    ImageQuality,
    Shadow,
    System,
    read_backfill,
    read_report,
)
from device_agent.contract.review import Sample, Verdict
from device_agent.contract.session import Ack, Birth, Event, State

FOLDER = Path(__file__).parents[2] / "data" / "contract" / "v1"
MODEL = bytes.fromhex("00010203f0f1f2f3")
NONCE = bytes(range(16))
WALL_MS = 1_790_000_000_123

SPARE_REPORT = DeviceReport(
    schema=16,
    epoch=0,
    sequence=0,
    boot=0,
    wall_ms=0,
    monotonic_ms=0,
    interval_ms=1,
    model=MODEL,
    frames=0,
    dropped=0,
    parts=0,
    same=0,
    identical=0,
    histogram=ConfidenceHistogram(classes=2, cells=[]),
)
FULL_REPORT = DeviceReport(
    schema=16,
    epoch=4_294_967_295,
    sequence=1_000_042,
    boot=7,
    wall_ms=WALL_MS,
    monotonic_ms=86_400_000,
    interval_ms=60_001,
    model=MODEL,
    frames=600,
    dropped=12,
    parts=300,
    same=540,
    identical=3,
    histogram=ConfidenceHistogram(classes=5, cells=[3, 1, 14, 400, 23, 150, 24, 40, 119, 9]),
    latency=[[16, 590, 20, 10], [6, 600], [15, 300, 16, 300], [0, 600]],
    quality=ImageQuality(brightness=141, sharpness=812, clipped_permille=2),
    system=System(cpu_percent=63, temperature_c=58, throttled=False, rss_mib=121, disk_free_mib=None),
    shadow=Shadow(model=bytes(8), frames=60, agreed=59),
    self_test_ok=True,
    flags=CLOCK_SYNCED | MERGED,
    merged=(1_000_033, 1_000_042),
)


def as_first(payload: bytes, name: str = "DeviceReport-full") -> bytes:
    """What is written today as 1.0 wrote it: without the last three fields of a full report's shadow, new in 1.1."""
    if name != "DeviceReport-full":
        return payload
    coding = msgspec.json if payload[:1] == b"[" else msgspec.msgpack
    fields = coding.decode(payload)
    assert fields[17][3:] == [[], [], []]
    return coding.encode([*fields[:17], fields[17][:3], *fields[18:]])


WIRE: dict[str, msgspec.Struct] = {
    "DeviceReport": SPARE_REPORT,
    "DeviceReport-full": FULL_REPORT,
    "DeviceReport-shadow": msgspec.structs.replace(
        FULL_REPORT,
        schema=17,
        shadow=Shadow(bytes(8), 60, 59, [0, 50, 6, 9, 12, 1], [23, 50, 30, 9, 50, 1], [14, 59, 15, 1]),
    ),
    "Backfill": Backfill(schema=16, reports=[encode(SPARE_REPORT), as_first(encode(FULL_REPORT))]),
    "State": State(schema=16, session=7 * 65_536 + 2, online=True),
    "State-will": State(schema=16, session=2**63 - 1, online=False, reason="connection lost"),
    "Birth": Birth(
        schema=16,
        epoch=4_294_967_295,
        boot=7,
        agent="0.1.0",
        model=MODEL,
        model_name="steel",
        labels=["crack", "good", "Öl"],
        runtime="litert-int8",
        interval_ms=60_000,
        hardware="Raspberry Pi 4 Model B Rev 1.4",
        clock_synced=True,
    ),
    "Ack": Ack(schema=16, epoch=4_294_967_295, sequence=1_000_042),
    "Event": Event(
        schema=16, boot=7, monotonic_ms=86_400_000, wall_ms=WALL_MS, kind="breaker", text="litert-int8 to litert-fp32"
    ),
    "Config": Config(schema=16, version=3, settings='{"interval_s":60}', signature=bytes(range(64))),
    "Command": Command(
        schema=16,
        nonce=NONCE,
        expires_ms=WALL_MS + 30_000,
        name="selftest",
        arguments="{}",
        reply_topic="lineside/1/up/12/press-1/response",
        signature=bytes(64),
    ),
    "Response": Response(schema=16, nonce=NONCE, ok=False, text="golden image 3: off by 0.4"),
    "Job": Job(schema=16, id="j-1", bundle="steel-raspberry-pi-4.lineside", version="1.2.0", sha256=bytes(range(32))),
    "Sample": Sample(schema=16, model=MODEL, wall_ms=WALL_MS, cell=27, sha256=bytes(range(32)), reason="low"),
}


def entry(name: str, content: bytes) -> FileEntry:
    return FileEntry(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def artifact(runtime: str, precision: str, name: str) -> ArtifactManifest:
    return ArtifactManifest(
        runtime=runtime,
        precision=precision,
        files=[entry(name, name.encode())],
        input=InputSpec(height=96, width=128, channels=1, colour_order="grey", crop="centre"),
        temperature=1.3125,
        golden=Golden(logits=[[0.5, -1.25], [3.0, 4.0]], tolerance=0.125),
        baseline=Baseline(classes=2, cells=[14, 80, 24, 2, 48, 1, 95, 40], prevalence=[0.99, 0.01]),
        operating_point=0.75,
        metrics={"accuracy": 0.975, "macro_f1": 0.9375},
    )


MANIFEST = BundleManifest(
    name="steel",
    profile="raspberry-pi-4",
    labels=[Label("good", "good"), Label("scratch", "defect")],
    artifacts=[artifact("litert", "int8", "litert-int8/model.tflite"), artifact("onnx", "fp32", "onnx/model.onnx")],
    golden_images=entry("golden.npy", b"golden"),
    other_files=[entry("report.html", b"")],
    run=RunSection(threads=3, affinity=[1, 2, 3], latency_p50_ms=40.0, rss_mib=128.0, size_mib=4.0),
    lineage=Lineage(
        run="steel",
        data_sha256=hashlib.sha256(b"data").hexdigest(),
        recipe_sha256=hashlib.sha256(b"recipe").hexdigest(),
        packages={"keras": "3.15.0", "tensorflow": "2.21.0"},
    ),
)
MODEL_IDS = ["4cd73b7ed9d220b6", "9820fc9127baa6d8"]
DECISION = Decision(
    low=-4.5,
    high=1.25,
    scale=[0.75, 0.5],
    shift=[0.125, -3.5],
    prevalence=[0.99, 0.01],
    confidence=0.95,
    escape_upper=0.0125,
    escape_worst_upper=0.025,
    overkill_upper=0.0625,
    images=1234,
    groups=321,
)
DECIDED = msgspec.structs.replace(
    MANIFEST, artifacts=[msgspec.structs.replace(MANIFEST.artifacts[0], decision=DECISION), MANIFEST.artifacts[1]]
)

DOCUMENTS: dict[str, msgspec.Struct] = {
    "Verdict": Verdict(
        frame=41, label="scratch", role="defect", probability=0.9375, log_odds=2.75, monotonic_ms=86_400_000, late=True
    ),
    "Alert": Alert(
        id="9f3c",
        severity="page",
        scope_kind="site",
        scope="hall-2",
        site="hall-2",
        model=MODEL.hex(),
        stream="low+",
        opened_ms=WALL_MS,
        onset_ms=WALL_MS - 600_000,
        updated_ms=WALL_MS + 60_000,
        text="low confidence 2.1x baseline, 1.8 to 2.5",
        ratio=2.125,
        ratio_low=1.75,
        ratio_high=2.5,
        log_e=17.5,
        independent_frames=150.0,
        cause="lens",
        devices=["press-1", "press-2"],
        closed_ms=WALL_MS + 120_000,
        closed_reason="rate back",
        inhibited_by="",
    ),
    "Trigger": Trigger(
        id="t-1", model=MODEL.hex(), reason="golden", created_ms=WALL_MS, alerts=["9f3c"], text="recall fell"
    ),
    "BenchmarkReport": BenchmarkReport(
        device="raspberry-pi-4",
        runtime="litert",
        runtime_version="2.1.0",
        precision="int8",
        threads=3,
        provenance="measured",
        runs=3,
        p50_ms=20.5,
        p90_ms=21.0,
        p99_ms=24.25,
        min_ms=20.25,
        max_ms=24.5,
        cpu_p50_ms=20.0,
        preprocess_p50_ms=0.75,
        load_ms=12.5,
        first_inference_ms=31.0,
        rss_peak_mib=61.5,
        size_mib=2.75,
        valid=False,
        flags=["throttled"],
        samples_ms=[20.5, 20.25, 24.5],
    ),
}
DOCUMENTS["Verdict-decision"] = msgspec.structs.replace(DOCUMENTS["Verdict"], decision="review")
DOCUMENTS["Verdict-late"] = Verdict(
    frame=42,
    label="",
    role="",
    probability=0.0,
    log_odds=0.0,
    monotonic_ms=86_400_050,
    late=True,
    decision="review",
    reason="no answer within 50 ms",
    part=42,
)
DOCUMENTS["Alert-paged"] = msgspec.structs.replace(DOCUMENTS["Alert"], paged_ms=WALL_MS + 30_000)
DOCUMENTS["Alert-product"] = msgspec.structs.replace(DOCUMENTS["Alert-paged"], product="housing")


MANIFESTS = {"BundleManifest": MANIFEST, "BundleManifest-decision": DECIDED}


def document_bytes(document: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


@pytest.mark.parametrize("name", WIRE)
def test_a_wire_message_decodes_and_encodes_to_the_same_bytes(name, golden):
    kind, payload = golden[f"{name}.bin"].kind, golden[f"{name}.bin"].payload
    assert decode(payload, kind) == WIRE[name]
    assert as_first(encode(WIRE[name]), name) == payload


@pytest.mark.parametrize("name", WIRE)
def test_its_json_form_carries_the_same_message(name, golden):
    kind, payload = golden[f"{name}.json"].kind, golden[f"{name}.json"].payload
    assert decode(payload.rstrip(b"\n"), kind) == WIRE[name]
    assert as_first(encode(WIRE[name], encoding="json"), name) + b"\n" == payload


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_reads_and_writes_the_same_fields(name, golden):
    kind, payload = golden[f"{name}.json"].kind, golden[f"{name}.json"].payload
    assert read_document(payload, kind, where=name) == DOCUMENTS[name]
    kept, written = msgspec.json.decode(payload), msgspec.json.decode(document_bytes(DOCUMENTS[name]))
    assert {field: written[field] for field in kept} == kept
    assert read_document(document_bytes(DOCUMENTS[name]), kind, where=name) == DOCUMENTS[name]


def test_the_manifest_reads_and_writes_the_same_bytes_and_names_its_models(golden):
    payload = golden["BundleManifest.json"].payload
    assert read_manifest(payload) == MANIFEST
    assert write_manifest(MANIFEST) == payload
    assert [artifact.model_id.hex() for artifact in read_manifest(payload).artifacts] == MODEL_IDS


def test_a_manifest_with_a_decision_is_that_of_the_same_model(golden):
    payload = golden["BundleManifest-decision.json"].payload
    assert read_manifest(payload) == DECIDED
    assert write_manifest(DECIDED) == payload
    assert [artifact.model_id.hex() for artifact in read_manifest(payload).artifacts] == MODEL_IDS


def test_a_verdict_without_a_decision_is_written_as_before_there_were_any():
    plain = msgspec.json.encode(DOCUMENTS["Verdict"])
    assert not any(field in plain for field in (b"decision", b"reason", b"part"))
    assert b"decision" not in write_manifest(MANIFEST)


def test_checked_reports_are_read_from_the_golden_ones(golden):
    assert read_report(golden["DeviceReport.bin"].payload) == SPARE_REPORT
    assert read_report(golden["DeviceReport-full.bin"].payload) == FULL_REPORT
    assert read_report(golden["DeviceReport-full.json"].payload.rstrip(b"\n")) == FULL_REPORT


def test_a_backfill_reads_whatever_the_level_of_its_compression(golden):
    for level in (0, 1, 9):
        assert read_backfill(zlib.compress(golden["Backfill.bin"].payload, level)) == [SPARE_REPORT, FULL_REPORT]


def test_no_golden_file_is_without_a_message(golden):
    later = {"DeviceReport-newer-minor.bin", "DeviceReport-newer-major.bin", "BundleManifest-newer-minor.json"}
    known = {f"{name}{suffix}" for name in WIRE for suffix in (".bin", ".json")}
    assert set(golden) - later == known | {f"{name}.json" for name in [*DOCUMENTS, *MANIFESTS]}


def files() -> dict[str, bytes]:
    """Every golden file of this module."""
    wire = {f"{name}.bin": encode(message) for name, message in WIRE.items()}
    people = {f"{name}.json": encode(message, encoding="json") + b"\n" for name, message in WIRE.items()}
    documents = {f"{name}.json": document_bytes(document) for name, document in DOCUMENTS.items()}
    manifests = {f"{name}.json": write_manifest(manifest) for name, manifest in MANIFESTS.items()}
    return {**wire, **people, **documents, **manifests}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file_name, content in files().items():
        if not (FOLDER / file_name).exists():
            (FOLDER / file_name).write_bytes(content)
            print(f"wrote {file_name}, {len(content)} bytes")
