"""How many workers a run may have, and what each holds. Arithmetic only, without Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError, ResourceError, plural

Node = Mapping[str, float]


@dataclass(frozen=True)
class WorkerSize:
    """CPUs and GPUs of one actor or Train worker."""

    cpus: float
    gpus: float


def worker_size(config: RunConfig, nodes: Sequence[Node]) -> WorkerSize:
    """CPUs and GPUs of one worker: by default one GPU if the cluster has any and the config allows it.

    Raises:
        ResourceError: device=cuda, but workers hold no GPU.
        ConfigError: more than one GPU for each actor, but not a whole number.
    """
    gpus = config.cluster.gpus_per_actor
    if gpus is None:
        has_gpus = any(node.get("GPU", 0) for node in nodes)
        gpus = 1.0 if config.device == "cuda" or (config.device == "auto" and has_gpus) else 0.0
    if config.device == "cuda" and gpus == 0:
        raise ResourceError(
            "device=cuda, but each actor holds no GPU",
            found="cluster.gpus_per_actor=0",
            next="set cluster.gpus_per_actor=1 (0.5: two actors share a GPU), or device=cpu",
        )
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError("cluster.gpus_per_actor above 1 is a whole number", found=gpus)
    return WorkerSize(config.cluster.cpus_per_actor, gpus)


def worker_device(config: RunConfig, size: WorkerSize) -> str:
    """Type of the device on which workers compute. The driver's machine may have another."""
    if config.device != "auto":
        return config.device
    return "cuda" if size.gpus else "cpu"


def capacity(nodes: Sequence[Node], size: WorkerSize) -> int:
    """How many workers fit on the nodes. A worker stays on one node, a fraction of a GPU on one GPU."""
    return sum(
        min(_fit(node.get("CPU", 0), size.cpus), _fit_gpus(node.get("GPU", 0), size.gpus)) for node in nodes
    )


def check_cluster(config: RunConfig, nodes: Sequence[Node]) -> WorkerSize:
    """The size of each worker, after a check that the cluster is large enough for the run.

    Raises:
        ResourceError: more workers than fit, without an autoscaler.
        ConfigError: storage that the workers cannot share.
    """
    check_storage(config, len(nodes))
    size = worker_size(config, nodes)
    if not config.cluster.autoscaling:
        check_fit("the run", config.cluster.num_actors or 1, size, nodes, field="cluster.num_actors")
        workers = {"squeeze": config.squeeze.num_workers, "evaluate": config.evaluate.num_workers}
        for stage, count in workers.items():
            check_fit(stage, count, size, nodes, field=f"{stage}.num_workers", noun="workers")
    return size


def num_actors(config: RunConfig, nodes: Sequence[Node], size: WorkerSize) -> int:
    """How many actors a run uses: cluster.num_actors, or as many as fit now."""
    return config.cluster.num_actors or max(config.cluster.min_actors, capacity(nodes, size))


def check_fit(
    who: str, count: int, size: WorkerSize, nodes: Sequence[Node], *, field: str, noun: str = "actors"
) -> None:
    """Raise ResourceError unless `count` workers of `size` fit on the nodes."""
    fit = capacity(nodes, size)
    if count <= fit:
        return
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    gpus_lack = count > sum(_fit_gpus(node.get("GPU", 0), size.gpus) for node in nodes)
    unit, each, there = ("GPU", size.gpus, gpus) if gpus_lack else ("CPU", size.cpus, cpus)
    raise ResourceError(
        f"{who} asks for {count} {noun} x {plural(each, unit)} = {plural(count * each, unit)}; "
        f"the cluster has {there:g}. {_way_out(field, fit, unit, there / count)}"
    )


def check_storage(config: RunConfig, num_nodes: int) -> None:
    """Refuse storage that the workers do not share with the driver.

    Raises:
        ConfigError: memory://, or local files on several nodes without a shared file system.
    """
    root = config.storage.root or ""
    if root.startswith("memory://"):
        raise ConfigError(
            "storage memory:// works only without Ray: workers do not share the driver's memory",
            found=f"storage.root={root}",
            next="set cluster.address=none, or storage.root to a folder or an object store",
        )
    is_local = "://" not in root or root.startswith(("file://", "local://"))
    grows = num_nodes > 1 or config.cluster.autoscaling
    if is_local and grows and not config.cluster.shared_filesystem:
        raise ConfigError(
            "storage is a local folder, and the cluster has several nodes",
            found=f"storage.root={root or 'not set'}, {num_nodes} nodes",
            expected="a place that every node sees, such as s3://bucket/runs",
            next="set storage.root to one, or cluster.shared_filesystem=true if that folder is shared",
        )


def _fit(there: float, each: float) -> int:
    return math.floor(there / each + 1e-9)


def _fit_gpus(there: float, each: float) -> int:
    if each == 0:
        return 10**9
    return math.floor(there) * _fit(1, each) if each < 1 else _fit(there, each)


def _way_out(field: str, fit: int, unit: str, share: float) -> str:
    share = math.floor(share * 100) / 100
    ways = [f"{field}={fit}"] if fit else []
    if share > 0:
        ways.append(f"cluster.{unit.lower()}s_per_actor={share:g}")
    elif unit == "GPU":
        ways.append("cluster.gpus_per_actor=0")
    return f"Set {' or '.join(ways)}." if ways else f"Add nodes with {unit}s."
