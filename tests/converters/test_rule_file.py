"""Files of rules: those built in, a user's own, and what is said about a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.rule_file import BUILT_IN, load, names, read
from device_agent.contract.errors import BadInput, NotFound
from profiles import registry

HEAD = """
id = "mine"
name = "my chip"
format = "tflite"
tool = "mycc 1"
here = "chip"
sources = ["its data sheet"]
"""


def _written(folder: Path, text: str, name: str = "mine") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(HEAD + text)
    return file


def test_every_set_that_is_built_in_is_read_and_says_where_it_is_from() -> None:
    assert names() == [
        "edgetpu",
        "onnxruntime-cpu",
        "openvino-cpu",
        "openvino-gpu",
        "openvino-npu",
        "tensorrt",
        "xnnpack",
    ]
    for name in names():
        rules = load(name)
        assert rules.tool and any("github.com/" in one or ".ai/" in one for one in rules.sources)
        assert rules.ops or rules.accelerator


def test_profiles_name_rules_that_there_are() -> None:
    named = {name for one in registry.catalogue() for name in registry.load(one.id).accelerators}
    assert {"edgetpu", "tensorrt", "openvino-gpu"} <= named <= set(names())


def test_own_rules_stand_above_those_built_in(tmp_path: Path) -> None:
    text = (BUILT_IN / "edgetpu.toml").read_text().replace("edgetpu_compiler 16.0", "edgetpu_compiler 17.0")
    (tmp_path / "edgetpu.toml").write_text(text)
    assert load("edgetpu", tmp_path).tool == "edgetpu_compiler 17.0" and load("xnnpack", tmp_path).id == "xnnpack"


def test_unknown_rules_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no rules 'edge-tpu', did you mean 'edgetpu'"):
        load("edge-tpu")
    with pytest.raises(NotFound, match="no such folder of rules"):
        load("edgetpu", tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[ops.CONV_2D]\nversoin_max = 3\n",
            r"mine.toml:9: unknown key ops.CONV_2D.versoin_max, did you mean 'version_max'",
        ),
        (
            '[ops.CONV_2D]\nverdict = "gpu"\n',
            r"mine.toml:9: .*must be one of accelerator, cpu, stops, unknown, got 'gpu'",
        ),
        ('[ops.CONV_2D]\nversion_max = "3"\n', r"mine.toml:9: ops.CONV_2D.version_max: expected int.*got '3'"),
        ('[memory]\nparameters_mib = "8"\nsource = "it"\n', r"mine.toml:9: .*parameters_mib"),
        ('cpu = ["ADD"]\naccelerator = ["ADD"]\n', r"ADD stands in accelerator already"),
        ('cpu = ["ADD"]\n[ops.ADD]\n', r"ADD stands in cpu already"),
        ("cut = \n", r"mine.toml: not TOML"),
    ],
)
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read(_written(tmp_path, text))


def test_an_id_that_is_not_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"yours.toml:2: id must be the file's name 'yours', got 'mine'"):
        read(_written(tmp_path, "", "yours"))


def test_the_example_in_the_guide_is_a_file_of_rules(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "convert.md").read_text()
    example = guide.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mychip.toml").write_text(example)
    assert load("mychip", tmp_path).ops["MEAN"].axes == [1, 2]
