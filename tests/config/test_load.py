from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from edc_ray.config.load import (
    deviations_from_method,
    field_paths,
    load_recipe,
    load_yaml,
    to_yaml,
    with_fields,
)
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,8}\Z")
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "ipc": st.integers(1, 10**6),
        "run.name": NAMES,
        "dataset.name": NAMES,
        "dataset.val": st.none() | st.text(max_size=8),
        "dataset.class_names": st.none() | st.lists(st.text(max_size=4), max_size=3),
        "recover.learning_rate": st.floats(1e-300, 1e300),
        "recover.class_weight": st.floats(0, 1e6),
        "storage.options": st.dictionaries(
            st.sampled_from(["anon", "region"]), st.booleans() | st.integers() | st.text(max_size=5)
        ),
        "sweep.space": st.dictionaries(st.just("seed"), st.lists(st.integers() | st.text(max_size=3))),
    },
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_yaml_of_every_recipe_and_method_is_read_back_as_the_same_config(recipe: str, method: str) -> None:
    config = load_recipe(recipe, [f"method={method}"])
    assert config == METHODS[method](RECIPES[recipe]())
    assert load_yaml(to_yaml(config)) == config


@given(FIELDS)
@example({"run.name": "0E0"})
def test_yaml_of_any_fields_is_read_back_as_the_same_config(fields: dict[str, Any]) -> None:
    config = with_fields(RECIPES["digits"](), fields)
    assert load_yaml(to_yaml(config)) == config


@given(st.sampled_from(field_paths()))
def test_overriding_a_field_with_its_own_value_changes_nothing(path: str) -> None:
    config = RECIPES["digits"]()
    value: Any = config.model_dump(mode="json")
    for part in path.split("."):
        value = value[part]
    assert load_recipe("digits", [f"{path}={json.dumps(value)}"]) == config


def test_an_override_takes_yaml_values_and_the_last_of_two_wins() -> None:
    config = load_recipe("digits", ["ipc=2", "squeeze.observers=[wrn_16_2]", "init.factor=3", "ipc=5"])
    assert (config.ipc, config.squeeze.observers, config.init.factor) == (5, ("wrn_16_2",), 3)
    assert load_recipe("digits", ["recover.learning_rate=1e-3"]).recover.learning_rate == 0.001


def test_a_method_is_applied_before_the_overrides_wherever_it_stands() -> None:
    first = load_recipe("digits", ["method=rded", "evaluate.temperature=4"])
    last = load_recipe("digits", ["evaluate.temperature=4", "method=rded"])
    assert first == last
    assert (first.evaluate.temperature, first.recover.enabled) == (4.0, False)


