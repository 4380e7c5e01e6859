"""Alarms for layers that explode or are dead, and none for those that learn."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.training.health import LayerHealth, alarms, gradient_health, merged, sampled


def _epoch(epoch: int, norms: dict[str, float], rms: float = 1.0, dead: float = 0.2) -> list[LayerHealth]:
    return [
        LayerHealth(
            epoch=epoch, layer=name, gradient_norm=norm, gradient_peak=norm, activation_rms=rms, dead_share=dead
        )
        for name, norm in norms.items()
    ]


def test_the_norm_of_a_layer_is_over_all_its_variables_and_the_median_over_steps() -> None:
    steps = [np.array([3.0, 4.0, 1.0]), np.array([3.0, 4.0, 1.0]), np.array([300.0, 400.0, 7.0])]
    first, second = gradient_health(2, ["conv", "conv", "norm"], steps)
    assert (first.layer, first.gradient_norm, second.layer, second.gradient_norm) == ("conv", 5.0, "norm", 1.0)
    assert first.gradient_peak == 500.0


def test_a_layer_that_grows_by_orders_explodes_and_is_named_alone() -> None:
    calm = _epoch(1, {"a": 1.0, "b": 1.0, "c": 1.0})
    found = alarms([*calm, *_epoch(2, {"a": 2.0, "b": 500.0, "c": 1.0})])
    assert found == ["epoch 2: gradients explode: b (5e+02)"]


def test_growth_from_nearly_nothing_is_no_explosion() -> None:
    calm = _epoch(1, {"a": 1e-9, "b": 1.0, "c": 1.0})
    assert alarms([*calm, *_epoch(2, {"a": 5.0, "b": 3.0, "c": 1.0})]) == []
    assert alarms([*_epoch(1, {"a": 1e-4}), *_epoch(2, {"a": 0.5})]) == [], "short gradients explode nowhere"


def test_only_the_last_epoch_is_looked_at() -> None:
    rows = [*_epoch(1, {"a": 1.0}), *_epoch(2, {"a": 500.0}), *_epoch(3, {"a": 1.0})]
    assert alarms(rows[:2]) and not alarms(rows)


@pytest.mark.parametrize(("dead", "alarmed"), [(0.5, False), (0.95, True)])
def test_a_layer_whose_channels_never_change_is_dead(dead: float, alarmed: bool) -> None:
    found = alarms([*_epoch(1, {"a": 1.0, "b": 1.0}), *_epoch(1, {"c": 1.0}, dead=dead)])
    assert (found == ["epoch 1: dead: c (95% of its channels never change)"]) == alarmed


def test_activations_of_another_order_than_the_other_layers_explode_at_once() -> None:
    found = alarms([*_epoch(1, {"a": 1.0, "b": 1.0, "c": 1.0}), *_epoch(1, {"d": 1.0}, rms=5e4)])
    assert found == ["epoch 1: activations explode: d (5e+04)"]
    assert alarms([*_epoch(1, {"a": 1.0}), *_epoch(2, {"a": 1.0}, rms=300.0)]), "or than they were"


def test_layers_that_still_speak_do_not_explode_where_most_are_silent() -> None:
    rows = [*_epoch(1, {"a": 1.0, "b": 1.0}, rms=0.0, dead=1.0), *_epoch(1, {"c": 1.0})]
    assert [text.split(":")[1] for text in alarms(rows)] == [" dead"]


def test_many_layers_are_counted() -> None:
    found = alarms(_epoch(1, dict.fromkeys("abcde", 1.0), dead=1.0))
    assert "and 2 more" in found[0]


def test_what_is_known_of_a_layer_becomes_one_line() -> None:
    gradient = LayerHealth(epoch=1, layer="a", gradient_norm=2.0)
    activation = LayerHealth(epoch=1, layer="a", dead_share=0.5)
    assert merged([gradient], [activation]) == [LayerHealth(epoch=1, layer="a", gradient_norm=2.0, dead_share=0.5)]


def test_a_long_epoch_is_sampled() -> None:
    assert sampled(10) == 1 and sampled(6400) == 100
