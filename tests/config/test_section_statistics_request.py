from __future__ import annotations

from edc_ray.config.load import load_recipe
from edc_ray.config.run import RunConfig
from edc_ray.config.section import StatisticsRequest
from edc_ray.config.stages import RelabelConfig


def test_recover_asks_for_what_it_matches() -> None:
    config = load_recipe("digits", ["recover.observers=[wrn_16_2]", "recover.layers=[bn]"])
    assert config.statistics_request == StatisticsRequest(
        ("wrn_16_2",), frozenset({"bn"}), frozenset({"pooled"}), by_class=True
    )


def test_without_recovery_no_observer_is_measured() -> None:
    assert load_recipe("digits", ["recover.enabled=false"]).statistics_request.observers == ()


def test_running_estimates_suffice_only_where_nothing_else_is_asked_for() -> None:
    estimates = StatisticsRequest(("a",), frozenset({"bn"}), frozenset({"official"}))
    assert estimates.needs_no_images
    for other in (
        StatisticsRequest(layers=frozenset({"conv"})),
        StatisticsRequest(definitions=frozenset({"pooled"})),
        StatisticsRequest(by_class=True),
    ):
        assert not (estimates | other).needs_no_images


class _AskingRelabel(RelabelConfig):
    def statistics_request(self, all_observers: tuple[str, ...]) -> StatisticsRequest:
        return StatisticsRequest(all_observers, frozenset({"conv"}), frozenset({"official"}))


def test_statistics_are_asked_for_by_any_stage_and_all_requests_are_joined() -> None:
    config = load_recipe("digits", ["recover.observers=[wrn_16_2]", "recover.layers=[bn]"])
    asking: RunConfig = config.model_copy(update={"relabel": _AskingRelabel()})
    request = asking.statistics_request
    assert request.observers == ("wrn_16_2", "convnet_w32")
    assert request.layers == {"bn", "conv"}
    assert request.definitions == {"pooled", "official"}
    assert request.by_class
