"""The card says what edc_ray.json knows, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from edc_ray.sharing.card import card_rows, dataset_card


def student(row: str, seed: int, top1: float) -> dict[str, Any]:
    return {"row": row, "ipc": 2, "student": "net", "seed": seed, "top1": top1, "top5": 100.0}


def facts(**changed: Any) -> dict[str, Any]:
    results = {
        "students": [student(row, n, 50.0 + 2 * n) for row in ("condensed", "random") for n in (0, 1)],
        "full_cited": 69.5, "hardware": "two cores",
    }  # fmt: skip
    return {
        "format": "huggingface", "license": "cc-by-4.0", "exported_by": "edc-ray 1", "seed": 3,
        "method": "sre2l",
        "dataset": {"name": "pets: all", "class_names": ["cat", "dog"]},
        "images": {"number": 4, "ipc": 2, "size": 8, "channels": 3, "whole": True},
        "labels": {"epochs": 7, "codec": "q8"}, "config": None,
        "data": {"train": {"images": 90, "sha256": "feed"}},
        "observers": {"convnet": {"sha256": "beef", "top1": 81.234}},
        "made_by": {"recover": {"commit": "abc", "torch": "9", "hardware": "two cores"}},
        "results": results,
        "files": {
            "data/a.parquet": {"bytes": 10, "sha256": "0"}, "data/b.parquet": {"bytes": 5, "sha256": "1"},
            "manifest.json": {"bytes": 1, "sha256": "2"},
        },
    } | changed  # fmt: skip


def front(card: str) -> dict[str, Any]:
    _, text, _ = card.split("---\n", 2)
    return yaml.safe_load(text)


def test_the_metadata_are_what_hugging_face_reads() -> None:
    stated = front(dataset_card(facts()))
    assert stated["license"] == "cc-by-4.0"
    assert stated["pretty_name"] == "pets: all, condensed to 2 images per class"
    one = facts(images=facts()["images"] | {"ipc": 1})
    assert front(dataset_card(one))["pretty_name"] == "pets: all, condensed to 1 image per class"
    assert stated["tags"] == ["dataset-distillation", "dataset-condensation", "ipc-2"]
    assert stated["size_categories"] == ["n<1K"]
    assert [one["config_name"] for one in stated["configs"]] == ["images", "labels"]
    assert stated["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    other = front(
        dataset_card(facts(files=facts()["files"] | {"data/a.parquet": {"bytes": 10, "sha256": "9"}}))
    )
    described = [one["configs"][0]["description"] for one in (stated, front(dataset_card(facts())), other)]
    assert described[0] == described[1] != described[2]
    assert [one["config_name"] for one in front(dataset_card(facts(labels=None)))["configs"]] == ["images"]
    assert "configs" not in front(dataset_card(facts(format="imagefolder")))


def test_it_says_why_labels_are_left_out() -> None:
    with_reason = dataset_card(facts(labels=None, labels_left_out="--image-format jpeg"))
    assert "are not part of this copy: they belong to all images of the set, exactly as" in with_reason
    assert "are not part of this copy.\n" in dataset_card(facts(labels=None))


@pytest.mark.parametrize(
    ("number", "words"), [(999, "n<1K"), (1000, "1K<n<10K"), (50_000, "10K<n<100K"), (10**6, "n>1M")]
)
def test_the_size_has_its_name(number: int, words: str) -> None:
    images = facts()["images"] | {"number": number}
    assert front(dataset_card(facts(images=images)))["size_categories"] == [words]


def test_the_table_has_control_rows_numbers_and_hardware() -> None:
    card = dataset_card(facts())
    assert [row.row for row in card_rows(facts())] == ["condensed", "random", "full"]
    assert "| condensed | 2 | net | 2 | 51.00 ± 1.41 | 100.00 |" in card
    assert "| full | - | net | cited | 69.50 |" in card
    assert "Hardware: two cores." in card
    assert "No student was trained" in dataset_card(facts(results=None))


def test_hashes_sizes_citations_and_ways_to_load_stand_there() -> None:
    card = dataset_card(facts())
    for words in (
        "weights sha256 `beef`, top-1 81.23%", "content hash `feed`", "commit abc", "| data/ | 15 |",
        "| together | 16 |", 'load_dataset(NAME, "images"', "CondensedImages(URL)", "2404.13733",
        "2306.13092", "## Limitations",
    ):  # fmt: skip
        assert words in card
    assert "ImageFolder(" in dataset_card(facts(format="imagefolder"))
    tars = {f"data-{number:06d}.tar": {"bytes": 1, "sha256": "0"} for number in range(3)}
    assert "data-{000000..000002}.tar" in dataset_card(facts(format="webdataset", files=tars))


def test_ways_to_load_labels_stand_there_where_there_are_labels() -> None:
    card, without = dataset_card(facts()), dataset_card(facts(labels=None))
    for words in (
        'load_dataset(NAME, "labels", split="train")', "CondensedViews(URL)", "A row of `labels` is one view",
        "crop, flip and mixing parameters, and its logits", "edc-ray decodes other codecs than fp16",
    ):  # fmt: skip
        assert words in card
        assert words not in without


def test_a_part_of_a_set_says_so() -> None:
    images = facts()["images"] | {"whole": False}
    assert "the first part of a larger one" in dataset_card(facts(images=images))
    assert "the first part of a larger one" not in dataset_card(facts())
