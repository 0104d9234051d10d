"""The whole pipeline with its artifacts in an S3 bucket (moto on this machine), read back by URL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.launch import launch
from tests.e2e.stored import stored_hashes


def test_a_run_in_a_bucket_is_the_run_in_a_folder(
    s3_url: str, tiny_config: Callable[..., RunConfig], tiny_run: Path
) -> None:
    root = s3_url
    launch(tiny_config(Path("unused"), **{"storage.root": root}), STAGE_NAMES)
    store = open_store(f"{root}/digits", writable=False)
    assert verify_run(store) == []
    assert {"report/report.html", "report/condensed.png", "events.jsonl", "run.yaml"} <= set(store.list())
    assert stored_hashes(f"{root}/digits") == stored_hashes(tiny_run)
    there, here = CondensedImages(f"{root}/digits"), CondensedImages(str(tiny_run))
    assert (there.images == here.images).all()
    assert len(CondensedViews(f"{root}/digits")) == len(there)
    # Credentials come from the environment and stay there.
    stored = b"".join(store.read(path) for path in store.list())
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in stored


@pytest.mark.nightly
def test_ray_workers_write_to_the_bucket_with_the_environments_credentials(s3_url: str) -> None:
    words = ["run", "digits", f"storage.root={s3_url}", "squeeze.epochs=2", "relabel.epochs=4"]
    more = [
        "recover.iterations=5",
        "evaluate.rows=[condensed]",
        "dataset.allow_weak_observers=true",
        "--quiet",
    ]
    environment: dict[str, Any] = dict(os.environ)
    command = [str(Path(sys.executable).with_name("edc-ray")), *words, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert verify_run(open_store(f"{s3_url}/digits", writable=False)) == []
    assert environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
