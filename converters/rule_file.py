"""Rules of an accelerator: which operators it runs, on which conditions, and where that is from. One TOML file each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.codec import check_document_schema
from device_agent.contract.errors import BadInput, NotFound
from profiles.explanation import explain, nearest, parse, place

RULES_SCHEMA = "1.0"
BUILT_IN = Path(__file__).parent / "rules"
Verdict = Literal["accelerator", "cpu", "stops", "unknown"]
Condition = Literal[
    "verdict",
    "version_max",
    "dtypes",
    "reads",
    "alike",
    "scales",
    "zero_points",
    "constants",
    "static",
    "varying_dims",
    "rank",
    "axes",
    "elements_max",
    "inputs_max",
    "options",
    "same",
    "ratio",
    "product_ratio",
]
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
Span = Annotated[list[float], Meta(min_length=2, max_length=2)]


class OpRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of an operator: `verdict` where every condition that is given holds, else `otherwise`.

    `version_max` is of the operator; `dtypes` are of what it reads and writes, constants left aside, `reads` of its
    first input; `alike`: numbers of the inputs that must be of the first one's dtype; `scales` "tensor": no constant
    with a scale a channel; `zero_points` that must be 0: of "every" quantized tensor, or of the "second" input;
    `constants`: numbers of the inputs that must be constant, or a constant that is widened to float32; `static`: no
    open dimension; `varying_dims`: only so many innermost dimensions are over 1; `rank`: of the first input; `axes`:
    those that it may reduce, pad or the like (a constant second input, or the option `axes`); `elements_max`: of the
    first input; `inputs_max`: how many; `options`: values allowed; `same`: options that must be equal; `ratio`: of the
    scale of each input to that of the output, the first bound included; `product_ratio`: of the product of the inputs'
    scales. `like_maker`: where its first input is made, with which it is fused, if that is read by nothing else. `fix`
    says what to do, by the condition that fails.
    """

    verdict: Verdict = "accelerator"
    otherwise: Verdict = "cpu"
    version_max: int | None = None
    dtypes: list[str] | None = None
    reads: list[str] | None = None
    alike: list[int] | None = None
    scales: Literal["tensor"] | None = None
    zero_points: Literal["every", "second"] | None = None
    constants: list[int] | None = None
    static: bool | None = None
    varying_dims: int | None = None
    rank: list[int] | None = None
    axes: list[int] | None = None
    elements_max: int | None = None
    inputs_max: int | None = None
    options: dict[str, list[Any]] | None = None
    same: list[str] | None = None
    ratio: Span | None = None
    product_ratio: Span | None = None
    like_maker: bool = False
    reason: str = ""
    fix: dict[Condition, str] = {}


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory on the chip that holds parameters; what does not fit is streamed from the host at every inference."""

    parameters_mib: float
    source: Annotated[str, Meta(min_length=3)]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one accelerator for one file format, and the version of the tool that they are of.

    `accelerator`, `cpu` and `stops` list operators without conditions of their own, `ops` those with; `every` holds for
    all that may run there, and `default` for what is not named. `cut` "first": one piece only, and the rest runs on the
    CPU; "each": every piece. `needs_quantized`: a model without integers is refused as a whole; `only_quantized`: the
    rules say nothing about one. `runtime` is lineside's runtime that the prediction can be checked against. `here` and
    `elsewhere` name the two places in print.
    """

    schema: str = RULES_SCHEMA
    id: str
    name: str
    format: Literal["tflite", "onnx", "openvino"]
    tool: str
    sources: Annotated[list[str], Meta(min_length=1)]
    here: str
    elsewhere: str = "the CPU"
    cut: Literal["first", "each"] = "each"
    runtime: str | None = None
    needs_quantized: bool = False
    needs_quantized_fix: str = ""
    only_quantized: bool = False
    default: Verdict = "unknown"
    default_reason: str = "the rules say nothing about it"
    accelerator: list[str] = []
    cpu: list[str] = []
    stops: list[str] = []
    every: OpRule = OpRule()
    ops: dict[str, OpRule] = {}
    memory: Memory | None = None
    notes: list[str] = []


def load(rules_id: str, extra: Path | None = None) -> Rules:
    """The rules of that id, from the folder `extra` if it has them, else built in.

    >>> load("edgetpu").cut
    'first'

    Raises:
        NotFound: no such rules, or no such folder; the sentence names the nearest.
        BadInput: the file does not hold rules; the sentence names file, line and key.
    """
    layers = _folders(extra)
    if _ID.fullmatch(rules_id):
        for layer in layers:
            if (layer / f"{rules_id}.toml").is_file():
                return read(layer / f"{rules_id}.toml")
    known = names(extra)
    raise NotFound(f"no rules {rules_id!r}{nearest(rules_id, known)}; known are {', '.join(known)}")


def names(extra: Path | None = None) -> list[str]:
    """Ids of all rules.

    Raises:
        NotFound: no such folder.
    """
    return sorted({file.stem for layer in _folders(extra) for file in layer.glob("*.toml")})


def read(file: Path) -> Rules:
    """The rules in a file.

    Raises:
        NotFound: it cannot be read.
        BadInput: it does not hold rules; the sentence names file, line and key.
    """
    table = parse(file)
    check_document_schema(str(table.get("schema", RULES_SCHEMA)), where=str(file), reads=RULES_SCHEMA)
    for where, message in _mistakes(table):
        raise explain(_within(message, where), table, [file], kind=Rules)
    rules = msgspec.convert(table, Rules)
    if rules.id != file.stem:
        raise BadInput(f"{place(file, 'id')}: id must be the file's name {file.stem!r}, got {rules.id!r}")
    _check_once(rules, file)
    return rules


def _mistakes(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Findings of msgspec, each with the table that it is in: of the operators it does not say which one it means."""
    ops = table.get("ops")
    named = ops.items() if isinstance(ops, dict) else ()
    parts = [*((f"ops.{kind}", rule, OpRule) for kind, rule in named), ("", table, Rules)]
    for where, part, kind in parts:
        try:
            msgspec.convert(part, kind)
        except msgspec.ValidationError as error:
            yield where, str(error)


def _within(message: str, where: str) -> str:
    """
    >>> _within("Expected `int`, got `str` - at `$.rank`", "ops.ADD")
    'Expected `int`, got `str` - at `$.ops.ADD.rank`'
    >>> _within("Object contains unknown field `x`", "ops.ADD")
    'Object contains unknown field `x` - at `$.ops.ADD`'
    """
    if not where:
        return message
    what, _, inner = message.partition(" - at `$")
    return f"{what} - at `$.{where}{inner or '`'}"


def _check_once(rules: Rules, file: Path) -> None:
    """Refuse an operator that is named twice: which of the two holds could not be seen."""
    seen: dict[str, str] = {}
    for where, kinds in (("accelerator", rules.accelerator), ("cpu", rules.cpu), ("stops", rules.stops)):
        for kind in [*kinds]:
            if kind in seen:
                raise BadInput(f"{place(file, where)}: {kind} stands in {seen[kind]} already")
            seen[kind] = where
    for kind in rules.ops:
        if kind in seen:
            raise BadInput(f"{place(file, kind, ['ops'])}: {kind} stands in {seen[kind]} already")


def _folders(extra: Path | None) -> list[Path]:
    if extra is not None and not extra.is_dir():
        raise NotFound(f"{extra}: no such folder of rules")
    return [*([extra] if extra else []), BUILT_IN]
