"""The card of a shared set: README.md with the metadata that Hugging Face reads.

`card.md.jinja` is its text. All its content comes from the facts of edc_ray.json (`sharing.export.run`), so
the same set has the same card.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edc_ray.config.methods.registry import citations
from edc_ray.digests import digest_of
from edc_ray.report.table import ResultRow, aggregate, results_table

Facts = Mapping[str, Any]

_TEXT = Path(__file__).with_name("card.md.jinja")
# Hugging Face's names for the size of a set.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"
_SHOWN = ("edc_ray", "commit", "torch", "torchvision", "hardware")


def dataset_card(about: Facts) -> str:
    """README.md of an export, from the facts of edc_ray.json with the files except this card."""
    environment = Environment(
        loader=FileSystemLoader(_TEXT.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # JSON is YAML, and needs no rules for quoting.
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["unwrapped"] = lambda text: text.strip("\n").replace("\n", " ")
    environment.filters["environment"] = lambda facts: ", ".join(
        f"{name} {facts[name]}" for name in _SHOWN if facts.get(name)
    )
    sizes = Counter[str]()
    for path, facts in about["files"].items():
        sizes[f"{path.partition('/')[0]}/" if "/" in path else path] += facts["bytes"]
    rows = card_rows(about)
    return environment.get_template(_TEXT.name).render(
        {"labels_left_out": None} | dict(about),
        stated=_front_matter(about),
        last_tar=sum(path.endswith(".tar") for path in about["files"]) - 1,
        rows=results_table(rows).to_markdown() if rows else "",
        sizes=sizes,
        citations=citations(about["method"]),
    )


def card_rows(about: Facts) -> list[ResultRow]:
    """Lines of the table of results; none if no student was trained."""
    results = about["results"]
    if results is None:
        return []
    rows = aggregate(results["students"])
    if results["full_cited"] is None:
        return rows
    students = dict.fromkeys(row.student for row in rows)
    return rows + [
        ResultRow("full", None, name, 0, results["full_cited"], None, None, "cited, not trained here")
        for name in students
    ]


def _front_matter(about: Facts) -> dict[str, Any]:
    images, ipc = about["images"], about["images"]["ipc"]
    each = f"{ipc} images per class" if ipc else f"{images['number']} images"
    each = "1 image per class" if ipc == 1 else each
    stated: dict[str, Any] = {
        "license": about["license"],
        "pretty_name": f"{about['dataset']['name']}, condensed to {each}",
        "tags": ["dataset-distillation", "dataset-condensation", *([f"ipc-{ipc}"] if ipc else [])],
        "task_categories": ["image-classification"],
        "size_categories": [next((word for most, word in _SIZES if images["number"] < most), _LARGEST)],
    }
    if about["format"] == "huggingface":
        images = _part(about, "images", "data/", "train-*.parquet") | {"default": True}
        labels = _part(about, "labels", "labels/", "*.parquet")
        stated["configs"] = [images, labels] if about["labels"] else [images]
    if about["format"] == "webdataset":  # else `datasets` takes the JSON files for a part of the set
        stated["configs"] = [_part(about, "images", "", "*.tar")]
    return stated


def _part(about: Facts, name: str, folder: str, files: str) -> dict[str, Any]:
    hashes = {path: facts["sha256"] for path, facts in about["files"].items() if path.startswith(folder)}
    return {
        "config_name": name,
        # `datasets` finds a set in its cache by the name of its folder and this entry. Without the hash it
        # would give the images of another set that lay in a folder of the same name.
        "description": f"content {digest_of(hashes)}",
        "data_files": [{"split": "train", "path": folder + files}],
    }
