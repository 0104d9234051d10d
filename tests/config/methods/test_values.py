from __future__ import annotations

from edc_ray.config.methods.values import MethodValues, defaults_of, with_values
from edc_ray.config.recipes import RECIPES

VALUES = MethodValues(
    {"recover.iterations": 1, "relabel.epochs": 2}, {"here": lambda ipc: {"relabel.epochs": 10 * ipc}}
)


def test_values_of_a_dataset_win_over_those_of_every_dataset() -> None:
    assert VALUES.of("here", 3) == {"recover.iterations": 1, "relabel.epochs": 30}
    assert VALUES.of("elsewhere", 3) == {"recover.iterations": 1, "relabel.epochs": 2}
    assert VALUES.fields() == {"recover.iterations", "relabel.epochs"}


def test_values_and_the_methods_name_are_set_in_a_copy() -> None:
    config = RECIPES["digits"]()
    other = with_values(config, "rded", {"recover.iterations": 77})
    assert (other.method, other.recover.iterations) == ("rded", 77)
    assert config == RECIPES["digits"]()


def test_a_field_without_default_is_left_out_of_the_defaults() -> None:
    config = RECIPES["digits"]()
    paths = {"squeeze.observers", "squeeze.weights", "recover.iterations"}
    assert defaults_of(config, paths) == {"squeeze.weights": {}, "recover.iterations": 1000}
