"""What a release may do to the config: fields come and move, and finished work is still found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edc_ray.config.history import (
    ABSENT_VALUES,
    MOVED_FIELDS,
    first_name,
    unstated,
    with_absent_values,
    with_names_of_now,
)
from edc_ray.config.load import field_paths, load_recipe, load_yaml, mapping_of, to_yaml
from edc_ray.errors import ConfigError
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.fingerprint import stage_fingerprint, stage_inputs

RUN_OF_F7D5578 = Path(__file__).parents[1] / "runs/run_of_f7d5578/run.yaml"
# Frozen: an absent value that was released never changes. New ones are added here and in ABSENT_VALUES.
RELEASED_ABSENT_VALUES = {
    "compile": "none",
    "dataset.image_column": None,
    "dataset.label_column": None,
    "dataset.repeated_names": "error",
    "dataset.transparency": "ignore",
    "dataset.on_bad_image": "error",
    "dataset.max_bad_images": 100,
    "dataset.decoder": "pillow",
}
NO_RESULT = ("run.", "storage.", "sweep.", "cluster.", "tracking.")


def _paths(tree: dict) -> set[str]:
    inner = {name: value for name, value in tree.items() if isinstance(value, dict)}
    return (tree.keys() - inner.keys()) | {
        f"{name}.{key}" for name, section in inner.items() for key in section
    }


def test_a_field_that_came_later_has_an_absent_value() -> None:
    known = {MOVED_FIELDS.get(path, path) for path in _paths(yaml.safe_load(RUN_OF_F7D5578.read_text()))}
    later = {path for path in field_paths() if path not in known and not path.startswith(NO_RESULT)}
    assert later <= set(ABSENT_VALUES), (
        f"{sorted(later - set(ABSENT_VALUES))}: a new field needs its absent value in "
        "edc_ray/config/history.py: what every run did before there was the field. It may be the default"
    )
    gone = {path for path in known if path not in field_paths()}
    assert not gone, f"{sorted(gone)}: a field that moves stays readable: add it to MOVED_FIELDS"


def test_absent_values_are_frozen() -> None:
    assert ABSENT_VALUES == RELEASED_ABSENT_VALUES, (
        "an absent value never changes once it is released: runs would pass for others. For a new field, "
        "add it to RELEASED_ABSENT_VALUES in this test too"
    )


def test_a_field_at_its_absent_value_is_in_no_fingerprint_and_another_value_is() -> None:
    for value, expected in (("none", False), ("default", True)):
        config = load_recipe("digits", [f"compile={value}"])
        assert all(("compile" in stage_inputs(config, stage)) == expected for stage in STAGES.values())


def test_the_default_of_a_later_field_is_in_the_fingerprint_where_it_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_recipe("digits")
    before = stage_fingerprint(config, STAGES["recover"])
    monkeypatch.setitem(ABSENT_VALUES, "recover.jitter", 0)
    at_absent = stage_fingerprint(config, STAGES["recover"])
    monkeypatch.setitem(ABSENT_VALUES, "recover.jitter", 3)
    assert stage_fingerprint(config, STAGES["recover"]) == before != at_absent


def test_what_a_stored_config_does_not_state_was_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABSENT_VALUES, "recover.jitter", 3)
    tree = mapping_of(to_yaml(load_recipe("digits")))
    assert unstated(tree) == {}
    del tree["recover"]["jitter"]
    assert unstated(tree) == {"recover.jitter": 3}
    assert with_absent_values(tree)["recover"]["jitter"] == 3
    text = yaml.safe_dump(tree)
    assert load_yaml(text, stored=True).recover.jitter == 3
    assert load_yaml(text).recover.jitter == 0


@pytest.mark.parametrize("old", MOVED_FIELDS)
def test_a_field_is_read_by_its_earlier_name_and_written_by_that_of_now(old: str) -> None:
    new = MOVED_FIELDS[old]
    section, _, name = old.rpartition(".")
    config = load_recipe("digits", [f"{old}=online"])
    assert config == load_recipe("digits", [f"{new}=online"]) != load_recipe("digits")
    tree = mapping_of(to_yaml(config))
    assert name not in tree[section]
    moved = {**tree, section: {**tree[section], name: tree[new.partition(".")[0]].pop(name)}}
    assert load_yaml(yaml.safe_dump(moved)) == config
    assert first_name(new) == old


def test_a_field_that_moved_to_an_earlier_stage_counts_from_its_first_one_on() -> None:
    one, other = load_recipe("digits"), load_recipe("digits", ["relabel.labels=online"])
    different = {n for n, s in STAGES.items() if stage_fingerprint(one, s) != stage_fingerprint(other, s)}
    assert different == {"evaluate"}
    assert "relabel.labels" not in stage_inputs(other, STAGES["evaluate"])


def test_of_two_names_of_one_field_that_of_now_counts() -> None:
    tree = {"evaluate": {"labels": "online", "seeds": 1}, "relabel": {"labels": "stored"}}
    assert with_names_of_now(tree) == {"evaluate": {"seeds": 1}, "relabel": {"labels": "stored"}}


@pytest.mark.parametrize("tree", [{"evaluate": 3}, {"relabel": 3, "evaluate": {"labels": "online"}}])
def test_a_section_that_is_none_is_refused_as_ever(tree: dict) -> None:
    with pytest.raises(ConfigError):
        load_yaml(yaml.safe_dump(tree))
    with pytest.raises(ConfigError):
        load_yaml(yaml.safe_dump(tree), stored=True)
