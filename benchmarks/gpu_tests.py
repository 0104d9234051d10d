"""The tests that need a CUDA device, file by file, where neither Ray nor an installation is.

    python benchmarks/gpu_tests.py [--json]

Needs pytest and hypothesis. `make test-gpu` runs the same tests from the project's own environment. The JSON
object holds passed and skipped (numbers), failed (names) and the seconds of each file.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import base_parser, print_json, print_note, print_table, provenance

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent
_MARK = "mark.gpu"


def files_with_gpu_tests() -> list[str]:
    """Below tests/. The others are not imported: some need Ray."""
    found = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if _MARK in path.read_text("utf-8")]
    return [str(path.relative_to(ROOT)) for path in found]


class Outcomes:
    """What became of each test; a plugin of pytest."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.counts = Counter[str]()
        self.by_file: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[0]
        row = self.by_file.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0})
        row["seconds"] = round(row["seconds"] + report.duration, 3)
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        row[report.outcome] += 1
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid} (cannot be imported)")


def main() -> int:
    parser = base_parser(__doc__)
    options = parser.parse_args()
    if missing := [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]:
        raise SystemExit(f"{sys.executable} has no {' and no '.join(missing)}, which the tests need")
    import pytest

    outcomes = Outcomes()
    # The project's own options ask for plugins that a bare machine lacks.
    words = ["-m", "gpu", "-q", "-o", "addopts=", "--rootdir", str(ROOT), "--continue-on-collection-errors"]
    pytest.main([*words, *(str(ROOT / name) for name in files_with_gpu_tests())], plugins=[outcomes])
    columns = ("passed", "failed", "skipped", "seconds")
    print_table(
        ["file", *columns],
        [[name, *(row[column] for column in columns)] for name, row in outcomes.by_file.items()],
    )
    for name in outcomes.failed:
        print_note(f"failed: {name}")
    if options.json:
        counts = {kind: outcomes.counts[kind] for kind in ("passed", "skipped")}
        seconds = {name: row["seconds"] for name, row in outcomes.by_file.items()}
        print_json(
            {**provenance(options.device), **counts, "failed": outcomes.failed, "seconds_of_files": seconds}
        )
    return 1 if outcomes.failed or not outcomes.by_file else 0


if __name__ == "__main__":
    sys.exit(main())
