from __future__ import annotations

from typing import Any

import pytest

from edc_ray.config.load import load_recipe, load_yaml, to_yaml, with_fields
from edc_ray.config.stages import WeightsFile
from edc_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("squeeze.observers", []),
        ("squeeze.epochs", 0),
        ("squeeze.epochs", -1),
        ("squeeze.save", "mod5"),
        ("squeeze.weights", {"wrn_16_2": "timm"}),
        ("squeeze.weights", {"wrn_16_2": {"url": "file.pth", "sha256": "abc"}}),
        ("squeeze.weights", {"wrn_16_2": {"url": "file.pth"}}),
        ("squeeze.weights", {"resnet18": "torchvision"}),
        ("squeeze.head_classes", [0, -1]),
        ("squeeze.head_classes", [3, 3]),
        ("squeeze.batch_size", 1),
        ("squeeze.learning_rate", 0.0),
        ("squeeze.momentum", 1.0),
        ("squeeze.schedule", "cosine"),
        ("statistics.patch_side", 0),
        ("init.kind", "mosaics"),
        ("init.factor", 0),
        ("recover.iterations", 0),
        ("recover.layers", []),
        ("recover.layers", ["linear"]),
        ("recover.drop_rate", 1.0),
        ("recover.statistic_momentum", -0.1),
        ("recover.matching_weight", -1.0),
        ("recover.jpeg_quality", 101),
        ("relabel.mix", "cut"),
        ("relabel.mix_group", 0),
        ("evaluate.rows", ["condensd"]),
        ("evaluate.students", []),
        ("evaluate.seeds", 0),
        ("evaluate.full_accuracy", 101.0),
        ("sweep.search", "bayes"),
    ],
)
def test_values_that_a_stage_cannot_use_are_refused_with_the_name_of_the_field(
    field: str, value: Any
) -> None:
    with pytest.raises(ConfigError, match=field):
        with_fields(load_recipe("digits"), {field: value})


@pytest.mark.parametrize("section", ["squeeze", "statistics", "init", "recover", "relabel"])
@pytest.mark.parametrize("scale", [[1.0, 0.5], [0.0, 1.0], [0.5, 1.1], [0.5], 0.5])
def test_a_crop_scale_that_is_no_range_of_shares_is_refused(section: str, scale: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.crop_scale"):
        with_fields(load_recipe("digits"), {f"{section}.crop_scale": scale})


@pytest.mark.parametrize("betas", [[0.5, 1.0], [-0.1, 0.9], [0.5]])
def test_betas_outside_of_0_to_1_are_refused(betas: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"recover\.betas"):
        with_fields(load_recipe("digits"), {"recover.betas": betas})


def test_a_crop_scale_of_one_size_is_accepted() -> None:
    assert load_recipe("digits", ["relabel.crop_scale=[1,1]"]).relabel.crop_scale == (1.0, 1.0)


def test_weights_with_a_password_or_a_signature_in_their_url_are_refused_without_showing_it() -> None:
    for url in ("https://me:secret@host/w.pth", "https://host/w.pth?Signature=secret"):
        with pytest.raises(ConfigError, match="a URL holds a password") as caught:
            with_fields(
                load_recipe("digits"), {"squeeze.weights": {"wrn_16_2": {"url": url, "sha256": "0" * 64}}}
            )
        assert "secret" not in str(caught.value)


def test_one_observers_weights_are_given_by_an_override_and_survive_yaml() -> None:
    sha = "ab" * 32
    overrides = [
        "squeeze.weights.wrn_16_2=torchvision",
        f"squeeze.weights.convnet_w32={{url: w.pth, sha256: {sha}}}",
    ]
    config = load_recipe("digits", overrides)
    assert config.squeeze.weights == {
        "wrn_16_2": "torchvision",
        "convnet_w32": WeightsFile(url="w.pth", sha256=sha),
    }
    assert load_yaml(to_yaml(config)) == config


def test_no_training_needs_weights_for_every_observer() -> None:
    fields = {"squeeze.epochs": 0, "squeeze.weights": {"wrn_16_2": "torchvision"}}
    with pytest.raises(ConfigError, match=r"none for \['convnet_w32'\]"):
        with_fields(load_recipe("digits"), fields)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("squeeze.observers", ["wrn_16_2", "convnet_w32", "wrn_16_2"]),
        ("evaluate.students", ["convnet_d1", "convnet_d1"]),
        ("evaluate.rows", ["condensed", "condensed"]),
    ],
)
def test_what_is_made_once_is_not_named_twice(field: str, names: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"{field}(.|\n)*{names[-1]} is there again"):
        with_fields(load_recipe("digits"), {field: names})
