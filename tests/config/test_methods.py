from __future__ import annotations

import pytest

from edc_ray.config.methods import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig

EVERY = [(recipe, method) for recipe in RECIPES for method in METHODS]


def changed(before: RunConfig, after: RunConfig) -> set[str]:
    names = set()
    for section, fields in after.model_dump().items():
        old = before.model_dump()[section]
        if isinstance(fields, dict):
            names |= {f"{section}.{name}" for name, value in fields.items() if value != old[name]}
        elif fields != old:
            names.add(section)
    return names


@pytest.mark.parametrize(("recipe", "method"), EVERY)
def test_a_method_gives_a_valid_config_of_its_name_and_leaves_its_argument_alone(
    recipe: str, method: str
) -> None:
    config = RECIPES[recipe]()
    result = METHODS[method](config)
    assert config == RECIPES[recipe]()
    assert result.method == method
    assert RunConfig.model_validate(result.model_dump()) == result  # model_copy validates nothing


@pytest.mark.parametrize(("recipe", "method"), EVERY)
def test_a_method_applied_twice_is_the_method_applied_once(recipe: str, method: str) -> None:
    once = METHODS[method](RECIPES[recipe]())
    assert METHODS[method](once) == once


@pytest.mark.parametrize(("recipe", "method"), EVERY)
def test_a_method_leaves_data_budget_and_cluster_alone(recipe: str, method: str) -> None:
    config = RECIPES[recipe]()
    sections = {name.split(".")[0] for name in changed(config, METHODS[method](config))}
    assert sections <= {"method", "init", "recover", "relabel", "evaluate"}
    kept = ("recover.iterations", "relabel.epochs", "evaluate.students", "evaluate.batch_size", "ipc")
    assert not changed(config, METHODS[method](config)) & set(kept)


def test_edc_after_edc_official_is_edc() -> None:
    digits = RECIPES["digits"]()
    assert METHODS["edc"](METHODS["edc_official"](digits)) == METHODS["edc"](digits)


def test_edc_after_rded_recovers_from_mosaics_in_its_own_order() -> None:
    config = METHODS["edc"](METHODS["rded"](RECIPES["digits"]()))
    assert (config.recover.enabled, config.init.mosaic_order, config.evaluate.loss) == (True, "edc", "mse_ce")


def test_edc_official_differs_from_edc_only_in_the_stated_deviations() -> None:
    digits = RECIPES["digits"]()
    assert changed(METHODS["edc"](digits), METHODS["edc_official"](digits)) == {
        "method", "init.replacement", "recover.estimate_start", "recover.variance", "recover.order",
        "recover.carry", "recover.image_rounding", "recover.verifier_touches_estimate",
    }  # fmt: skip


def test_rded_recovers_nothing_and_trains_students_on_temperature_20() -> None:
    config = METHODS["rded"](RECIPES["cifar10"]())
    assert not config.recover.enabled
    assert (config.init.kind, config.init.mosaic_order) == ("mosaic", "rded")
    assert (config.evaluate.loss, config.evaluate.temperature) == ("kl", 20.0)
