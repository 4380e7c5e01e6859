"""Programs of two versions talk to each other: fields appended or lacking pass, another major schema is refused."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.codec import decode, encode, read_document
from device_agent.contract.errors import BadInput, UnknownSchema
from device_agent.contract.histogram import ConfidenceHistogram
from device_agent.contract.manifest import ArtifactManifest, InputSpec, read_manifest
from device_agent.contract.report import DeviceReport, System, read_report
from device_agent.contract.session import Birth

NewerHistogram = msgspec.defstruct(
    "NewerHistogram", [("overflow", int, 5)], bases=(ConfidenceHistogram,), frozen=True, array_like=True
)
NewerReport = msgspec.defstruct(
    "NewerReport",
    [("humidity", int | None, None), ("lens", dict[str, float], msgspec.field(default_factory=dict))],
    bases=(DeviceReport,),
    frozen=True,
    array_like=True,
)


def newer_of(report: DeviceReport, schema: int = 17) -> msgspec.Struct:
    """The same report as version 1.1 would write it, if 1.1 had appended these fields."""
    fields = {**msgspec.structs.asdict(report), "schema": schema}
    cells = report.histogram
    fields["histogram"] = NewerHistogram(classes=cells.classes, cells=cells.cells)
    return NewerReport(**fields, humidity=40, lens={"dirt": 0.5})


def cut(payload: bytes) -> bytes:
    """The report without the fields that its shadow has got since these golden files."""
    fields = msgspec.msgpack.decode(payload)
    return msgspec.msgpack.encode([*fields[:17], fields[17][:3], *fields[18:]])


@pytest.fixture
def full(golden) -> DeviceReport:
    return read_report(golden["DeviceReport-full.bin"].payload)


def test_an_older_reader_passes_over_appended_fields(golden, full):
    payload = golden["DeviceReport-newer-minor.bin"].payload
    assert cut(encode(newer_of(full))) == payload
    assert payload != golden["DeviceReport-full.bin"].payload
    assert read_report(payload) == msgspec.structs.replace(full, schema=17)


def test_a_newer_reader_gives_lacking_fields_their_defaults(golden, full):
    read = decode(golden["DeviceReport-full.bin"].payload, NewerReport)
    assert (read.humidity, read.lens) == (None, {})
    assert {name: getattr(read, name) for name in DeviceReport.__struct_fields__} == msgspec.structs.asdict(full)


def test_a_report_of_the_first_fields_alone_is_read(golden, full):
    numbers = msgspec.msgpack.decode(golden["DeviceReport-full.bin"].payload)
    read = read_report(msgspec.msgpack.encode(numbers[:14]))
    assert read.histogram == full.histogram
    assert (read.latency, read.quality, read.system, read.merged, read.flags) == ([], None, None, None, 0)


def test_a_nested_struct_may_lack_its_last_fields_too(full):
    short = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(full))[:16], [63, 58]])
    assert read_report(short).system == System(cpu_percent=63, temperature_c=58)


def test_a_newer_major_is_refused_with_both_versions(golden, full):
    payload = golden["DeviceReport-newer-major.bin"].payload
    assert cut(encode(newer_of(full, schema=32))) == payload
    with pytest.raises(UnknownSchema, match=r"schema 2\.0 cannot be read, this version reads 1\.x"):
        read_report(payload)


def test_a_newer_major_is_refused_even_when_its_shape_is_another():
    with pytest.raises(UnknownSchema, match=r"3\.1"):
        decode(msgspec.msgpack.encode([49, {"everything": "else"}]), Birth)


def test_an_older_major_is_refused():
    with pytest.raises(UnknownSchema, match=r"0\.3"):
        decode(b"\x91\x03", Birth)


def test_unknown_fields_of_a_newer_manifest_are_passed_over_and_the_model_id_stays(golden):
    older = read_manifest(golden["BundleManifest.json"].payload)
    newer = read_manifest(golden["BundleManifest-newer-minor.json"].payload)
    assert newer.schema == "1.4"
    assert msgspec.structs.replace(newer, schema="1.0") == older


def test_a_newer_program_finds_the_same_model_id(golden):
    document = msgspec.json.decode(golden["BundleManifest-newer-minor.json"].payload)["artifacts"][0]
    assert document["input"]["gamma"] == 2.2
    spec = msgspec.defstruct("Spec", [("gamma", float, 1.0)], bases=(InputSpec,), frozen=True, kw_only=True)
    newer = msgspec.defstruct(
        "Newer", [("input", spec), ("delegate", str, "")], bases=(ArtifactManifest,), frozen=True, kw_only=True
    )
    read = msgspec.convert(document, newer)
    older = read_manifest(golden["BundleManifest.json"].payload).artifacts[0]
    assert (read.delegate, read.input.gamma) == ("xnnpack", 2.2)
    assert read.model_id == older.model_id


def test_the_model_id_changes_with_whatever_changes_the_answers(golden):
    artifact = read_manifest(golden["BundleManifest.json"].payload).artifacts[0]
    changes = [
        {"temperature": 2.0},
        {"precision": "fp32"},
        {"input": msgspec.structs.replace(artifact.input, offset=0.0)},
        {"files": [msgspec.structs.replace(artifact.files[0], sha256="0" * 64)]},
        {"baseline": msgspec.structs.replace(artifact.baseline, prevalence=None)},
    ]
    ids = {msgspec.structs.replace(artifact, **change).model_id for change in [{}, *changes]}
    assert len(ids) == len(changes) + 1


@pytest.mark.parametrize("schema", ["2.0", "0.9", "17.3"])
def test_documents_of_another_major_are_refused_with_both_versions(golden, schema):
    for name in ("BundleManifest.json", "Alert.json", "Trigger.json", "BenchmarkReport.json", "Verdict.json"):
        text = golden[name].payload.replace(b'"schema": "1.0"', f'"schema": "{schema}"'.encode())
        with pytest.raises(UnknownSchema, match=rf"{name}: schema {schema} cannot be read, this version reads 1\.x"):
            if name == "BundleManifest.json":
                read_manifest(text, where=name)
            else:
                read_document(text, golden[name].kind, where=name)


def test_unknown_schema_is_bad_input_to_a_caller():
    assert issubclass(UnknownSchema, BadInput)
