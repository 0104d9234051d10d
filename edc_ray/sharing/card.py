"""The card of a shared set: README.md with the metadata that Hugging Face reads.

All its content comes from the facts of edc_ray.json (`sharing.export.about`), so the same set has the same
card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edc_ray.config.methods.registry import citations
from edc_ray.report.table import ResultRow, aggregate, results_table

Facts = Mapping[str, Any]

# Hugging Face's names for the size of a set.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"
_WITHOUT_LABELS = ": they belong to all images of the set, exactly as these were labelled"


def dataset_card(about: Facts) -> str:
    """README.md of an export.

    Args:
        about: the facts of edc_ray.json, with its files except this card.
    """
    parts = [
        _front_matter(about), _title(about), _loading(about), _making(about), _results(about), _sizes(about),
        _limits(about), _citation(about),
    ]  # fmt: skip
    return "\n".join(part.strip("\n") + "\n" for part in parts)


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


def _front_matter(about: Facts) -> str:
    images = about["images"]
    number = images["number"]
    tags = ["dataset-distillation", "dataset-condensation"]
    tags += [f"ipc-{images['ipc']}"] if images["ipc"] else []
    stated: dict[str, Any] = {
        "license": about["license"],
        "pretty_name": _name(about),
        "tags": tags,
        "task_categories": ["image-classification"],
        "size_categories": [next((word for most, word in _SIZES if number < most), _LARGEST)],
    }
    if about["format"] == "huggingface":
        stated["configs"] = _configs(about)
    # JSON is YAML, and needs no rules for quoting.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in stated.items()]
    return "\n".join(["---", *lines, "---"])


def _configs(about: Facts) -> list[dict[str, Any]]:
    def config(name: str, path: str) -> dict[str, Any]:
        return {"config_name": name, "data_files": [{"split": "train", "path": path}]}

    images = config("images", "data/train-*.parquet") | {"default": True}
    return [images, config("labels", "labels/*.parquet")] if about["labels"] else [images]


def _name(about: Facts) -> str:
    images = about["images"]
    each = f"{images['ipc']} images per class" if images["ipc"] else f"{images['number']} images"
    each = "1 image per class" if images["ipc"] == 1 else each
    return f"{about['dataset']['name']}, condensed to {each}"


def _title(about: Facts) -> str:
    images = about["images"]
    names = about["dataset"]["class_names"]
    text = (
        f"# {_name(about)}\n\n{images['number']} images of {len(names)} classes, {images['size']}x"
        f"{images['size']} pixels, {'grey' if images['channels'] == 1 else 'colour'}, made so that networks "
        f"trained on them alone come near those trained on the whole of {about['dataset']['name']}."
    )
    if about["labels"]:
        text += (
            f" Soft labels of {about['labels']['epochs']} epochs of augmented, mixed views come with them "
            f"(codec {about['labels']['codec']})."
        )
    else:
        text += " The soft labels that its students were trained with are not part of this copy"
        text += f"{_WITHOUT_LABELS}." if about.get("labels_left_out") else "."
    if not images["whole"]:
        text += (
            " The set is the first part of a larger one: each class has the first images only, and the "
            "accuracies below are those of the whole."
        )
    return f"{text}\nThe order of the classes is that of `dataset.class_names` in `edc_ray.json`.\n"


def _loading(about: Facts) -> str:
    return "## How to load it\n\n" + {
        "huggingface": _load_huggingface,
        "imagefolder": _load_tree,
        "webdataset": _load_tars,
    }[about["format"]](about)


def _load_huggingface(about: Facts) -> str:
    lines = [
        "    from datasets import load_dataset",
        '    images = load_dataset(NAME, "images", split="train") # NAME: of this repository, or a folder',
    ]
    if about["labels"]:
        lines.append('    labels = load_dataset(NAME, "labels", split="train")')
    lines += [
        "",
        "`image` is decoded; `label` is a class with its name; `class_id` is the same number, for evaluators",
        "that look for this column; `class_name` and `ipc_id` (which image of its class) are plain.",
        "",
        "With edc-ray, from a local copy or any URL that fsspec reaches:",
        "",
        "    from edc_ray.data.condensed import CondensedImages, CondensedViews",
        "    images = CondensedImages(URL)",
    ]
    if about["labels"]:
        lines += [
            "    views = CondensedViews(URL)   # mixed views with their logits, as they were labelled",
            "",
            "A row of `labels` is one view: its crop, flip and mixing parameters, and its logits. Only",
            "edc-ray decodes other codecs than fp16.",
        ]
    return "\n".join([*lines, ""])


def _load_tree(about: Facts) -> str:
    return (
        '    from torchvision.datasets import ImageFolder\n    images = ImageFolder("train")\n\n'
        "Folders are label numbers with zeros in front; `class_names.json` names them, by label.\n"
    )


def _load_tars(about: Facts) -> str:
    number = sum(path.endswith(".tar") for path in about["files"])
    return (
        f'    import webdataset\n    url = "data-{{000000..{number - 1:06d}}}.tar"\n'
        '    samples = webdataset.WebDataset(url, shardshuffle=False).decode("pil")\n\n'
        "`KEY.cls` is the label, `KEY.json` says class name and ipc id; `class_names.json` names all\n"
        "classes, by label.\n"
    )


def _making(about: Facts) -> str:
    method, config = about["method"], about["config"]
    lines = [f"- method: {method or 'not known; the set was imported'}"]
    if config is not None:
        recover, relabel = config["recover"], config["relabel"]
        optimised = (
            f"{recover['iterations']} iterations" if recover["enabled"] else "initial images as they are"
        )
        lines += [
            f"- initial images: {config['init']['kind']}; recovery: {optimised}",
            f"- labels: {relabel['epochs']} epochs, mix {relabel['mix']}, {relabel['labels']}",
            f"- seed {about['seed']}, device {config['device']}, precision {config['precision']}",
        ]
    if about["data"]:
        lines.append(
            f"- made from {about['data']['train']['images']} images, content hash "
            f"`{about['data']['train']['sha256']}`"
        )
    for name, facts in about["observers"].items():
        top1 = "" if facts["top1"] is None else f", top-1 {facts['top1']:.2f}%"
        lines.append(f"- observer {name}: weights sha256 `{facts['sha256']}`{top1}")
    lines += [f"- {stage}: {_environment(facts)}" for stage, facts in about["made_by"].items() if facts]
    return (
        "## How it was made\n\n" + "\n".join(lines) + "\n\nEvery setting is in `edc_ray.json`, with the "
        f"sha256 of every file. Exported by {about['exported_by']}.\n"
    )


def _environment(facts: Facts) -> str:
    shown = ("edc_ray", "commit", "torch", "torchvision", "hardware")
    return ", ".join(f"{name} {facts[name]}" for name in shown if facts.get(name))


def _results(about: Facts) -> str:
    rows = card_rows(about)
    if not rows:
        return "## Results\n\nNo student was trained on this set where it was exported.\n"
    return (
        "## Results\n\nTop-1 and top-5 on real images that nobody trained on: mean and sample standard "
        "deviation over n students. All rows have the same observers, recipe and number of optimiser steps: "
        "`condensed` is this set, `init` the images before recovery, `random` as many real images with soft "
        "labels, `random_hard` the same with class labels only, `full` all real images.\n\n"
        f"{results_table(rows).to_markdown()}\nHardware: {about['results']['hardware'] or 'not recorded'}.\n"
    )


def _sizes(about: Facts) -> str:
    folders: dict[str, int] = {}
    for path, facts in about["files"].items():
        folder = f"{path.partition('/')[0]}/" if "/" in path else path
        folders[folder] = folders.get(folder, 0) + facts["bytes"]
    lines = ["| what | bytes |", "| --- | --- |", *(f"| {name} | {size} |" for name, size in folders.items())]
    return "## Sizes\n\n" + "\n".join([*lines, f"| together | {sum(folders.values())} |"]) + "\n"


def _limits(about: Facts) -> str:
    return (
        "## Limitations\n\n"
        "- A condensed set stands for the images it was made from, with their errors, gaps and biases; small "
        "details and rare cases are lost, and faces or marks of single originals may remain recognisable.\n"
        "- The terms of the original images may bind what is made of them; the licence above is what whoever "
        "exported this set stated.\n"
        "- The accuracies hold for the students, the training recipe and the number of steps above. Other "
        "networks and recipes give others; compare with the control rows, not with the numbers of a paper.\n"
    )


def _citation(about: Facts) -> str:
    return "## Citation\n\n" + "\n".join(_indented(entry) for entry in citations(about["method"]))


def _indented(entry: str) -> str:
    return "```bibtex\n" + entry + "\n```\n"
