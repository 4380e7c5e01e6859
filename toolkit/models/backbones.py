"""Backbones: an image in [-1, 1] to a feature map."""

from __future__ import annotations

import urllib.error
import warnings
from collections.abc import Callable
from typing import Any

from device_agent.contract.errors import BadInput
from toolkit.framework import load_keras
from toolkit.models.architecture import FAMILIES, Architecture

ACTIVATIONS = {"hard-silu": "hard_silu", "silu": "silu", "relu": "relu"}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)


def make_backbone(architecture: Architecture) -> Any:
    """A Keras model with drawn weights: "image" float32 (n, height, width, 3) in [-1, 1] to a map (n, h, w, features).

    What a family of keras.applications wants as its input is made of that image inside.
    """
    keras = load_keras()
    spec = architecture.input_spec()
    image = keras.Input((spec.height, spec.width, spec.channels), name="image")
    if architecture.family == "vit-tiny":
        from toolkit.models.transformer import make_transformer

        return make_transformer(image)
    if architecture.family == "resnet-50":
        from toolkit.models.layers import BgrOffset

        return _application(architecture, input_tensor=BgrOffset(name="bgr")(image))
    backbone = _application(architecture, input_shape=(None, None, spec.channels))
    return keras.models.clone_model(backbone, input_tensors=image, clone_function=_swap(architecture))


def fetch_backbone(architecture: Architecture) -> Any:
    """The Keras model of the family with its imagenet weights, to read them from; fetched by Keras, which keeps them.

    Raises:
        BadInput: Keras has none of this width, or they cannot be fetched.
    """
    none = f"weights: Keras has none of imagenet for {architecture}"
    if not FAMILIES.get(architecture.family):
        raise BadInput(none)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # imagenet weights of 224 px serve every size
            return _application(architecture, weights="imagenet", input_shape=(224, 224, 3))
    except (ValueError, KeyError) as error:
        raise BadInput(none) from error
    except Exception as error:
        if isinstance(error.__context__, (urllib.error.URLError, OSError)):  # Keras raises a bare Exception from it
            raise BadInput("weights: imagenet cannot be fetched from here; --weights PATH takes a file") from error
        raise


def _application(architecture: Architecture, *, weights: str | None = None, **place: Any) -> Any:
    options: dict[str, Any] = {"weights": weights, "include_top": False, **place}
    if architecture.family.startswith("mobilenet"):
        options["alpha"] = architecture.alpha
    if architecture.family.startswith("mobilenet-v3"):
        options |= {"minimalistic": architecture.minimalistic, "include_preprocessing": False}
    return getattr(load_keras().applications, FAMILIES[architecture.family])(**options)


def _swap(architecture: Architecture) -> Callable[[Any], Any]:
    """What replaces each layer of keras.applications.

    Its MobileNets and EfficientNet pad by hand before each stride, at even sizes as "same" does; MobileNetV1 then drops
    the edge of an odd map. "same" serves every size, and saves the devices an operation. The activation of V3, and the
    standardisation of EfficientNet, are those that are wanted.
    """
    layers = load_keras().layers
    activation = ACTIVATIONS[architecture.activation or "hard-silu"]

    def swap(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, layers.ZeroPadding2D):
            return layers.Identity(name=layer.name)
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            return type(layer).from_config({**config, "padding": "same"})
        if isinstance(layer, layers.Rescaling):
            return _standardization(layer.name)
        if isinstance(layer, layers.Normalization):
            return layers.Identity(name=layer.name)
        if isinstance(layer, layers.Activation) and config["activation"] in ("hard_silu", "hard_swish"):
            config["activation"] = activation
        return type(layer).from_config(config)

    return swap


def _standardization(name: str) -> Any:
    """The input layer of EfficientNet as one rescaling with the constants of imagenet.

    Keras rescales bytes, standardises by statistics that lie among the weights, and with weights of imagenet divides by
    the root of the deviation once more, since that is what they were trained on; a file of the same weights it treats
    otherwise. Constants serve every start alike: (image / 2 + 1/2 - mean) / deviation^1.5.
    """
    power = [spread**1.5 for spread in IMAGENET_SPREAD]
    offset = [(0.5 - mean) / each for mean, each in zip(IMAGENET_MEAN, power, strict=True)]
    return load_keras().layers.Rescaling([0.5 / each for each in power], offset, name=name)