def test_setting_the_method_as_a_field_applies_it_and_not_its_name_alone() -> None:
    assert with_fields(RECIPES["digits"](), {"method": "rded"}) == METHODS["rded"](RECIPES["digits"]())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["recover.learning_rat=1"],
            r"unknown field 'recover.learning_rat'. Did you mean 'recover.learning_rate'\?",
        ),
        (["learning_rate=1"], r"unknown field 'learning_rate'. Did you mean '\w+.learning_rate'\?"),
        (["recovr.iterations=1"], r"Did you mean 'recover.iterations'\?"),
        (["statistics.class_patch_swapped=true"], r"Did you mean 'recover.class_patch_swapped'\?"),
        (["recover=3"], r"'recover' is a section"),
        (["ipc.x=3"], r"unknown field 'ipc.x'"),
        (["method=edc_offical"], r"unknown method 'edc_offical'. Did you mean 'edc_official'\?"),
        (["method=[edc]"], r"unknown method"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("digits", overrides)


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'cifar1'. Did you mean 'cifar10'\?") as caught:
        load_recipe("cifar1")
    assert caught.value.expected == ", ".join(RECIPES)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("zzzz")
    assert "Did you mean" not in str(caught.value)


def test_a_yaml_file_with_an_unknown_field_or_method_is_answered_with_the_nearest() -> None:
    text = to_yaml(RECIPES["digits"]())
    with pytest.raises(ConfigError, match=r"'recover.iteration'. Did you mean 'recover.iterations'\?"):
        load_yaml(text.replace("  iterations: 200", "  iteration: 200"))
    with pytest.raises(ConfigError, match=r"unknown method 'rdedd'. Did you mean 'rded'\?"):
        load_yaml(text.replace("method: edc", "method: rdedd"))


@pytest.mark.parametrize(
    ("override", "field", "found"),
    [
        ("ipc=0", "ipc", "0"),
        ("ipc=many", "ipc", "'many'"),
        ("ipc=2.5", "ipc", "2.5"),
        ("ipc=", "ipc", "None"),
        ("seed=-1", "seed", "-1"),
        ("ipc=true", "ipc", "True"),
        ("recover.learning_rate=yes", r"recover\.learning_rate", "'yes'"),
        ("cluster.num_actors=false", r"cluster\.num_actors", "False"),
        ("dataset.channels=true", r"dataset\.channels", "True"),
        ("dataset.mean=[true]", r"dataset\.mean", "[True]"),
        ("recover.iterations=[1]", r"recover\.iterations", "[1]"),
        ("recover.learning_rate=.nan", r"recover\.learning_rate", "nan"),
        ("squeeze.observers={a: 1}", r"squeeze\.observers", "{'a': 1}"),
        ("recover.enabled=maybe", r"recover\.enabled", "'maybe'"),
        ("device=tpu", "device", "'tpu'"),
        ("run.name=a/b", r"run\.name", "'a/b'"),
    ],
)
def test_a_value_of_the_wrong_type_names_its_field_and_what_was_found(
    override: str, field: str, found: str
) -> None:
    with pytest.raises(ConfigError, match=f"config field '{field}' cannot be used") as caught:
        load_recipe("digits", [override])
    assert caught.value.found == found
    assert caught.value.expected


def test_several_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)ipc: .*recover\.iterations: "):
        load_recipe("digits", ["ipc=0", "recover.iterations=0"])


@pytest.mark.parametrize("text", ["ipc", "=3", "ipc:3", ""])
def test_an_override_that_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)is not understood.*=(value|VALUE)"):
        load_recipe("digits", [text])


