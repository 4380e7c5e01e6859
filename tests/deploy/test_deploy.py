"""What the files in deploy/ ask for is there: by schema, and by the commands and metrics that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from fleet.cli import cli
from fleet.keys import MOSQUITTO
from fleet.operations.census import Census
from fleet.operations.metrics import FleetCollector, Turn, WorkerMetrics

FOLDER = Path(__file__).parents[2] / "deploy"
TEXT, LIST = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
STRINGS = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": TEXT,
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"context": TEXT, "dockerfile": TEXT},
        },
        "command": LIST,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "environment": STRINGS,
        "ports": LIST,
        "volumes": LIST,
        "profiles": LIST,
        "tmpfs": LIST,
        "cap_drop": LIST,
        "security_opt": LIST,
        "read_only": {"type": "boolean"},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {
                    "condition": {
                        "enum": ["service_started", "service_healthy", "service_completed_successfully"],
                    }
                },
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test"],
            "properties": {"test": LIST, "interval": TEXT, "timeout": TEXT, "retries": {"type": "integer"}},
        },
    },
}
"""The part of the Compose Specification that the file uses (github.com/compose-spec/compose-spec, spec.md)."""
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": TEXT,
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object"},
    },
}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return read("compose.yaml")


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """Names of all samples that a worker may show."""
    census = Census(
        devices={"reporting": 1}, alerts={"page": 1}, reports=1, frames=1, missing=0, quarantined=0, beat_age_s=0.0
    )
    known = WorkerMetrics()
    known.registry.register(FleetCollector(lambda: census))
    known.turned(Turn(stored=1, changes=(("opened", "page"),)))
    known.turned(Turn(failing=True))
    text = known.exposition().decode()
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_the_compose_file_is_one(compose: Any):
    jsonschema.validate(compose, COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**compose, "services": {"x": {"image": "x", "restrat": "always"}}}, COMPOSE)


def test_its_services_name_services_volumes_and_files_that_are_there(compose: Any):
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("."):
                assert source in compose["volumes"]
            elif not source.startswith("./keys/"):  # these are made by `keys init` and `keys worker`
                assert (FOLDER / source).is_file(), source
    assert {"broker", "store", "worker-1", "worker-2"} <= set(services)


def test_the_broker_finds_every_file_that_its_configuration_names(compose: Any):
    mounted = {volume.split(":")[1] for volume in compose["services"]["broker"]["volumes"]}
    named = set(re.findall(r"/etc/mosquitto/lineside/\S+", MOSQUITTO))
    assert named and named <= mounted


def options(arguments: list[str]) -> tuple[str, set[str]]:
    names = {argument.partition("=")[0] for argument in arguments[1:] if argument.startswith("--")}
    return arguments[0], names


def commands() -> list[list[str]]:
    compose = read("compose.yaml")["services"]
    found = [compose[name]["command"] for name in ("migrate", "worker-1", "worker-2")]
    for document in yaml.safe_load_all((FOLDER / "kubernetes" / "lineside.yaml").read_text()):
        spec = document.get("spec", {}).get("template", {}).get("spec", {})
        found += [container["args"] for container in spec.get("containers", [])]
    return found


@pytest.mark.parametrize("arguments", commands(), ids=lambda arguments: " ".join(arguments)[:40])
def test_every_command_and_option_that_is_called_exists(arguments: list[str]):
    name, named = options(arguments)
    said = CliRunner().invoke(cli, [name, "--help"])
    assert said.exit_code == 0, said.output
    assert named <= set(re.findall(r"--[a-z-]+", said.output))


def test_the_kubernetes_manifests_are_valid():
    documents = list(yaml.safe_load_all((FOLDER / "kubernetes" / "lineside.yaml").read_text()))
    version = kubernetes_validate.latest_version()
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    assert {"Job", "StatefulSet", "Service"} <= {document["kind"] for document in documents}
    documents[1]["spec"]["replcas"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[1], version, strict=True)


def test_no_container_may_more_than_it_needs():
    for document in yaml.safe_load_all((FOLDER / "kubernetes" / "lineside.yaml").read_text()):
        spec = document.get("spec", {}).get("template", {}).get("spec")
        for container in spec["containers"] if spec else []:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] and not allowed["allowPrivilegeEscalation"]
            assert allowed["capabilities"] == {"drop": ["ALL"]} and spec["securityContext"]["runAsNonRoot"]
            assert container["resources"]["limits"]["memory"]


def expressions() -> list[str]:
    board = json.loads((FOLDER / "grafana" / "lineside.json").read_text())
    rules = read("prometheus/rules.yml")["groups"][0]["rules"]
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]] + [
        rule["expr"] for rule in rules
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_drawn_or_watched_exists(expression: str, metrics: set[str]):
    named = set(re.findall(r"lineside_[a-z_]+", expression))
    assert named and named <= metrics


def test_the_panels_of_the_dashboard_lie_beside_each_other():
    board = json.loads((FOLDER / "grafana" / "lineside.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not taken & cells and max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_image_has_every_package_and_no_root():
    text = (FOLDER / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY ([a-z_]+) ", text, re.MULTILINE))
    packages = {path.parent.name for path in FOLDER.parent.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= copied
    assert re.search(r"^USER 10001$", text, re.MULTILINE) and "latest" not in text
