"""The documents are right about the config: each field has its term, each flag its field or a reason."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from edc_ray.config.load import field_paths, load_recipe
from tests.architecture.source_tree import ROOT

METHOD = ROOT / "docs" / "METHOD.md"
FLAGS = ROOT / "docs" / "official_flags.md"

METHOD_SECTIONS = ("squeeze", "statistics", "init", "recover", "relabel", "evaluate")
# Fields of these sections that say how work is cut or what is kept, but not what is computed.
EXECUTION_ONLY = {
    "squeeze.num_workers",
    "statistics.batches_per_unit",
    "init.classes_per_unit",
    "init.ipc_per_unit",
    "relabel.batch_size",
    "relabel.epochs_per_unit",
    "evaluate.save_students",
    "evaluate.val_batch_size",
    "evaluate.num_workers",
}

# Name in the documents -> recipe.
DATASETS = {
    "ImageNet-1k": "imagenet1k",
    "ImageNet-10": "imagenet10",
    "Tiny-ImageNet": "tiny_imagenet",
    "CIFAR-100": "cifar100",
    "CIFAR-10": "cifar10",
}


def method_fields() -> set[str]:
    return {field for field in field_paths() if field.partition(".")[0] in METHOD_SECTIONS}


def fields_named_in(text: str) -> set[str]:
    """Fields in code, alone or with a value, in sentences and in blocks."""
    return set(re.findall(r"\b[a-z]+\.[a-z0-9_]+\b", text)) & set(field_paths())


def tables(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of those tables of a document that have these columns."""
    header: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and not header:
            header = cells
        elif cells and set(columns) <= set(header) and not set(cells[0]) <= set("-"):
            assert len(cells) == len(header), line
            yield dict(zip(header, cells, strict=True))
        elif not cells:
            header = []


def test_every_field_of_the_method_stands_with_its_term_in_the_method_document() -> None:
    named = fields_named_in(METHOD.read_text(encoding="utf-8"))
    assert sorted(method_fields() - EXECUTION_ONLY - named) == []


def test_fields_that_only_steer_execution_are_fields() -> None:
    assert sorted(EXECUTION_ONLY - method_fields()) == []


FLAG_ROWS = list(tables(FLAGS, "flag", "our field"))


@pytest.mark.parametrize("row", FLAG_ROWS, ids=lambda row: row["flag"].replace("`", ""))
def test_a_flag_has_a_field_or_a_reason(row: dict[str, str]) -> None:
    assert re.fullmatch(r"`-[^`]+`(, `-[^`]+`)*", row["flag"])
    assert row["default (script)"]
    code = re.fullmatch(r"`([a-z0-9_.]+)`", row["our field"])
    assert (code and code[1] in field_paths()) or re.match(r"no field: \S+ ", row["our field"])


# Heading in the document -> what its programs' parsers take, of all directories together. Short names count.
_PLACES = "--gpu-id --world-size --rank --dist-backend"
_STUDENT = """--batch-size --gradient-accumulation-steps --start-epoch --epochs -j --workers --train-dir
    --val-dir --output-dir --sgd -lr --learning-rate --momentum --weight-decay --adamw-lr --adamw-weight-decay
    --model --keep-topk -T --temperature --fkd-path --wandb-project --wandb-api-key --mix-type --fkd_seed"""
TAKEN = {
    "Squeeze": """--dataset --model --lr_teacher --batch_size --data_path --squeeze_path --train_epochs --mom
        --l2""",
    "Initial images": f"--exp-name --ipc-number --syn-data-path --train-data-path {_PLACES}",
    "Recover": f"""--flatness --flatness-weight --ema_alpha --exp-name --ipc-number --initial-img-dir
        --syn-data-path --store-best-images --batch-size --iteration --lr --jitter --category-aware --r-loss
        --first-multiplier --tv-l2 --training-momentum --drop-rate --nuc-norm --l2-scale --arch-name --tau
        --average_grad_ratio --verifier --verifier-arch --train-data-path --statistic-path --pre-train-path
        {_PLACES}""",
    "Relabel": """--data -j --workers -b --batch-size --world-size --temperature --class-number
        --shuffle-patch --rank --dist-url --dist-backend --seed --gpu --multiprocessing-distributed --epochs
        --input-size --min-scale-crops --max-scale-crops --fkd-path --use-fp16 --mode --fkd-seed
        --candidate-number --mix-type --mixup --cutmix --pre-train-path""",
    "Students": f"""{_STUDENT} --dist-backend --loss-type --ls-type --alrs-dr --ema-dr --st --ce-weight
        --gpu-id --shuffle-patch --world-size --sgd-lr --pre-train-path --cutmix""",
    "Recover (`data_synthesis`": """--exp-name --syn-data-path --store-best-images --store-last-images
        --batch-size --iteration --lr --jitter --r-bn --first-bn-multiplier --tv-l2 --l2-scale --arch-name
        --arch-path --verifier --verifier-arch --verifier-arch-path --verifier-path --ipc-start --ipc-end
        --easy2hard-mode --milestone --G --wandb-key""",
    "Squeeze and students on CIFAR-100": """--lr --resume -r --output-dir --epochs --check-ckpt --batch-size
        --weight-decay --syn-data-path --teacher-path --ipc""",
    "Students (`train_FKD`": f"{_STUDENT} --cos --teacher-model --mixup --cutmix --IPC",
    "Students (`train_FKD_parallel` on": f"""{_STUDENT} --cos --dist-backend --loss-type --sgd-lr --ce-weight
        --gpu-id --world-size""",
    "RDED": """--arch-name --subset --train-dir --nclass --mipc --ipc --num-crop --input-size --factor
        --re-batch-size --re-accum-steps --mix-type --stud-name --val-ipc --workers --classes --temperature
        --val-dir --min-scale-crops --max-scale-crops --re-epochs --syn-data-path --seed --mixup --cutmix
        --cos --sgd -lr --learning-rate --momentum --weight-decay --adamw-lr --adamw-weight-decay
        --exp-name""",
}


