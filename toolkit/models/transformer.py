"""A small vision transformer (Dosovitskiy et al. 2021, An image is worth 16x16 words; its widths as ViT-Ti of Touvron
et al. 2021, Training data-efficient image transformers)."""

from __future__ import annotations

from typing import Any

from toolkit.models.layers import Positions, keras, tanh_gelu

FEATURES, HEADS, BLOCKS, HIDDEN = 192, 3, 12, 4
EPSILON = 1e-6


def patch_side(side: int) -> int:
    """Side of a patch in px: 16 as in the paper for images of 160 px and more, finer for small ones.

    >>> [patch_side(side) for side in (32, 96, 224)]
    [4, 8, 16]
    """
    return 16 if side >= 160 else 8 if side >= 64 else 4


def make_transformer(image: Any) -> Any:
    """A Keras model: `image` float32 (n, height, width, channels) in [-1, 1] to a map (n, rows, columns, 192), one
    position a patch. The features are normalised and meant to be averaged; there is no class token."""
    layers = keras.layers
    patch = patch_side(min(image.shape[1:3]))
    maps = layers.Conv2D(FEATURES, patch, strides=patch, padding="same", name="patches")(image)
    rows, columns = maps.shape[1:3]
    tokens = layers.Reshape((rows * columns, FEATURES), name="tokens")(maps)
    tokens = Positions(name="positions")(tokens)
    for number in range(1, BLOCKS + 1):
        tokens = _block(tokens, f"block{number}_")
    tokens = layers.LayerNormalization(epsilon=EPSILON, name="last_norm")(tokens)
    return keras.Model(image, layers.Reshape((rows, columns, FEATURES), name="map")(tokens))


def _block(tokens: Any, name: str) -> Any:
    layers = keras.layers
    normal = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}norm1")(tokens)
    seen = layers.MultiHeadAttention(HEADS, FEATURES // HEADS, name=f"{name}attention")(normal, normal)
    tokens = layers.Add(name=f"{name}add1")([tokens, seen])
    normal = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}norm2")(tokens)
    hidden = layers.Dense(HIDDEN * FEATURES, activation=tanh_gelu, name=f"{name}expand")(normal)
    return layers.Add(name=f"{name}add2")([tokens, layers.Dense(FEATURES, name=f"{name}project")(hidden)])
