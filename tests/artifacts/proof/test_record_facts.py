from __future__ import annotations

from typing import Any

import pytest

from edc_ray.artifacts.proof.record_facts import check_epochs, check_record_meta, check_stage_facts


@pytest.mark.parametrize(
    "meta",
    [
        {"epochs": [0, 10**18]},
        {"epochs": [3, 2]},
        {"epochs": [0.0, 1]},
        {"epochs": "01"},
        {"image_sha256": [[0, 0]]},
        {"image_sha256": [[0, 0, "a"], [0, 0, "b"]]},
        {"image_sha256": None},
    ],
)
def test_facts_of_a_unit_that_cannot_be_are_refused(meta: dict[str, Any]) -> None:
    check_record_meta({"epochs": [2, 2], "image_sha256": [[0, 0, "a"], [0, 1, "a"]], "else": object()})
    with pytest.raises(ValueError, match="of a unit"):
        check_record_meta(meta)


@pytest.mark.parametrize(
    ("meta", "dataset"), [({"mean": ["a"]}, {}), ({"std": [float("nan")]}, {}), ({}, {"class_names": [1]})]
)
def test_facts_of_a_stage_that_cannot_be_are_refused(meta: dict[str, Any], dataset: dict[str, Any]) -> None:
    check_stage_facts({"mean": [0.5]}, {"class_names": ["cat"]})
    with pytest.raises(ValueError, match=r"mean|std|class_names"):
        check_stage_facts(meta, dataset)


def test_units_that_share_an_epoch_are_refused() -> None:
    check_epochs([[2, 3], [0, 1]])
    with pytest.raises(ValueError, match="epoch 1 of two units"):
        check_epochs([[1, 3], [0, 1]])
