"""What made a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import edc_ray
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units import provenance
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from edc_ray.stages.units.provenance import environment_facts, joined_facts, memory_facts
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


def test_a_package_that_is_not_installed_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "no-such-package-anywhere"))
    assert environment_facts.__wrapped__(CPU)["no-such-package-anywhere"] == "absent"


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


def test_the_memory_of_a_device_is_the_most_that_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_facts(torch.device("cpu")) == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 7)
    assert memory_facts(torch.device("cuda")) == {"device_bytes": 7}
