"""Business rules: when a model is to be trained again, written down by people in a TOML or JSON file.

    [[rule]]
    name = "escapes"
    when = "labelled_escape_rate.low > 0.02 with n >= 200"

    [[rule]]
    name = "old"
    when = "age_of_model_days > 180 and pages > 3"
    model = "steel*"

A term compares a figure, or its lower or upper 95 % limit (`.low`, `.high`), with a number; all terms have to hold. A
rule of statistics alone is refused.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain
from fleet.models import read_models
from fleet.triggers.book import Draft
from fleet.triggers.facts import FIGURES, Fact, Facts, kind_of, store_facts
from fleet.triggers.measured import measured_facts
from fleet.triggers.windows import window_of

MOST = 1 << 20
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(
    rf"(?P<figure>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\s*(?P<sign>[<>]=?)\s*(?P<bound>{_NUMBER})"
    r"(?:\s+with\s+n\s*>=\s*(?P<least>\d{1,9}))?"
)


class Term(NamedTuple):
    """One comparison: a figure or one of its limits ("low", "high", or "" for the value) with a bound, on `least` parts
    at least."""

    figure: str
    limit: str
    sign: str
    bound: float
    least: int

    def __str__(self) -> str:
        limit = f".{self.limit}" if self.limit else ""
        least = f" with n >= {self.least}" if self.least else ""
        return f"{self.figure}{limit} {self.sign} {self.bound:g}{least}"

    def judge(self, fact: Fact | None) -> tuple[bool | None, str]:
        """Whether it holds (None: not known), and why in words."""
        if fact is None:
            return None, f"{self}: not known"
        number = getattr(fact, self.limit) if self.limit else fact.value
        if number is None:
            return None, f"{self}: has no interval"
        seen = f"{number:.4g}" + (f" of {fact.n}" if fact.n else "")
        if fact.n < self.least:
            return None, f"{self}: {seen}, too few"
        holds = OPERATORS[self.sign](number, self.bound)
        return holds, f"{self}: {seen}, {'yes' if holds else 'no'}"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule of the file. `model`: pattern of model ids or names; `window_days`: how far back alerts count, and how
    long one trigger stands for the rule."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    when: str
    model: str = "*"
    window_days: Annotated[float, Meta(gt=0, le=400)] = 7.0
    text: Annotated[str, Meta(max_length=500)] = ""
    suggested: dict[str, str | int | float] = {}

    def terms(self) -> list[Term]:
        """Its comparisons.

        Raises:
            BadInput: a term that is none, an unknown figure, or statistics alone.
        """
        found = [_term(self.name, text) for text in re.split(r"\s+and\s+", self.when.strip())]
        if all(kind_of(term.figure) == "statistic" for term in found):
            solid = ", ".join(name for name, (kind, _) in FIGURES.items() if kind != "statistic")
            raise BadInput(
                f"rule {self.name!r}: asks statistics alone, and no retraining rests on these; add one of: {solid}"
            )
        return found


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a model: whether it `fires`, and each term in words. `fires` is None when a figure is not
    known."""

    rule: str
    model: str
    fires: bool | None
    said: list[str]


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    rule: list[Rule] = []


def read_rules(path: Path) -> list[Rule]:
    """The rules of a TOML file, or of a JSON file where its name ends in .json.

    Raises:
        NotFound, BadInput: no such file, or one that does not serve; file, rule and term are named.
    """
    read = msgspec.json.decode if path.suffix.lower() == ".json" else msgspec.toml.decode
    try:
        rules = read(read_plain(path, MOST), type=_File).rule
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {str(error).lower()}") from None
    if not rules:
        raise BadInput(f"{path}: has no table [[rule]]; the least is name and when")
    names = [rule.name for rule in rules]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"{path}: rule {twice[0]!r} stands there twice")
    for rule in rules:
        try:
            rule.terms()
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
    return rules


def _term(rule: str, text: str) -> Term:
    found = _TERM.fullmatch(text.strip())
    if found is None:
        raise BadInput(
            f"rule {rule!r}: {text[:80]!r} must read like: labelled_escape_rate > 0.02 with n >= 200; "
            f"terms are joined by and"
        )
    figure, _, limit = found["figure"].rpartition(".")
    if limit not in ("low", "high") or not figure:
        figure, limit = found["figure"], ""
    try:
        kind_of(figure)
    except BadInput as error:
        raise BadInput(f"rule {rule!r}: {error}") from None
    return Term(figure, limit, found["sign"], float(found["bound"]), int(found["least"] or 0))


def evaluate(rule: Rule, model: str, name: str, facts: Facts, now_ms: int) -> tuple[Outcome, Draft | None] | None:
    """What a rule says of a model, and the draft of its trigger where it fires; None where it is not about the model.

    >>> rule, fact = Rule(name="old", when="age_of_model_days > 180"), Fact("age_of_model_days", "business", 200)
    >>> outcome, draft = evaluate(rule, "0f", "steel", {"age_of_model_days": fact}, 0)
    >>> outcome.fires, outcome.said
    (True, ['age_of_model_days > 180: 200, yes'])
    """
    if not any(fnmatch.fnmatchcase(each, rule.model) for each in (model, name)):
        return None
    terms = rule.terms()
    judged = [term.judge(facts.get(term.figure)) for term in terms]
    holds = [known for known, _ in judged]
    fires = False if False in holds else None if None in holds else True
    outcome = Outcome(rule=rule.name, model=model, fires=fires, said=[said for _, said in judged])
    return outcome, _draft(rule, terms, model, facts, outcome, now_ms) if fires else None


def _draft(rule: Rule, terms: Sequence[Term], model: str, facts: Facts, outcome: Outcome, now_ms: int) -> Draft:
    """Windows stand end to end since 1970, so that asking every hour asks once a window."""
    from_ms, to_ms = window_of(now_ms, rule.window_days)
    bounds: Mapping[str, float] = {term.figure: term.bound for term in terms}
    evidence = [facts[name].evidence(from_ms, to_ms, bound) for name, bound in bounds.items()]
    text = f"rule {rule.name}: {rule.text + '; ' if rule.text else ''}{'; '.join(outcome.said)}"
    return Draft(model=model, reason="rule", rule=rule.name, text=text[:1000], evidence=evidence, from_ms=from_ms,
                 to_ms=to_ms, suggested=rule.suggested)  # fmt: skip


def evaluate_all(
    tx: Connection, rules: Sequence[Rule], further: Mapping[str, Facts], now_ms: int
) -> list[tuple[Outcome, Draft | None]]:
    """Every rule against every model of the store; `further` are figures by model that stand above the store's own.

    Raises:
        NotFound: `further` names a model that the store does not have.
    """
    models = read_models(tx)
    if unknown := [model for model in further if model not in models]:
        raise NotFound(f"facts: no model {unknown[0]!r}; known are: {', '.join(sorted(models)[:20]) or 'none'}")
    found = []
    for rule in rules:
        own = store_facts(tx, now_ms, window_days=rule.window_days)
        measured = measured_facts(tx, now_ms, window_days=rule.window_days)
        for model in models.values():
            facts = own.get(model.model, {}) | measured.get(model.model, {}) | dict(further.get(model.model, {}))
            said = evaluate(rule, model.model, model.name, facts, now_ms)
            found += [said] if said is not None else []
    return found
