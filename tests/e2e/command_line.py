"""The command line as a user types it, in this process."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, NamedTuple

import pytest

from edc_ray import cli

# Small enough for a test, whatever the images.
TINY_SETTINGS = (
    "cluster.address=none", "ipc=1", "squeeze.observers=[convnet_d1]", "squeeze.epochs=1",
    "statistics.batches_per_unit=100", "init.images_per_class=4", "init.crops_per_image=1",
    "recover.iterations=2", "recover.classes_per_unit=10", "relabel.epochs=2",
    "evaluate.students=[convnet_d1]", "evaluate.seeds=1", "evaluate.rows=[condensed,init]",
    "dataset.allow_weak_observers=true",
)  # fmt: skip


class Ended(NamedTuple):
    """How a command ended: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The object of --json: the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


class CommandLine:
    """`command_line("run", "digits", "ipc=0")`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["edc-ray", *words])
        # What the entry point sets for the whole process must not reach other tests.
        self._monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        self._monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
        level = logging.getLogger("edc_ray").level
        self._capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            logging.getLogger("edc_ray").setLevel(level)
        captured = self._capsys.readouterr()
        return Ended(status, captured.out, captured.err)
