"""A copy of the package that a test edits as a newcomer would, and runs in separate processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.architecture.source_tree import ROOT
from tests.e2e.command_line import TINY_SETTINGS


class PackageCopy:
    """`edc_ray` and `tests/config` in a folder; runs go to its `runs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("edc_ray", "tests/config"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tests/__init__.py").touch()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace the one place where `old` stands."""
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python process that imports the copy."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True,
            check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    def run(self, *words: str) -> tuple[dict[str, Any], str]:
        """`edc-ray run digits` with tiny settings and these: the object of --json, and stderr."""
        done = self.python(
            "-c", "from edc_ray.cli import main; main()", "run", "digits", "storage.root=runs",
            "dataset.max_per_class=6", "dataset.max_val_per_class=2", *TINY_SETTINGS, *words, "--json",
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1]), done.stderr
