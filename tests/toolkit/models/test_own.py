"""A network of one's own: what comes of it, and one sentence for each thing that can be wrong with it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.models.answers import predict
from toolkit.models.architecture import Architecture
from toolkit.models.files import load_model, save_model
from toolkit.models.own import import_function, with_source

HEAD = "import keras\nfrom keras import layers, ops\n"
BODY = "    image = keras.Input((h, w, c)); x = layers.Conv2D(8, 3, strides=2, activation='relu')(image)\n" \
       "    x = layers.GlobalAveragePooling2D()(x)\n"  # fmt: skip
NUMBER = iter(range(1000))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module into the working directory and gives its name; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"own_net_{next(NUMBER)}")
        Path(f"{names[-1]}.py").write_text(text)
        importlib.invalidate_caches()
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets:", "must be MODULE:FUNCTION, such as my_nets:small, got 'nets:'"),
        (":small", "must be MODULE:FUNCTION"),
        ("no_such_module_here:small", "importing it raised ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("json:small", "json has no function small; it is called with"),
        ("json:dumps", r"json:dumps: .*; it is called with \(height, width, channels, classes\)"),
    ],
)
def test_a_function_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        import_function(name)
    assert "\n" not in str(caught.value)


def test_a_module_of_the_working_directory_is_found_and_its_faults_have_a_place(module: Callable[[str], str]) -> None:
    good = module("def net(height, width, channels, classes): ...\n")
    assert callable(import_function(f"{good}:net"))
    broken = module("x = 1\ny = x +\n")
    with pytest.raises(BadInput, match=f"{broken}:net: importing it raised SyntaxError: invalid syntax"):
        import_function(f"{broken}:net")
    crashing = module("1 / 0\n")
    with pytest.raises(BadInput, match=rf"ZeroDivisionError: division by zero \({crashing}.py:1\)"):
        import_function(f"{crashing}:net")
    assert str(Path.cwd()) not in sys.path


def test_the_digest_is_that_of_the_source_and_families_have_none(module: Callable[[str], str]) -> None:
    import hashlib

    name = module("def net(height, width, channels, classes): ...\n")
    found = with_source(Architecture(family=f"{name}:net"))
    assert found.source_sha256 == hashlib.sha256(Path(f"{name}.py").read_bytes()).hexdigest()
    assert with_source(Architecture()) == Architecture()


@pytest.mark.slow
def test_an_own_network_answers_as_it_was_made_and_survives_the_disk(module: Callable[[str], str]) -> None:
    import keras

    from toolkit.models.networks import build, normalizations

    name = module(
        HEAD
        + "@keras.saving.register_keras_serializable('own')\nclass Twice(layers.Layer):\n"
        + "    def call(self, x): return 2 * x\n"
        + "def net(h, w, c, k):\n"
        + BODY
        + "    global made; x = layers.BatchNormalization()(x)\n"
        + "    made = keras.Model(image, layers.Dense(k, name='out')(Twice()(x))); return made\n"
    )
    keras.utils.set_random_seed(3)
    architecture = with_source(Architecture(family=f"{name}:net", size=24, size_width=40))
    model = build(architecture, 3)
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), np.uint8)
    made = sys.modules[name].made
    logits = predict(model, images, architecture.input_spec())
    assert logits.std() > 0
    np.testing.assert_allclose(logits, np.asarray(made(images / np.float32(127.5) - 1, training=False)), atol=1e-5)
    assert model.get_layer("logits").input is model.get_layer("pooled").output
    assert normalizations(model)[0].momentum == 0.9
    save_model(model, Path("model.keras"))
    del keras.saving.get_custom_objects()["own>Twice"]  # as in another process; all others stay for other tests
    sys.modules.pop(name)
    importlib.import_module("toolkit.models.layers")
    with pytest.raises(BadInput, match="holds a Twice; start where its module can be imported"):
        load_model(Path("model.keras"))
    again = load_model(Path("model.keras"), architecture.family)
    assert np.array_equal(predict(again, images, architecture.input_spec()), logits)
    Path(f"{name}.py").write_text(Path(f"{name}.py").read_text() + "\n")
    with pytest.raises(BadInput, match="its source file was changed since the recipe was made"):
        build(architecture, 3)


WRONG = {
    "    return 3\n": r"returned int; it is called with",
    "    return keras.Model(image, layers.Dense(k, activation='softmax')(x))\n": "ends in a softmax; it must end in",
    "    return keras.Model(image, ops.softmax(layers.Dense(k)(x)))\n": "ends in a softmax; it must end in",
    "    return keras.Model(image, layers.Dense(k, activation='sigmoid')(x))\n": "ends in a sigmoid; it must",
    "    return keras.Model(image, layers.Activation('sigmoid')(layers.Dense(k)(x)))\n": "ends in a sigmoid; it must",
    "    return keras.Model(image, layers.Dense(k + 1)(x))\n": r"gives \(n, 4\); it must give logits \(n, 3\)",
    "    i = keras.Input((h, w, 1)); return keras.Model(i, layers.Dense(k)(layers.Flatten()(i)))\n":
        r"takes \(n, 32, 32, 1\); it must take one image \(n, 32, 32, 3\)",
    "    return keras.Model(image, layers.Dense(k)(ops.log(x - 100)))\n": "answers with what is not finite",
    "    return keras.Model(image, layers.Add()([layers.Dense(k)(x), layers.Dense(k)(x)]))\n":
        r"ends in Add '.*'; its last layer must be Dense\(classes\)",
    "    return keras.Model(image, layers.Dense(k)(layers.Lambda(lambda t: t * 2)(x)))\n": "could not be loaded again",
    "    class Mine(layers.Layer):\n        def call(self, t): return t\n"
    "    return keras.Model(image, layers.Dense(k)(Mine()(x)))\n": "could not be loaded again .*register_keras",
    "    class Sub(keras.Model):\n        def call(self, t): return t\n    return Sub()\n": "a Sub without inputs",
    "    raise RuntimeError('no such block')\n": r"calling it raised RuntimeError: no such block \(own_net_\d+.py:6\)",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("end", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_with_an_own_network_is_one_sentence(end: str, said: str, module: Callable[[str], str]) -> None:
    from toolkit.models.networks import build

    name = module(f"{HEAD}def net(h, w, c, k):\n{BODY}{end}")
    with pytest.raises(BadInput, match=said) as caught:
        build(Architecture(family=f"{name}:net", size=32), 3)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{name}:net: ")