def flags_under(heading: str) -> set[str]:
    """Flags of the tables between a heading that begins so and the next one."""
    parts = re.split(r"^#+ ", FLAGS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    part = next(part for part in parts if re.match(rf"{re.escape(heading)}(\n|[:,` ])", part))
    cells = re.findall(r"^\| (`-.*?) \|", part, re.MULTILINE)
    return {flag for cell in cells for flag in re.findall(r"`(-[^`]+)`", cell)}


@pytest.mark.parametrize("heading", TAKEN)
def test_every_flag_of_a_program_stands_in_its_table(heading: str) -> None:
    taken, of_places = set(TAKEN[heading].split()), flags_under("The official programs' flags")
    assert taken - of_places == flags_under(heading) - of_places


def test_no_flag_stands_twice_in_one_table() -> None:
    text = FLAGS.read_text(encoding="utf-8")
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        flags = re.findall(r"^\| `(-[^`]+)`", part, re.MULTILINE)
        assert len(flags) == len(set(flags)), flags


DEVIATIONS = list(tables(METHOD, "field", "`edc`", "`edc_official`", "why this default"))


def values_said(cell: str) -> dict[str, Any]:
    """Recipe -> value of a cell like "`a`; ImageNet-1k: `b`"; a part without code is not compared."""
    said: dict[str, Any] = {}
    for part in cell.split(";"):
        code = re.search(r"`([^`]+)`", part)
        names = [recipe for name, recipe in DATASETS.items() if re.search(rf"{name}(?!\d)", part)]
        if code:
            said |= dict.fromkeys(names or DATASETS.values(), yaml.safe_load(code[1]))
    return said


@cache
def values_of(recipe: str, method: str) -> dict[str, Any]:
    return load_recipe(recipe, [f"method={method}"]).model_dump(mode="json")


@pytest.mark.parametrize("method", ["edc", "edc_official"])
@pytest.mark.parametrize("row", DEVIATIONS, ids=lambda row: row["field"].strip("`"))
def test_a_deviation_has_the_value_that_the_document_says(row: dict[str, str], method: str) -> None:
    section, name = row["field"].strip("`").split(".")
    said = values_said(row[f"`{method}`"])
    assert said == {recipe: values_of(recipe, method)[section][name] for recipe in said}
    assert row["why this default"]


# Fields that differ between the two methods and have no row -> why none.
WITHOUT_A_ROW = {
    "method": "its name",
    "recover.iterations": "the budget of the paper's tables and of the scripts",
    "squeeze.epochs": "the budget: ten where the script trains five",
    "evaluate.batch_size": "the paper's tables against the scripts' flags",
    "relabel.mix_group": "follows evaluate.batch_size",
    "recover.batch_size": "read in the official order alone, which has a row",
    "recover.local_images_per_slot": "read in local mode alone; the scripts' number follows from the dataset",
    "recover.observers": "the paper's observers against the scripts' on ImageNet-10",
    "evaluate.learning_rate": "goes with evaluate.optimizer, below whose table it stands",
    "evaluate.weight_decay": "goes with evaluate.optimizer, below whose table it stands",
    "squeeze.learning_rate": "goes with the fine-tuning of squeeze.weights",
    "squeeze.smoothing_factor": "goes with the fine-tuning of squeeze.weights",
    "statistics.crop_padding": "goes with statistics.augmentation",
}


def test_every_field_in_which_the_methods_differ_has_a_row_or_a_reason() -> None:
    differing = set()
    for recipe in DATASETS.values():
        ours, theirs = (_flat(values_of(recipe, method)) for method in ("edc", "edc_official"))
        differing |= {field for field in ours.keys() | theirs.keys() if ours.get(field) != theirs.get(field)}
    rows = {row["field"].strip("`") for row in DEVIATIONS}
    assert differing - rows == set(WITHOUT_A_ROW)
    assert not rows & set(WITHOUT_A_ROW)


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """section.field -> value."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= {f"{name}.{field}": each for field, each in value.items()}
        else:
            found[name] = value
    return found


@cache
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_documents", ROOT / "docs" / "check_documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("`recover.learning_rat`", "no such field"),
        ("`recover.carry=chains`", "recover.carry"),
        ("[x](nowhere.md)", "leads nowhere"),
        ("[x](#no-such-heading)", "leads nowhere"),
        ("`edc-ray ruin cifar10`", "no such command"),
        ("`make nothing-at-all`", "no target"),
    ],
)
def test_the_checker_finds_a_mistake(tmp_path: Path, text: str, mistake: str) -> None:
    document = tmp_path / "a.md"
    document.write_text(f"A sentence with {text} in it.\n", encoding="utf-8")
    (found,) = checker().mistakes_in(document)
    assert mistake in found


def test_the_checker_accepts_fields_values_and_files(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(
        "`recover.carry=chain`, `recover.carry`, `run.yaml`, [x](a.md#the-end)\n\n## The end\n"
    )
    assert list(checker().mistakes_in(document)) == []
