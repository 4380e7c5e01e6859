"""Layers of our own. Importing this module imports TensorFlow and registers them, so that Keras can read them."""

from __future__ import annotations

from typing import Any

from toolkit.framework import load_keras

keras: Any = load_keras()
ops = keras.ops
register = keras.saving.register_keras_serializable(package="lineside")
BGR_MEAN = (103.939, 116.779, 123.68)
EPSILON = 1e-6
ROOT_FROM = 1e-3
"""Size, in a row of length 1, under which the signed root is a straight line: eight bits cannot hold its slope at 0."""


@register
class BgrOffset(keras.layers.Layer):  # type: ignore[misc]
    """RGB (n, h, w, 3) in [-1, 1] as ResNet-50 was trained on it: blue first, bytes less the mean of imagenet.

    A 1x1 convolution with constant weights, which every runtime has in every precision; a reversed axis has not.
    """

    def call(self, image: Any) -> Any:
        """float32 in [-124, 152]."""
        swap = [[0.0, 0.0, 127.5], [0.0, 127.5, 0.0], [127.5, 0.0, 0.0]]
        kernel = ops.convert_to_tensor([[swap]], dtype=self.compute_dtype)
        return ops.conv(image, kernel) + ops.convert_to_tensor([127.5 - mean for mean in BGR_MEAN], self.compute_dtype)

    def compute_output_shape(self, shape: Any) -> Any:
        """As the input's."""
        return shape


@register  # type: ignore[untyped-decorator]
def tanh_gelu(value: Any) -> Any:
    """The Gaussian error linear unit by its tanh form (Hendrycks & Gimpel 2016): ONNX Runtime has no Erfc."""
    return ops.gelu(value, approximate=True)


def _unit(rows: Any) -> Any:
    """Rows (n, k) of length 1."""
    return rows * ops.rsqrt(ops.sum(rows * rows, axis=1, keepdims=True) + EPSILON)


def _flat(maps: Any) -> Any:
    """Positions and features (n, h * w, features) of a map (n, h, w, features)."""
    return ops.reshape(maps, (-1, maps.shape[1] * maps.shape[2], maps.shape[3]))


@register
class AttentionPooling(keras.layers.Layer):  # type: ignore[misc]
    """The mean of a feature map, weighted by a map of attention: softmax over positions of a learned score.

    The score starts at zero, so that the layer starts as the plain mean.
    """

    def build(self, shape: Any) -> None:
        """One score a position, linear in its features."""
        self.score = self.add_weight(shape=(shape[-1], 1), initializer="zeros", name="score")

    def attention(self, maps: Any) -> Any:
        """Weights (n, positions, 1) that add up to 1."""
        return ops.softmax(ops.matmul(_flat(maps), self.score), axis=1)

    def call(self, maps: Any) -> Any:
        """(n, features)."""
        weighted = ops.matmul(ops.transpose(self.attention(maps), (0, 2, 1)), _flat(maps))
        return ops.reshape(weighted, (-1, maps.shape[3]))


@register
class PartPooling(keras.layers.Layer):  # type: ignore[misc]
    """Learned part detectors: each is a softmax over positions, and its features their weighted mean; parts joined."""

    def __init__(self, parts: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts

    def build(self, shape: Any) -> None:
        """A score a part and position; drawn, so that no two parts are alike."""
        self.score = self.add_weight(shape=(shape[-1], self.parts), initializer="glorot_uniform", name="score")

    def call(self, maps: Any) -> Any:
        """(n, parts * features)."""
        weights = ops.softmax(ops.matmul(_flat(maps), self.score), axis=1)
        found = ops.matmul(ops.transpose(weights, (0, 2, 1)), _flat(maps))
        return ops.reshape(found, (-1, self.parts * maps.shape[3]))

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to make the layer again."""
        return {**super().get_config(), "parts": self.parts}


@register
class BilinearPooling(keras.layers.Layer):  # type: ignore[misc]
    """Products of all pairs of `rank` projected features, averaged over positions (Lin et al. 2015, Bilinear CNN models
    for fine-grained visual recognition), signed square root, length 1.

    The projection (Kim et al. 2017, Hadamard product for low-rank bilinear pooling, factorises likewise) keeps the
    products few: rank^2.
    """

    def __init__(self, rank: int = 64, **options: Any) -> None:
        super().__init__(**options)
        self.rank = rank

    def build(self, shape: Any) -> None:
        """A projection that starts with orthonormal columns, so that distances are kept as well as they can be."""
        self.kernel = self.add_weight(shape=(shape[-1], self.rank), initializer="orthogonal", name="kernel")

    def call(self, maps: Any) -> Any:
        """(n, rank^2), each row of length 1."""
        projected = ops.matmul(_flat(maps), self.kernel)
        pairs = ops.matmul(ops.transpose(projected, (0, 2, 1)), projected) / projected.shape[1]
        pairs = _unit(ops.reshape(pairs, (-1, self.rank**2)))
        return _unit(pairs * ops.rsqrt(ops.abs(pairs) + ROOT_FROM))

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to make the layer again."""
        return {**super().get_config(), "rank": self.rank}


@register
class Positions(keras.layers.Layer):  # type: ignore[misc]
    """A learned vector for each position, added: (n, positions, features) to the same."""

    def build(self, shape: Any) -> None:
        """Small at the start."""
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.places = self.add_weight(shape=(1, *shape[1:]), initializer=start, name="places")

    def call(self, tokens: Any) -> Any:
        """The tokens, each with its place."""
        return tokens + self.places


@register
class ZeroColumn(keras.constraints.Constraint):  # type: ignore[misc]
    """Keeps one column (or entry) of a last layer at zero: that class's logit is then the constant 0."""

    def __init__(self, column: int) -> None:
        self.column = column

    def __call__(self, weights: Any) -> Any:
        """The weights (features, classes) or (classes,) with that column zero."""
        keep = ops.cast(ops.arange(weights.shape[-1]) != self.column, weights.dtype)
        return weights * keep

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to make the constraint again."""
        return {"column": self.column}
