from __future__ import annotations

from pathlib import Path

import gpu_tests
import pytest


def test_every_file_with_a_gpu_test_is_found_and_no_other() -> None:
    found = gpu_tests.files_with_gpu_tests()
    assert "tests/core/test_captured_step.py" in found
    assert "tests/test_cli.py" not in found


def test_outcomes_are_counted_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs a device\n")
    text = "import pytest\npytestmark = pytest.mark.gpu\ndef test_a(): pass\ndef test_b(): assert not 1\n"
    (folder / "test_one.py").write_text(text + "def test_c(): pytest.skip('x')\n")
    (folder / "test_two.py").write_text("import no_such_module  # mark.gpu\n")
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu_tests.py"])
    assert gpu_tests.main() == 1
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.startswith("tests/test_one.py "))
    assert row.split()[1:4] == ["1", "1", "1"]
    assert "failed: tests/test_one.py::test_b" in told
    assert "failed: tests/test_two.py (cannot be imported)" in told
