"""A stage on a cluster of this machine: one node goes in the middle, another comes. A process of its own.

python -m tests.cluster.lost_node FOLDER
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

from edc_ray.cluster import driver
from edc_ray.cluster.driver import ray_executor
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units, tries_of

UNITS = 300  # more than are needed until a worker on the new node has begun one
SETTINGS: dict[str, Any] = {"cluster__retries": 0, "cluster__shared_filesystem": True}


def main(folder: Path) -> None:
    driver._SECONDS_BETWEEN_LOOKS = 0.5
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    goes = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    marks, done = folder / "marks", 0
    context = fake_context(folder / "run", np.arange(4), **SETTINGS)
    doings = {f"u{number}": {"do": "work", "seconds": 1.0} for number in range(UNITS)}
    units = fake_units(marks, "recover", **doings)
    with ray_executor(fake_config(folder, **SETTINGS)) as execute:
        for outcome in execute(fake_stage("recover"), context, units):
            assert outcome.error is None, str(outcome.error)
            done += 1
            if done == 4:
                cluster.remove_node(goes, allow_graceful=False)
            if done == 7:
                cluster.add_node(num_cpus=1)
            processes = {path.name.split(".")[1] for path in marks.iterdir()}
            if len(processes) == 3:  # on the head, on the node that went, on the one that came
                break
    assert 7 < done < UNITS, done
    tries = sorted(tries_of(marks, unit.key) for unit in units)
    assert tries[-2:] in ([1, 1], [1, 2]), tries  # only what the lost node took along was begun twice
    ray.shutdown()
    cluster.shutdown()
    print("no unit was lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
