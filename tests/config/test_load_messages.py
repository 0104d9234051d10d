"""What a config that cannot be used is told: the field, in the words of a config file, and what to do."""

from __future__ import annotations

import pytest

from edc_ray.config.load import load_recipe, load_yaml
from edc_ray.errors import ConfigError

DATASET = "dataset: {name: cifar10}\n"


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("METHOD: rded", "Did you mean 'method'?"),
        ("method: RDED", "Did you mean 'rded'?"),
        ("method: no", "expected: cda, edc, "),
        ("recover.iterations: 5", "below its section: {recover: {iterations: ...}}"),
        ("zzz: 5", "next:     edc-ray show-config RECIPE shows all fields"),
        ("squeeze: 5", "'squeeze' cannot be used\n  found:    5\n  expected: Input should be a section"),
        ("storage: /data", "with fields such as root, options"),
        ("squeeze: {observers: {a: b}}", "Input should be a list"),
        ("squeeze: {observers: []}", "Input should have at least 1 item, not 0"),
        ("squeeze: {crop_scale: 0.5}", "found:    [0.5]\n  expected: Input should have 2 values"),
        ("run: {name: a b}", "Input should be made of letters of ASCII, digits and . _ -"),
        ("ipc: 1\nipc: 2", "'ipc' stands twice, in lines 2 and 3"),
        ("recover: {iterations: 1, iterations: 1}", "'iterations' stands twice"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_told_by_its_field_and_what_it_wants(text: str, words: str) -> None:
    assert words in told(DATASET + text + "\n")


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("- a", "a list"), ("5", "5"), ("text", "'text'")]
)
def test_a_file_without_sections_is_told_what_it_holds(text: str, found: str) -> None:
    assert f"holds no config\n  found:    {found}\n  expected: sections" in told(text)


def test_a_section_whose_lines_are_all_comments_has_the_values_of_the_method() -> None:
    assert load_yaml(DATASET + "recover:\n  # iterations: 5\nrun:\n") == load_yaml(DATASET)


@pytest.mark.parametrize(
    "text", ["{rows: condensed}", "{rows: [condensed]}", "\n  rows: condensed", "{rows: 'condensed'}"]
)
def test_a_single_value_in_a_file_is_a_list_of_one(text: str) -> None:
    assert load_yaml(f"{DATASET}evaluate: {text}\n").evaluate.rows == ("condensed",)


def test_values_between_commas_are_a_list_in_a_file_and_on_the_command_line() -> None:
    of_file = load_yaml(DATASET + "evaluate:\n  rows: condensed, init\nsqueeze:\n  crop_scale: 0.1, 1\n")
    typed = load_recipe("cifar10", ["evaluate.rows=condensed,init", "squeeze.crop_scale=(0.1, 1)"])
    assert of_file.evaluate.rows == typed.evaluate.rows == ("condensed", "init")
    assert of_file.squeeze.crop_scale == typed.squeeze.crop_scale == (0.1, 1.0)
    weighed = load_recipe("digits", ["sweep.space.recover.matching_weight=0.1,0.5", "sweep.space.ipc=2"])
    assert weighed.sweep.space == {"recover.matching_weight": [0.1, 0.5], "ipc": [2]}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("run=five", "'run' is a section\n  expected: run.FIELD=VALUE with a field such as name"),
        ("squeeze.weights.convnet_w32.url=/a", "weights.convnet_w32.url' cannot be used\n  found:    '/a'\n"),
        ("squeeze.weights.my.mod:net={url: a}", "found:    sha256: Field required\n  expected: torchvision"),
        ("IPC=3", "Did you mean 'ipc'?"),
    ],
)
def test_a_mistake_in_a_word_is_told_by_its_field_and_what_it_wants(word: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("digits", [word])
    assert told in str(caught.value)


def test_a_word_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_recipe("digits", ["dataset.train=/data/\udcff"])


def test_lists_that_are_aliases_of_each_other_are_equal() -> None:
    config = load_yaml(DATASET + "squeeze: {observers: &one convnet_d1}\nevaluate: {students: *one}\n")
    assert config.squeeze.observers == config.evaluate.students == ("convnet_d1",)


@pytest.mark.parametrize("start", ["\ufeff", "# a comment\n", "---\n", "%YAML 1.1\n---\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_as_editors_write_them_are_read(start: str, end: str) -> None:
    text = "dataset:\n  name: cifar10\n  train: 'C:\\data #1'\nipc: 3\n"
    config = load_yaml((start + text).replace("\n", end))
    assert (config.ipc, config.dataset.train) == (3, "C:\\data #1")
