from __future__ import annotations

from typing import Any

import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.errors import ConfigError


def test_observers_of_a_stage_are_its_own_or_all_in_order() -> None:
    config = load_recipe("digits", ["relabel.observers=[wrn_16_2]"])
    assert config.observers_of("relabel") == ("wrn_16_2",)
    assert config.observers_of("recover") == ("convnet_w32", "wrn_16_2")


@pytest.mark.parametrize(
    "fields",
    [
        {"evaluate.loss": "mse_ce_flat", "evaluate.ema_decay": 0},
        {"recover.category_aware": "none", "recover.global_weight": 0},
    ],
)
def test_an_objective_that_cannot_be_computed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        with_fields(load_recipe("digits"), fields)


def test_initial_images_of_another_run_are_no_noise() -> None:
    with pytest.raises(ConfigError, match="init") as caught:
        load_recipe("digits", ["init.source=memory://a", "init.kind=noise"])
    assert "noise" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"relabel.source": "memory://a/run", "method": "rded"},
         r"relabel\.source(.|\n)*relabel\.labels=online(.|\n)*relabel\.labels=stored"),
        ({"statistics.source": "memory://a/run", "recover.enabled": False},
         r"statistics\.source(.|\n)*recover\.enabled=false"),
    ],
)  # fmt: skip
def test_a_source_that_no_stage_would_read_is_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        with_fields(load_recipe("digits"), fields)


def test_all_fields_that_name_observers_nobody_trains_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("imagenet1k", ["squeeze.observers=[resnet18]"])
    told = str(caught.value)
    for field in ("init.observers=null", "relabel.observers=null", "squeeze.weights={}"):
        assert field in told
    fields = ["init.observers=null", "relabel.observers=null", "squeeze.weights={resnet18: torchvision}"]
    assert load_recipe("imagenet1k", ["squeeze.observers=[resnet18]", *fields]).observers_of("relabel") == (
        "resnet18",
    )


def test_a_chain_without_ranks_to_follow_is_refused() -> None:
    chained = {"recover.carry": "chain"}
    for order in ("blocks", "ipc_major"):
        with pytest.raises(ConfigError, match=rf"recover\.order={order} has none"):
            with_fields(load_recipe("digits"), chained | {"recover.order": order})
    official = with_fields(load_recipe("digits"), chained | {"recover.order": "official"})
    assert official.recover.carry == "chain"
    assert with_fields(load_recipe("digits"), chained | {"recover.enabled": False}).recover.carry == "chain"
