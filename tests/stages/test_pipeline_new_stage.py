"""A stage is added as a newcomer would: a folder with its Stage, and a section of the config."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture.source_tree import ROOT

NEW_STAGE = '''
"""average: the mean initial image of each class. One unit is one class."""

from __future__ import annotations

from edc_ray.artifacts.tables.codec import arrays_to_bytes
from edc_ray.errors import ConfigError
from edc_ray.stages.init import stage as init
from edc_ray.stages.units.image_shards import read_stage_images, slot_hashes
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit


def check(config, data, store):
    if config.ipc < 2:
        raise ConfigError("average: one image has no mean", next="raise ipc")


def plan(context):
    labels = range(len(context.data.train.class_names))
    return [WorkUnit("average", f"class-{label}", f"class {label}", {"class": label}) for label in labels]


def inputs(context, unit):
    hashes = slot_hashes(context, "init").items()
    return sorted((slot, sha) for slot, sha in hashes if slot[0] == unit.work["class"])


def average(context, unit):
    rows = read_stage_images(context, "init")
    mean = rows.images[rows.labels == unit.work["class"]].mean(0)
    return UnitOutput({f"{unit.key}.npz": (arrays_to_bytes({"mean": mean}), 1)})


STAGE = Stage(
    name="average", version=1, needs=(init.STAGE,), check=check, plan=plan, inputs=inputs,
    run_unit=average, finish=lambda context, records: (records, {"classes": len(records)}),
)
'''

RUN = """
import pytest
import edc_ray
from edc_ray.artifacts.proof.garbage import find_garbage
from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.config.load import with_fields
from edc_ray.config.run import STAGE_NAMES
from edc_ray.errors import ConfigError
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.fingerprint import stage_fingerprint
from tests.stages.tiny_runs import context_of, new_root, tiny_config

assert edc_ray.__file__.startswith(COPY), edc_ray.__file__
with pytest.raises(ConfigError, match="one image has no mean"):
    context_of(tiny_config(ipc=1))

def run(context):
    return {one.stage: one for one in run_pipeline(context, ["squeeze", "init", "average"])}

root = new_root()
context = context_of(tiny_config(root))
done = run(context)
assert (done["average"].units_done, done["average"].units_reused) == (3, 0)
manifest = read_manifest(context.store, "average")
assert manifest is not None and manifest.stage == "average" and manifest.meta == {"classes": 3}
assert len(context.store.list("average/records")) == 3

again = run(context_of(tiny_config(root)))
assert (again["average"].units_done, again["average"].units_reused) == (0, 3)

def fingerprint(**fields):
    return stage_fingerprint(tiny_config(**fields), STAGES["average"])

assert fingerprint() == fingerprint(recover__iterations=9) != fingerprint(init__factor=1)

context.store.publish("average/class-9.npz", b"left by a killed writer")
assert [one.path for one in find_garbage(context.store, 0, STAGE_NAMES).garbage] == ["average/class-9.npz"]
"""


def test_a_stage_of_one_folder_and_one_section_is_checked_run_recorded_and_reused(tmp_path: Path) -> None:
    package = tmp_path / "edc_ray"
    shutil.copytree(ROOT / "edc_ray", package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = package / "stages" / "average"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "stage.py").write_text(NEW_STAGE, encoding="utf-8")
    sections = package / "config" / "run.py"
    text = sections.read_text(encoding="utf-8")
    line = "    recover: RecoverConfig ="
    assert line in text
    added = f"    average: StageSection = StageSection()\n{line}"
    sections.write_text(text.replace(line, added), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", f"COPY = {str(tmp_path)!r}\n{RUN}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
