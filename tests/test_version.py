from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edc_ray import version
from edc_ray.version import commit


def test_the_commit_of_changed_code_is_marked_dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"ls-files": "__init__.py", "rev-parse": "0123456789ab", "status": " M edc_ray/core/pixels.py"}
    monkeypatch.setattr(version, "_git", lambda folder, *words: answers[words[0]])
    assert commit() == "0123456789ab+dirty"
    answers["status"] = ""
    assert commit() == "0123456789ab"


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_an_installation_without_git_has_an_unknown_commit(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert commit() == "unknown"


def test_code_below_a_repository_that_is_not_its_own_has_an_unknown_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "edc_ray"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    (tmp_path / "theirs").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for words in (["init", "-q"], ["add", "theirs"], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(version, "__file__", str(installed / "version.py"))
    assert commit() == "unknown"


@pytest.mark.parametrize(
    ("given", "expected"), [("0123456789ab", "0123456789ab"), ("rm -rf /", None), ("", None)]
)
def test_who_uploads_the_code_without_its_repository_says_the_commit(
    given: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "_git", lambda folder, *words: "asked" if words[0] != "status" else "")
    monkeypatch.setenv("EDC_RAY_COMMIT", given)
    assert commit() == (expected or "asked")
