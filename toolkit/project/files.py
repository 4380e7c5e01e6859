"""The files of a user's own project: a pipeline of lineside's commands, what they are asked, a recipe for CI."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.operating_point.costs import read_prevalence
from toolkit.paths import reading

CI = Literal["github", "gitlab", "none"]
_PLACES = {"dvc.yaml": "dvc.yaml", "params.yaml": "params.yaml", "gitignore": ".gitignore"}
_CI_PLACES: dict[CI, str] = {"github": ".github/workflows/model.yml", "gitlab": ".gitlab-ci.yml"}
_PLAIN = re.compile(r"[A-Za-z0-9_./=,@%+-]+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What was laid out: the folder, the files that were written into it, and the commands that come next."""

    folder: str
    written: list[str]
    kept: list[str]
    next: list[str]


def lay_out(
    folder: Path,
    *,
    data: str,
    name: str,
    profile: str,
    prevalence: str | None = None,
    ci: CI = "github",
    force: bool = False,
) -> Project:
    """Write dvc.yaml, params.yaml, .gitignore and the CI recipe into `folder`, which is made if need be.

    A .gitignore that is there is kept; any other file that is there is an error before the first one is written, and
    `force` replaces it.

    Args:
        data: folder of images, relative to the project.
        name: of the run and the bundle: letters, digits, '_', '.' and '-'.
        profile: id of a device profile.
        prevalence: such as "good=0.99"; without it there is no operating point, since no cost can be reckoned.

    Raises:
        BadInput: a file is there already; a name or path that a command line or YAML would read otherwise.
        NotWritable: the disk is full, read-only or forbids it.
    """
    if not _WORD.fullmatch(name):
        raise BadInput(f"name must be letters, digits, '_', '.' and '-', got {name!r}")
    if Path(data).is_absolute() or ".." in Path(data).parts:
        raise BadInput(f"data must be a folder inside the project, so that its digest can be tracked, got {data!r}")
    for what, text in (("data", data), ("prevalence", prevalence or "")):
        if text and not _PLAIN.fullmatch(text):
            raise BadInput(f"{what} must have no spaces and no signs that a shell or YAML reads, got {text!r}")
    if prevalence:
        read_prevalence((prevalence,))
    places = _PLACES | ({ci: _CI_PLACES[ci]} if ci != "none" else {})
    with reading(folder):
        there = {place for place in places.values() if (folder / place).exists()}
    kept = sorted(there & {".gitignore"})
    if there - set(kept) and not force:
        raise BadInput(f"{folder}: {', '.join(sorted(there - set(kept)))} is there already; --force replaces it")
    values = {"data": data, "name": name, "profile": profile, "prevalence": prevalence}
    written = []
    for template, place in places.items():
        if place not in kept:
            write_whole(folder / place, _render(template, values))
            written.append(place)
    return Project(folder=str(folder), written=written, kept=kept, next=_next(folder, data))


def _render(template: str, values: dict[str, str | None]) -> str:
    from jinja2 import Environment, StrictUndefined

    suffix = ".yml.j2" if template in _CI_PLACES else ".j2"
    text = (files("toolkit.project") / "templates" / f"{template}{suffix}").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # YAML, not HTML
    return environment.from_string(text).render(values)


def _next(folder: Path, data: str) -> list[str]:
    """Commands that a person gives next; DVC asks its makers for updates and reports its use unless told not to."""
    start = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    first = [] if (folder / ".git").exists() else ["git init"]
    made = [] if (folder / ".dvc").exists() else ["dvc init", "dvc config core.analytics false"]
    images = [] if (folder / data).exists() else [f"(put your images into {data}, one folder a class)"]
    return [*start, *first, *made, "dvc config core.check_update false", *images, "dvc repro"]
