"""What `lineside init` lays out is read by DVC, and names only commands and options that exist."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput
from toolkit.cli import cli
from toolkit.project.files import lay_out

yaml = pytest.importorskip("yaml")


def _laid_out(folder: Path, prevalence: str | None = "good=0.99") -> tuple[dict, dict]:
    lay_out(folder, data="data/steel", name="steel", profile="raspberry-pi-4", prevalence=prevalence)
    return yaml.safe_load((folder / "dvc.yaml").read_text()), yaml.safe_load((folder / "params.yaml").read_text())


def _command(pipeline: dict, params: dict, stage: str) -> list[str]:
    text = pipeline["stages"][stage]["cmd"]
    for name, value in params.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text, f"{stage}: a parameter that params.yaml does not have: {text}"
    return shlex.split(text)


@pytest.mark.parametrize("prevalence", ["good=0.99", None])
def test_every_stage_is_a_command_that_lineside_understands(tmp_path: Path, prevalence: str | None) -> None:
    pipeline, params = _laid_out(tmp_path, prevalence)
    for stage in pipeline["stages"]:
        program, *words = _command(pipeline, params, stage)
        assert program == "lineside"
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, f"{stage}: no such command"
            command = found
        command.make_parser(context).parse_args(words)  # an unknown option is a usage error


def test_an_output_of_one_stage_lies_in_no_other_ones(tmp_path: Path) -> None:
    stages = _laid_out(tmp_path)[0]["stages"].values()
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    ]
    assert len(outs) > 8
    for one in outs:
        assert not any(other != one and other.startswith(f"{one}/") for other in outs)
    assert len(set(outs)) == len(outs)


def test_without_a_prevalence_there_is_no_operating_point(tmp_path: Path) -> None:
    with_one, _ = _laid_out(tmp_path / "a")
    without, params = _laid_out(tmp_path / "b", None)
    assert with_one["stages"].keys() - without["stages"].keys() == {"operating-point"}
    assert "operating_point" not in str(without)
    assert "prevalence" not in str(params)


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    _laid_out(tmp_path)
    (tmp_path / "params.yaml").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine")
    with pytest.raises(BadInput, match=r"dvc\.yaml, params\.yaml is there already; --force"):
        lay_out(tmp_path, data="data", name="x", profile="p", ci="none")
    assert (tmp_path / "params.yaml").read_text() == "mine"
    made = lay_out(tmp_path, data="data", name="x", profile="p", ci="none", force=True)
    assert made.kept == [".gitignore"]
    assert (tmp_path / ".gitignore").read_text() == "mine"
    assert "runs/x" in (tmp_path / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": "/images"}, "inside the project"),
        ({"data": "../images"}, "inside the project"),
        ({"data": "my images"}, "no spaces"),
        ({"data": "$(reboot)"}, "no spaces and no signs"),
        ({"name": "a/b"}, "name must be"),
        ({"prevalence": "good=0.9\nrun: /"}, "no spaces and no signs"),
        ({"prevalence": "nolabel"}, "must read like"),
    ],
)
def test_what_a_shell_or_yaml_would_read_otherwise_is_refused(tmp_path: Path, given: dict, says: str) -> None:
    asked = {"data": "data", "name": "steel", "profile": "p"} | given
    with pytest.raises(BadInput, match=says):
        lay_out(tmp_path / "project", **asked)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("ci", "place"), [("github", ".github/workflows/model.yml"), ("gitlab", ".gitlab-ci.yml")])
def test_the_recipe_for_ci_is_yaml_that_reruns_what_is_stale(tmp_path: Path, ci: str, place: str) -> None:
    answer = CliRunner().invoke(cli, ["init", str(tmp_path), "--ci", ci])
    assert answer.exit_code == 0, answer.output
    assert f"wrote {tmp_path / place}" in answer.output
    document = yaml.safe_load((tmp_path / place).read_text())
    assert "dvc repro" in str(document)
