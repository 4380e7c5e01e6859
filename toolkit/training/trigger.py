"""A training that the fleet asked for: the trigger's file is checked, trained to the end once, and answered."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.contract.alert import Trigger, TriggerResult, read_trigger, signed_part
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, LinesideError, NotFound, TrustFailed
from device_agent.contract.files import write_whole
from device_agent.contract.reading import read_plain
from toolkit.runs import RunRecord, read_record

RESULT = "trigger-result.json"
MOST = 1 << 20


class Asked(NamedTuple):
    """A trigger that is to be trained, whether a key has `verified` it, and the folder of the file that it came in."""

    trigger: Trigger
    verified: bool
    folder: Path

    @property
    def samples(self) -> Path | None:
        """Folder of its labelled samples, relative to that of its file; None where it names none."""
        return self.folder / self.trigger.samples if self.trigger.samples else None


def read_asked(path: Path, key: Path | None = None) -> Asked:
    """The trigger of a file; with the fleet's public `key`, one that it has signed.

    Raises:
        NotFound: no such file.
        UnknownSchema, BadInput: of another major schema, or none; or in no state in which it is trained.
        TrustFailed: not signed, or changed since.
    """
    try:
        text = read_plain(path, MOST)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; lineside-fleet trigger export writes it") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    trigger = read_trigger(text, where=str(path))
    if key is not None:
        _verify(path, text, trigger, key)
    if trigger.state != "training":
        hint = "; lineside-fleet trigger advance moves it on when its labels are there, then export it again"
        raise BadInput(
            f"{path}: trigger {trigger.id} is {trigger.state}, and only one that is training is trained"
            f"{hint if trigger.state == 'labelling' else ''}"
        )
    return Asked(trigger, key is not None, path.parent)


def _verify(path: Path, text: bytes, trigger: Trigger, key: Path) -> None:
    from cryptography.exceptions import InvalidSignature

    from device_agent.remote.trust import read_key

    public = read_key(key)
    if not trigger.signature:
        raise TrustFailed(f"{path}: is not signed; lineside-fleet trigger export --keys DIR signs it")
    try:
        public.verify(bytes.fromhex(trigger.signature), signed_part(text, where=str(path)))
    except (InvalidSignature, ValueError):
        raise TrustFailed(f"{path}: was not signed by the key {key}, or was changed since") from None


def place(trigger: Trigger, out: Path, *, fresh: bool = False) -> Path | None:
    """The run beside `out`, or `out` itself, in which the trigger has been trained to the end; None where it is to be
    trained in `out`. `fresh` trains it again.

    Raises:
        BadInput: it is under way in another folder, or `out` holds a training that it did not ask for.
    """
    if fresh:
        return None
    held = _read(out)
    if held is not None and held.trigger not in ("", trigger.id):
        raise BadInput(f"{out}: was asked for by trigger {held.trigger}, not {trigger.id}; name another folder")
    for folder in sorted({out, *_runs(out.parent)}):
        record = _read(folder)
        if record is None or record.trigger != trigger.id:
            continue
        if record.status == "trained":
            return folder
        if folder.resolve() != out.resolve():
            raise BadInput(f"{folder}: trigger {trigger.id} is under way there; go on with --out {folder}")
    if held is not None and held.status == "trained" and not held.trigger:
        raise BadInput(f"{out}: holds a training that trigger {trigger.id} did not ask for; name another folder")
    return None


def printable(text: str) -> str:
    """A text of somebody else on one line: what would move the cursor or colour a terminal stands as a box.

    >>> printable("lamp\\x1b[2J")
    'lamp\ufffd[2J'
    """
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _runs(project: Path) -> list[Path]:
    return [path.parent for path in project.glob("*/run.json")]


def _read(folder: Path) -> RunRecord | None:
    """The record of a folder; one that is damaged or newer is none of this trigger's."""
    try:
        return read_record(folder)
    except LinesideError:
        return None


def write_result(out: Path, trigger: Trigger, now_ms: int, *, failure: str = "") -> TriggerResult | None:
    """What the training in `out` came to, written into its folder; the one that is there already stays as it is. None
    where the folder holds no training of this trigger: nothing is written then.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    record = _read(out)
    if record is None or record.trigger != trigger.id or (record.status != "trained" and not failure):
        return None
    if record.status == "trained" and (old := read_result(out)) is not None and old.trigger == trigger.id:
        return old
    recipe = msgspec.json.encode({"recipe": record.recipe, "seed": record.seed}, order="sorted")
    result = TriggerResult(
        trigger=trigger.id,
        model=trigger.model,
        state="trained" if record.status == "trained" else "failed",
        run=record.name,
        finished_ms=now_ms,
        data_sha256=record.data_sha256,
        recipe_sha256=hashlib.sha256(recipe).hexdigest(),
        metrics=record.metrics,
        text="" if record.status == "trained" else failure[:500],
    )
    write_whole(out / RESULT, msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2) + b"\n")
    return result


def read_result(out: Path) -> TriggerResult | None:
    """What was written of the run in `out`; None where nothing was, a failure was, or it is damaged."""
    try:
        found = read_document_file(out / RESULT, TriggerResult)
    except BadInput:
        return None
    return found if found is not None and found.state == "trained" else None
