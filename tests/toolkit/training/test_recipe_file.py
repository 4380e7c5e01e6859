"""A recipe from a file: the names of run.json, of their types, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput, LinesideError
from toolkit.training.recipe_file import read_overrides


def test_fields_of_recipe_and_network(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('epochs = 3\nlr = 1\noptimizer = "sgd"\nfamily = "mobilenet-v3-small"\nmixed_precision = true\n')
    found = read_overrides(path)
    assert found.pop("family") == "mobilenet-v3-small"
    assert found == {"epochs": 3, "lr": 1.0, "optimizer": "sgd", "mixed_precision": True}
    assert isinstance(found["lr"], float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "no 'epoch' in a recipe, did you mean 'epochs'"),
        ('epochs = "three"', "epochs: expected `int`, got `str`"),
        ('optimizer = "adam"', "optimizer: invalid enum value 'adam'"),
        ("epochs = ", "not TOML"),
        ('weights_sha256 = "00"', "no 'weights_sha256'"),
        ("[distil]\nweight = 0.5", "no 'distil'"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        read_overrides(tmp_path / "r.toml")
    assert "r.toml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LinesideError, match="give a TOML file, or auto"):
        read_overrides(tmp_path / "none.toml")
