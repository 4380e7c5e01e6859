"""Where a model runs on a kind of device: its files, or those that an untrained network of that kind would give."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters import CONVERTERS
from converters.confirmation import Confirmation, confirm
from converters.console import held_back
from converters.op_rules import FORMATS, Placement, format_of, is_quantized, judge, read_model
from converters.rule_file import Rules, load, names
from device_agent.contract.errors import BadInput, MissingPackage
from profiles.schema import DeviceProfile
from toolkit.artifacts import open_artifact
from toolkit.models.architecture import Architecture
from toolkit.runs import Run

CLASSES, IMAGES, SEED = 4, 16, 0
_FLOAT = {"tflite": "litert-fp32", "onnx": "onnx-fp32", "openvino": "openvino-fp16"}
Progress = Callable[[str], None]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One file and one set of rules; `confirmation` is None where no runtime can be asked, and then `unasked` may say
    which one is not installed, or why it cannot load the file."""

    artifact: str
    placement: Placement
    confirmation: Confirmation | None = None
    unasked: str = ""


class PlacementReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every file against every set of rules that reads its format. `unserved` are the rules by whose tool every file
    was refused, `unjudged` those for which there is no file of their format."""

    profile: str
    checks: list[Check]
    unserved: list[str] = []
    unjudged: list[str] = []

    @property
    def disagreeing(self) -> list[Check]:
        """Checks whose prediction the runtime contradicts."""
        return [each for each in self.checks if each.confirmation is not None and not each.confirmation.agrees]


def find_rules(profile: DeviceProfile, folder: Path | None = None) -> list[Rules]:
    """The rules of the profile's accelerators, then those of the runtimes that lineside drives there.

    Raises:
        NotFound: the profile names rules that there are not.
        BadInput: a file does not hold rules.
    """
    runtimes = {name.rpartition("-")[0] for name in profile.artifacts}
    own = [load(name, folder) for name in profile.accelerators]
    rest = (load(name, folder) for name in names(folder) if name not in profile.accelerators)
    return own + [rules for rules in rest if rules.runtime in runtimes]


def check_files(
    files: dict[str, Path], profile_id: str, rules: Sequence[Rules], *, ask: bool = True
) -> PlacementReport:
    """Judge model files by rules.

    Args:
        files: by name, such as that of the artifact.
        profile_id: for the report.
        rules: those to judge by.
        ask: also load each file into the runtime that the rules are of, if it is installed, and look.

    Raises:
        NotFound, BadInput: a file that cannot be read.
        MissingPackage: what reads the format is not installed.
    """
    checks = []
    for name, path in files.items():
        graph, kind = read_model(path), format_of(path)
        quantized = is_quantized(graph)
        for one in rules:
            if one.format == kind and (quantized or not one.only_quantized):
                checks.append(_check(name, path, judge(graph, one), one, ask))
    judged = {each.placement.rules for each in checks}
    served = {each.placement.rules for each in checks if not each.placement.refused}
    return PlacementReport(
        profile=profile_id,
        checks=checks,
        unserved=[one.id for one in rules if one.id in judged - served],
        unjudged=[one.id for one in rules if one.id not in judged and not one.only_quantized],
    )


def _check(name: str, path: Path, placement: Placement, rules: Rules, ask: bool) -> Check:
    if not ask or rules.runtime is None:
        return Check(artifact=name, placement=placement)
    try:
        return Check(artifact=name, placement=placement, confirmation=confirm(placement, path, rules.runtime))
    except (MissingPackage, BadInput) as error:
        return Check(artifact=name, placement=placement, unasked=str(error))


def check_run(run: Run, profile: DeviceProfile, *, folder: Path | None = None, ask: bool = True) -> PlacementReport:
    """Judge the artifacts of a run, all that there are.

    Raises:
        BadInput: it has none, or one is damaged.
        ParityFailed: as for `open_artifact`.
    """
    found = run.artifacts()
    if not found:
        raise BadInput(f"{run.dir}: no artifacts to check; convert with: lineside convert {run.dir} --for {profile.id}")
    files = {name: open_artifact(run, name).files[0] for name in found}
    return check_files(files, profile.id, find_rules(profile, folder), ask=ask)


def check_architecture(
    architecture: Architecture,
    profile: DeviceProfile,
    *,
    folder: Path | None = None,
    ask: bool = True,
    progress: Progress | None = None,
) -> PlacementReport:
    """Judge what an untrained network would be converted to for a profile: its weights are drawn, its images are noise.

    Operators and shapes are those of the trained model; where a rule depends on scales, training may change it.

    Raises:
        BadInput: an architecture that cannot be built.
        MissingPackage: what builds and converts it is not installed.
    """
    rules = find_rules(profile, folder)
    with tempfile.TemporaryDirectory() as scratch:
        files = _convert(architecture, _artifacts(profile, rules), Path(scratch), progress)
        return check_files(files, profile.id, rules, ask=ask)


def _artifacts(profile: DeviceProfile, rules: Sequence[Rules]) -> list[str]:
    """The profile's artifacts, and a float one in each format that only an accelerator reads."""
    wanted = [name for name in profile.artifacts if name in CONVERTERS.names()]
    runtimes = {name.partition("-")[0] for name in wanted}
    needed = (_FLOAT[one.format] for one in rules)
    return [*wanted, *dict.fromkeys(name for name in needed if name.partition("-")[0] not in runtimes)]


def _convert(
    architecture: Architecture, artifacts: Sequence[str], scratch: Path, progress: Progress | None
) -> dict[str, Path]:
    from converters.keras_export import Export

    spec = architecture.input_spec()
    images = np.random.default_rng(SEED).integers(0, 256, (IMAGES, spec.height, spec.width, 3), np.uint8)
    export = Export(draw_network(architecture, images), spec, images, scratch)
    files = {}
    for name in artifacts:
        if progress is not None:
            progress(name)
        (scratch / name).mkdir()
        with held_back():
            files[name] = CONVERTERS.load(name)(export, scratch / name)[0]
    return files


def draw_network(architecture: Architecture, images: NDArray[np.uint8]) -> Any:
    """An untrained network whose normalisations are settled on images (n, h, w, 3) uint8.

    Every branch of it is alive: residual branches that start at zero would give scales that no trained model has.
    """
    from toolkit.framework import load_keras
    from toolkit.models.networks import build, normalizations, settle_statistics

    load_keras().utils.set_random_seed(SEED)
    model = build(architecture, CLASSES)
    for layer in normalizations(model):
        if layer.scale:
            layer.gamma.assign(layer.gamma * 0 + 1)
    settle_statistics(model, images, architecture.input_spec())
    return model


def is_model_file(path: Path) -> bool:
    """Whether the name ends like that of a model file that can be read.

    >>> is_model_file(Path("model.tflite")), is_model_file(Path("runs/steel"))
    (True, False)
    """
    return path.suffix in FORMATS
