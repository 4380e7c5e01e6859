"""The monitor killed during ingest, in short: the whole account of benchmarks/ingest/kills.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "ingest"


@pytest.fixture
def kills(monkeypatch):
    """The benchmark, which finds its neighbours beside it."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module("kills")
    for name in {"kills", "sender", "postgres", "plant"} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_monitor_that_is_killed_loses_nothing_and_counts_nothing_twice(
    kills, mosquitto_program, postgres_folder, kind
):
    result = kills.rehearse(postgres_folder, kind, kills=6, crashes=2, devices=12, seed=3)
    assert result.faults == []
    assert (result.kills, result.crashes) == (6, 2 if kind == "postgres" else 0) and result.made > 100


@pytest.fixture
def postgres_folder(tmp_path_factory):
    """A folder into which another account may go."""
    folder = tmp_path_factory.mktemp("kills")
    for each in (folder, *folder.parents):
        if each.name.startswith(("kills", "popen-", "pytest-")):
            each.chmod(0o755)
    return folder / "run"


def test_an_account_that_does_not_add_up_is_noticed(kills):
    good = kills.Books(20, 20 * 600, 20, 20 * 600, 20, 20, 0, 0)
    result = kills.Result("sqlite", 1, 0, 0, 0, 20, 0, good, 1.0)
    assert result.faults == []
    for field in kills.Books._fields:
        wrong = good._replace(**{field: getattr(good, field) + 1})
        assert len(result._replace(books=wrong).faults) == 1, field
    assert result._replace(waiting=1).faults == ["not acknowledged: 1 instead of 0"]
