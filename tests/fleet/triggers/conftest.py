"""A store with the models of a plant, and the command line over it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fleet.cli import cli

NOW_MS = 1_790_000_000_000


@pytest.fixture
def run(plant):
    """`run("trigger", "list")` on the plant's store: stdout; errors of ours are raised."""
    plant.open()

    def call(*arguments, store=True):
        given = [*map(str, arguments), *(["--store", plant.url] if store else [])]
        result = CliRunner().invoke(cli, given, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stdout

    return call


@pytest.fixture
def model(plant):
    """Id of the model that the plant's bundle has first."""
    return plant.model_ids[0].hex()