@pytest.mark.parametrize("text", ["https://host/x?sig=hidden: [", "https://me:hidden@host/x"])
def test_an_override_that_is_not_understood_shows_no_secret(text: str) -> None:
    for override in (f"dataset.train={text}", text):
        with pytest.raises(ConfigError) as caught:
            load_recipe("digits", [override])
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", ["[1", "{a", "a: b: c"])
def test_an_override_whose_value_is_not_yaml_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"value of override 'recover\.iterations' is not YAML"):
        load_recipe("digits", [f"recover.iterations={value}"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "file.yaml is not YAML"),
        ("day: 2024-13-45", "unknown field 'day'"),
        ("!!python/object/apply:os.getcwd []", "file.yaml is not YAML"),
        ("", "file.yaml holds no config"),
        ("- 1", "file.yaml holds no config"),
        ("ipc: 3", "dataset: Field required"),
        ("squeez: {epochs: 1}", "Did you mean 'squeeze'"),
    ],
)
def test_a_text_that_holds_no_config_is_refused_with_its_source(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_yaml(text, source="file.yaml")


def test_a_field_of_the_search_space_is_set_by_its_own_name() -> None:
    config = load_recipe("digits", ["sweep.space.recover.iterations=[1,2]", "sweep.space.seed=[0]"])
    assert config.sweep.space == {"recover.iterations": [1, 2], "seed": [0]}


def test_a_storage_option_inside_another_is_set_there_beside_its_neighbours() -> None:
    inner = ["storage.options.client_kwargs.region_name=x", "storage.options.client_kwargs.use.ssl=true"]
    config = load_recipe("digits", ["storage.options={anon: true, client_kwargs: {verify: false}}", *inner])
    kwargs = {"verify": False, "region_name": "x", "use": {"ssl": True}}
    assert config.storage.options == {"anon": True, "client_kwargs": kwargs}
    assert load_yaml(to_yaml(config)) == config
    replaced = load_recipe("digits", ["storage.options.a=1", "storage.options.a.b=2"])
    assert replaced.storage.options == {"a": {"b": 2}}


def test_field_paths_name_every_field_of_every_section_once() -> None:
    paths = field_paths()
    tree = RECIPES["digits"]().model_dump()
    expected = [
        f"{name}.{field}" if isinstance(value, dict) else name
        for name, value in tree.items()
        for field in (value if isinstance(value, dict) else [name])
    ]
    assert paths == expected
    assert len(set(paths)) == len(paths)


def test_an_observer_that_is_not_trained_is_refused_with_the_stage_that_asks_for_it() -> None:
    with pytest.raises(ConfigError, match=r"relabel.observers names \['resnet18'\]"):
        load_recipe("digits", ["relabel.observers=[resnet18]"])
    assert isinstance(load_recipe("digits", ["relabel.observers=[wrn_16_2]"]), RunConfig)


def test_a_number_with_an_exponent_and_no_point_is_a_number():
    config = load_recipe("digits", ["sweep.space.recover.learning_rate={loguniform: [1e-3, 1E-1]}"])
    assert config.sweep.space == {"recover.learning_rate": {"loguniform": [0.001, 0.1]}}


def test_a_file_that_states_a_method_and_little_else_has_the_methods_values() -> None:
    text = """
    method: rded
    dataset: {train: "sklearn:digits"}
    squeeze: {observers: [convnet_w32]}
    evaluate: {students: [convnet_w32], temperature: 4}
    """
    config = load_yaml(text)
    assert config.recover.enabled is False
    assert config.init.mosaic_order == "rded"
    assert config.evaluate.loss == "kl"
    assert config.evaluate.temperature == 4


def test_a_file_of_a_whole_config_is_taken_as_it_stands() -> None:
    config = load_recipe("digits", ["method=rded", "recover.enabled=true"])
    assert load_yaml(to_yaml(config)) == config
    edited = to_yaml(load_recipe("digits")).replace("method: edc", "method: rded")
    assert load_yaml(edited).recover.enabled is True


def test_a_method_sees_the_ipc_that_is_given_beside_it() -> None:
    file = to_yaml(load_recipe("cifar10"))
    assert load_yaml(file, ["ipc=50", "method=rded"]) == load_recipe("cifar10", ["method=rded", "ipc=50"])


def test_fields_that_leave_their_method_are_named_with_both_values() -> None:
    for recipe in RECIPES:
        assert deviations_from_method(load_recipe(recipe)) == {}
    changed = load_recipe("digits", ["method=rded", "recover.enabled=true", "recover.iterations=7"])
    assert deviations_from_method(changed) == {
        "recover.enabled": (True, False), "recover.iterations": (7, 200),
    }  # fmt: skip


def test_a_value_that_is_no_choice_is_answered_with_the_nearest() -> None:
    for field, wrong, near in (
        ("loss", "mse", "mse_ce"),
        ("schedule", "cosine", "cos"),
        ("epoch_reuse", "in_turns", "in_turn"),
    ):
        with pytest.raises(ConfigError, match=rf"evaluate\.{field}") as caught:
            load_recipe("digits", [f"evaluate.{field}={wrong}"])
        assert caught.value.next == f"did you mean '{near}'?"
    with pytest.raises(ConfigError, match=r"recover\.order") as caught:
        load_recipe("digits", ["recover.order=zzz"])
    assert caught.value.next is None


LOCAL = "recover.category_aware=local"


@pytest.mark.parametrize(
    ("recipe", "overrides", "weights"),
    [
        ("imagenet1k", ["method=edc_official", LOCAL], (0.0, 1.0)),
        ("imagenet1k", [LOCAL, "recover.global_weight=0.3", "method=edc_official"], (0.3, 1.0)),
        ("imagenet1k", ["method=edc_official"], (0.5, 0.5)),
        ("imagenet1k", [LOCAL], (0.5, 0.5)),
        ("imagenet10", ["method=edc_official", LOCAL], (0.5, 0.5)),
    ],
)
def test_only_the_official_imagenet1k_leaves_the_whole_set_out_in_local_mode(
    recipe: str, overrides: list[str], weights: tuple[float, float]
) -> None:
    config = load_recipe(recipe, overrides)
    assert (config.recover.global_weight, config.recover.class_weight) == weights
    assert load_yaml(to_yaml(config)) == config
    # A file that states no weights gets them by the same rule.
    tree = config.model_dump(mode="json")
    stated = "recover.global_weight=0.3" in overrides
    del tree["recover"]["class_weight"], tree["recover"]["global_weight"]
    if stated:
        tree["recover"]["global_weight"] = 0.3
    assert load_yaml(yaml.safe_dump(tree)) == config


def test_weights_given_earlier_stand_when_local_mode_is_said_again() -> None:
    config = load_recipe("imagenet1k", ["method=edc_official", LOCAL, "recover.global_weight=0.3"])
    assert with_fields(config, {"recover.category_aware": "local"}) == config


def test_a_weight_that_was_set_before_local_mode_stands() -> None:
    config = load_recipe("imagenet1k", ["method=edc_official", "recover.global_weight=0.3"])
    local = with_fields(config, {"recover.category_aware": "local"}).recover
    assert (local.global_weight, local.class_weight) == (0.3, 1.0)


def test_a_file_without_observers_has_those_of_its_method_for_its_dataset() -> None:
    whole = load_recipe("imagenet1k")
    tree = {"dataset": whole.dataset.model_dump(mode="json"), "evaluate": {"students": ["resnet18"]}}
    config = load_yaml(yaml.safe_dump(tree))
    assert config.squeeze == whole.squeeze
    few = load_yaml(yaml.safe_dump(tree | {"squeeze": {"batch_size": 7}}))
    assert few.squeeze == whole.squeeze.model_copy(update={"batch_size": 7})


@pytest.mark.parametrize(
    ("dataset", "like"),
    [
        ({"name": "mine"}, "cifar10"),
        ({"name": "mine", "image_size": 224}, "imagenet10"),
        ({"name": "digits"}, "digits"),
        ({}, "cifar10"),
    ],
)
def test_a_file_with_a_dataset_alone_has_the_networks_of_the_nearest_recipe(
    dataset: dict[str, Any], like: str
) -> None:
    config = load_yaml(yaml.safe_dump({"method": "edc", "dataset": {**dataset, "train": "/images"}}))
    expected = load_recipe(like)
    assert config.squeeze.observers == expected.squeeze.observers
    assert config.evaluate.students == expected.evaluate.students


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ("torchvison", "'torchvison'"),
        ("7", "int"),
        ("https://u:secret@host/w", "str"),
        ("{url: w, sha256: ff}", "sha256: String should match"),
        ("{url: w}", "sha256: Field required"),
    ],
)
def test_weights_of_no_form_are_answered_with_all_forms(weights: str, found: str) -> None:
    with pytest.raises(ConfigError, match=r"squeeze\.weights\.convnet_w32") as caught:
        load_recipe("digits", [f"squeeze.weights.convnet_w32={weights}"])
    assert str(caught.value.found).startswith(found)
    assert "torchvision:LABEL, package, or {url" in str(caught.value.expected)
    assert (caught.value.next == "did you mean 'torchvision'?") == (weights == "torchvison")
    assert "secret" not in str(caught.value)
