"""What docs/PYTHON.md shows works as it stands, on a smaller run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import edc_ray
from edc_ray.config.run import RunConfig
from tests.architecture.source_tree import ROOT
from tests.conftest import TINY_DIGITS

SNIPPETS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "PYTHON.md").read_text(encoding="utf-8"), re.DOTALL
)


def test_every_snippet_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = edc_ray.recipe

    def smaller(name: str, **fields: Any) -> RunConfig:
        given: dict[str, Any] = {**fields, **TINY_DIGITS, "storage.root": str(tmp_path)}
        return recipe(name, **given)

    monkeypatch.setattr(edc_ray, "recipe", smaller, raising=False)
    monkeypatch.chdir(tmp_path)  # the document exports to a folder beside the script
    names: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(snippet, names)
    assert len(names["run"].rows) == 5
    assert list(names["students"]) == ["convnet_d1"]
    assert len(names["found"].trials) == 2
    assert names["best"]["n"] == 2
