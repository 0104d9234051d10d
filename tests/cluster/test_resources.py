from __future__ import annotations

from pathlib import Path

import pytest

from edc_ray.cluster.resources import (
    WorkerSize,
    capacity,
    check_cluster,
    check_fit,
    check_storage,
    num_actors,
    worker_size,
)
from edc_ray.errors import ConfigError, ResourceError
from tests.cluster.fake_stage import fake_config

TWO_GPUS = [{"CPU": 16.0, "GPU": 2.0}]


def test_more_actors_than_gpus_are_refused_with_both_ways_out(tmp_path: Path) -> None:
    config = fake_config(tmp_path, device="auto", cluster__num_actors=8)
    message = (
        r"the run asks for 8 actors x 1 GPU = 8 GPUs; the cluster has 2\. "
        r"Set cluster\.num_actors=2 or cluster\.gpus_per_actor=0\.25\."
    )
    with pytest.raises(ResourceError, match=message):
        check_cluster(config, TWO_GPUS)


def test_more_actors_than_cpus_are_refused(tmp_path: Path) -> None:
    config = fake_config(tmp_path, cluster__num_actors=5, cluster__cpus_per_actor=2)
    with pytest.raises(ResourceError, match="5 actors x 2 CPUs = 10 CPUs; the cluster has 4"):
        check_cluster(config, [{"CPU": 4.0}])


def test_more_ddp_workers_than_fit_are_refused_under_the_field_that_asks(tmp_path: Path) -> None:
    config = fake_config(tmp_path, squeeze__num_workers=3)
    with pytest.raises(ResourceError, match=r"squeeze asks for 3 workers .* Set squeeze\.num_workers=2"):
        check_cluster(config, [{"CPU": 2.0}])


def test_an_autoscaler_may_be_asked_for_more_than_there_is(tmp_path: Path) -> None:
    fields = {"cluster__num_actors": 50, "cluster__autoscaling": True, "cluster__shared_filesystem": True}
    assert check_cluster(fake_config(tmp_path, **fields), [{"CPU": 2.0}]) == WorkerSize(1.0, 0.0)


@pytest.mark.parametrize(
    ("nodes", "size", "fit"),
    [
        ([{"CPU": 4.0}], WorkerSize(1, 0), 4),
        ([{"CPU": 3.0}, {"CPU": 3.0}], WorkerSize(2, 0), 2),  # a worker never spans nodes
        ([{"CPU": 16.0, "GPU": 2.0}], WorkerSize(1, 0.25), 8),
        ([{"CPU": 16.0, "GPU": 2.0}], WorkerSize(1, 0.6), 2),  # a fraction never spans GPUs
        ([{"CPU": 16.0, "GPU": 2.0}], WorkerSize(1, 2), 1),
        ([{"CPU": 1.0, "GPU": 8.0}, {"CPU": 64.0}], WorkerSize(1, 1), 1),
        ([{"CPU": 1.0}], WorkerSize(0.1, 0), 10),
        ([{}], WorkerSize(1, 0), 0),
    ],
)
def test_capacity_counts_whole_workers_on_each_node(
    nodes: list[dict[str, float]], size: WorkerSize, fit: int
) -> None:
    assert capacity(nodes, size) == fit


def test_a_worker_takes_a_gpu_only_where_there_are_some(tmp_path: Path) -> None:
    automatic = fake_config(tmp_path, device="auto")
    assert worker_size(automatic, TWO_GPUS) == WorkerSize(1.0, 1.0)
    assert worker_size(automatic, [{"CPU": 2.0}]) == WorkerSize(1.0, 0.0)
    assert worker_size(fake_config(tmp_path, device="cpu"), TWO_GPUS) == WorkerSize(1.0, 0.0)


def test_cuda_without_a_gpu_for_the_actor_is_refused(tmp_path: Path) -> None:
    config = fake_config(tmp_path, device="cuda", cluster__gpus_per_actor=0)
    with pytest.raises(ResourceError, match="each actor holds no GPU"):
        worker_size(config, TWO_GPUS)


def test_cuda_on_a_cluster_without_gpus_names_what_is_missing(tmp_path: Path) -> None:
    config = fake_config(tmp_path, device="cuda", cluster__num_actors=1)
    with pytest.raises(ResourceError, match="1 actors x 1 GPU = 1 GPU; the cluster has 0"):
        check_cluster(config, [{"CPU": 2.0}])


def test_a_cluster_without_cpus_is_told_to_grow() -> None:
    with pytest.raises(ResourceError, match="Add nodes with CPUs"):
        check_fit("the run", 1, WorkerSize(1, 0), [{}], field="cluster.num_actors")


def test_memory_storage_with_ray_is_refused(tmp_path: Path) -> None:
    config = fake_config(tmp_path, storage__root="memory://runs")
    with pytest.raises(ConfigError, match="workers do not share the driver's memory"):
        check_storage(config, 1)


@pytest.mark.parametrize("root", ["/data/runs", "file:///data/runs", None])
def test_local_files_on_several_nodes_are_refused_unless_shared(tmp_path: Path, root: str | None) -> None:
    with pytest.raises(ConfigError, match="several nodes"):
        check_storage(fake_config(tmp_path, storage__root=root), 2)
    check_storage(fake_config(tmp_path, storage__root=root, cluster__shared_filesystem=True), 2)
    check_storage(fake_config(tmp_path, storage__root=root), 1)
    check_storage(fake_config(tmp_path, storage__root="s3://bucket/runs"), 2)


def test_without_a_number_a_run_uses_as_many_actors_as_the_nodes_hold(tmp_path: Path) -> None:
    nodes, size = [{"CPU": 3.0}, {"CPU": 2.0}], WorkerSize(2, 0)
    assert num_actors(fake_config(tmp_path, cluster__num_actors=None), nodes, size) == 2
    assert num_actors(fake_config(tmp_path, cluster__num_actors=1), nodes, size) == 1
    assert num_actors(fake_config(tmp_path, cluster__num_actors=None), [{"CPU": 1.0}], WorkerSize(1, 0)) == 1
