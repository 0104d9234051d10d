"""What made a result."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

import edc_ray
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units import provenance
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from edc_ray.stages.units.provenance import environment_facts, joined_facts
from tests.stages.tiny_runs import manifest_of

CPU = torch.device("cpu")


def test_facts_name_versions_hardware_and_commit() -> None:
    facts = environment_facts(CPU)
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["edc_ray"] == edc_ray.__version__
    assert facts["hardware"].endswith("cpu")
    assert facts["commit"]


def test_facts_hold_no_path_and_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    text = json.dumps(environment_facts.__wrapped__(CPU))
    assert "a-secret-of-this-test" not in text
    for place in (Path.home(), Path(edc_ray.__file__).parent, Path.cwd()):
        assert str(place) not in text


def test_the_commit_of_changed_code_is_marked_dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"ls-files": "__init__.py", "rev-parse": "0123456789ab", "status": " M edc_ray/core/pixels.py"}
    monkeypatch.setattr(provenance, "_git", lambda folder, *words: answers[words[0]])
    assert environment_facts.__wrapped__(CPU)["commit"] == "0123456789ab+dirty"
    answers["status"] = ""
    assert environment_facts.__wrapped__(CPU)["commit"] == "0123456789ab"


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_an_installation_without_git_has_an_unknown_commit(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment_facts.__wrapped__(CPU)["commit"] == "unknown"


def test_a_package_that_is_not_installed_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "no-such-package-anywhere"))
    assert environment_facts.__wrapped__(CPU)["no-such-package-anywhere"] == "absent"


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
    monkeypatch.setattr(edc_ray, "__file__", str(installed / "__init__.py"))
    assert environment_facts.__wrapped__(CPU)["commit"] == "unknown"


@pytest.mark.parametrize(
    ("given", "commit"), [("0123456789ab", "0123456789ab"), ("rm -rf /", None), ("", None)]
)
def test_who_uploads_the_code_without_its_repository_says_the_commit(
    given: str, commit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_git", lambda folder, *words: "asked" if words[0] != "status" else "")
    monkeypatch.setenv("EDC_RAY_COMMIT", given)
    assert environment_facts.__wrapped__(CPU)["commit"] == (commit or "asked")


def test_facts_of_several_makers_show_each_value_once() -> None:
    made = [{"torch": "2", "hardware": "b"}, {"torch": "2", "hardware": "a"}, {}]
    assert joined_facts(made) == {"torch": "2", "hardware": "a; b"}


def test_every_unit_and_every_manifest_says_what_made_it(finished: StageContext) -> None:
    assert all(
        record.environment == environment_facts(CPU) for record in manifest_of(finished, "recover").records
    )
    assert manifest_of(finished, "evaluate").environment == environment_facts(CPU)
    squeeze = stage_fingerprint(finished.config, STAGES["squeeze"])
    assert manifest_of(finished, "squeeze").config_digest == squeeze
