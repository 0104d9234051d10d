"""Every field of the config is read by the program: a field that does nothing is a lie to its user."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from edc_ray.config.load import field_paths
from edc_ray.config.run import RunConfig
from edc_ray.config.section import Section
from edc_ray.core.settings import Settings
from tests.architecture.source_tree import ROOT, layer_of, parsed, python_files

READERS = [path for path in python_files("edc_ray") if layer_of(path) != "config"]

# Field -> the method of RunConfig through which it is read.
READ_THROUGH_METHOD = {
    "init.observers": "observers_of",
    "recover.observers": "observers_of",
    "relabel.observers": "observers_of",
    "evaluate.epochs": "training_epochs",
}


@cache
def attributes_read(path: Path) -> set[str]:
    nodes = ast.walk(parsed(path))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def classes_of_section(section: str) -> list[str]:
    """'RecoverConfig' and the 'RecoverSettings' that it is made of, for 'recover'."""
    kind = RunConfig.model_fields[section].annotation
    assert isinstance(kind, type)
    return [
        one.__name__ for one in kind.__mro__ if issubclass(one, Settings) and one not in (Section, Settings)
    ]


def is_read_in(path: Path, field: str) -> bool:
    """By attributes of both names, or by the field's alone where the file names a class of the section."""
    if field in READ_THROUGH_METHOD:
        return READ_THROUGH_METHOD[field] in attributes_read(path)
    section, _, name = field.rpartition(".")
    if name not in attributes_read(path):
        return False
    if not section or section in attributes_read(path):
        return True
    text = (ROOT / path).read_text(encoding="utf-8")
    return any(name in text for name in classes_of_section(section))


def test_every_config_field_is_read_outside_the_config() -> None:
    unread = [field for field in field_paths() if not any(is_read_in(path, field) for path in READERS)]
    assert not unread
