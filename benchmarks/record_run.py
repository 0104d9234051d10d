"""Keep the result of a finished run: its table, config, hardware, versions and commit, as JSON and Markdown.

    python benchmarks/record_run.py RUN_URL NAME

writes benchmarks/results/NAME.json and NAME.md. NAME is <theme>_<hardware>_<yyyymm>.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from edc_ray.artifacts.proof.manifest import read_manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.run import STAGE_NAMES
from edc_ray.report.run_report import result_rows
from edc_ray.report.table import results_table
from edc_ray.stages.units.event_log import read_events

RESULTS = Path(__file__).parent / "results"
# Folders of the machine do not belong in a record.
_PLACES = {"dataset": ("train", "val", "cache"), "storage": ("root", "options")}


def recorded(store: Store, dataset_name: str) -> dict[str, Any]:
    """Everything a reader needs to judge the numbers or to make them again."""
    config = yaml.safe_load(store.read(RUN_CONFIG))
    for section, fields in _PLACES.items():
        for field in fields:
            config[section].pop(field, None)
    manifests = {stage: read_manifest(store, stage_folder(stage)) for stage in STAGE_NAMES}
    incomplete = [stage for stage, manifest in manifests.items() if manifest is None]
    if incomplete:
        raise SystemExit(f"{store.url} is not complete: {', '.join(incomplete)}")
    complete = {stage: manifest for stage, manifest in manifests.items() if manifest is not None}
    seconds = {
        event["stage"]: event["seconds"] for event in read_events(store) if event["event"] == "stage_done"
    }
    return {
        "dataset": dataset_name or config["dataset"]["name"],
        "rows": [asdict(row) for row in result_rows(store)],
        "results": complete["evaluate"].meta["results"],
        "observers": complete["squeeze"].meta["observers"],
        "matching_loss": complete["recover"].meta["matching_loss"],
        "stage_seconds": seconds,
        "label_bytes": complete["relabel"].meta["bytes"],
        "environment": complete["evaluate"].environment,
        "fingerprints": {stage: manifest.fingerprint for stage, manifest in complete.items()},
        "config": config,
    }


def page(record: dict[str, Any], store: Store) -> str:
    """The record for people."""
    observers = ", ".join(f"{name} {top1:.1f}%" for name, top1 in record["observers"].items())
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in record["stage_seconds"].items())
    facts = "\n".join(f"- {name}: {value}" for name, value in record["environment"].items())
    return (
        f"# {record['dataset']}, method {record['config']['method']}, ipc {record['config']['ipc']}\n\n"
        f"{results_table(result_rows(store)).to_markdown()}\n"
        "Mean ± sample standard deviation over n students. `full` sees all real training images with as many "
        "images an epoch and as many steps as the other rows.\n\n"
        f"Observers on the real validation images: {observers}.\n\n"
        f"Wall time of the stages: {seconds}.\n\n{record['note']}\n\n{facts}\n\n"
        f"## Config\n\n```yaml\n{yaml.safe_dump(record['config'], sort_keys=False, width=110)}```\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="URL of the run")
    parser.add_argument("name", help="<theme>_<hardware>_<yyyymm>")
    parser.add_argument("--note", default="", help="what a reader must know of how it was measured")
    parser.add_argument(
        "--dataset", default="", help="how the result calls the dataset, such as 'CIFAR-10 (JPEG)'"
    )
    arguments = parser.parse_args()
    store = open_store(arguments.run, writable=False)
    record = recorded(store, arguments.dataset) | {"note": arguments.note}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (RESULTS / f"{arguments.name}.md").write_text(page(record, store))
    print(RESULTS / f"{arguments.name}.md")


if __name__ == "__main__":
    main()
