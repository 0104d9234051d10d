"""What the units of a run share within one process: config, storage, data, device, loaded networks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, RLock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard
from edc_ray.artifacts.proof.records import Manifest, ShardInfo
from edc_ray.artifacts.storage.layout import join_path, manifest_path, network_name, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig, StageName
from edc_ray.core.captured_step import CapturedForward, stream_for
from edc_ray.core.layers.network_numerics import NetworkNumerics
from edc_ray.data.real.images import ImageSet
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, ResourceError
from edc_ray.kernels.cpu.fused_network import Wanted, fused_network, trial_images
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.models.observers import network_from_bytes
from edc_ray.stages.units.images_at_once import ImagesAtOnce
from edc_ray.stages.units.numerics import network_numerics, placed
from edc_ray.stages.units.resident import ResidentImages

MEMORY_LIMIT = 1 << 30
"""Bytes of labels that one process keeps."""


@dataclass(frozen=True)
class Group:
    """Processes that train one network together: this one's rank, and their number."""

    rank: int = 0
    size: int = 1


class Seat:
    """A unit's place among those that compute in this process at the same time; this one is alone there."""

    alone = True

    def step_done(self) -> None:
        """A step of a training has ended."""

    def go_on_alone(self) -> None:
        """Return once no other unit computes in this process, and keep others out until the unit ends."""


class RowLabels:
    """Labels of one row's epochs. What came first is kept, as far as `LabelledEpochs` has room for it."""

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        self._kept: dict[Hashable, np.ndarray] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the labels that are kept."""
        return sum(kept.nbytes for kept in list(self._kept.values()))

    def get(
        self, epoch: Hashable, label: Callable[[], np.ndarray], making: AbstractContextManager[object]
    ) -> np.ndarray:
        """The labels of an epoch, not to be changed: kept, or made now, within `making`."""
        if (kept := self._kept.get(epoch)) is not None:
            return kept
        with making:
            # Another student may have asked for them meanwhile.
            if (kept := self._kept.get(epoch)) is not None:
                return kept
            labels = label()
            if labels.nbytes <= self._room():
                self._kept[epoch] = labels
            return labels


class LabelledEpochs:
    """Labels of the rows that students see now, and of the last row, up to a limit in bytes.

    Each student asks for the epochs in the same order, so the first ones are kept: dropping the oldest would
    drop each epoch just before its use.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._limit, self._lock = limit, Lock()
        self._rows: WeakValueDictionary[Hashable, RowLabels] = WeakValueDictionary()
        self._last: RowLabels | None = None  # stays without a student, for the next one

    def of_row(self, row: Hashable) -> RowLabels:
        """The labels of a row; they go when nobody holds them and another row is asked for.

        `row` names all that they depend on.
        """
        with self._lock:
            labels = self._rows.get(row)
            if labels is None:
                labels = self._rows[row] = RowLabels(self._room)
            self._last = labels
        return labels

    def _room(self) -> int:
        return self._limit - sum(row.nbytes for row in list(self._rows.values()))


@dataclass
class StageContext:
    """Built once per process, so that nothing is loaded twice. Its config has every inferred field.

    `group` is this process's DDP group while it trains. `labelled` are labels that several students share,
    `resident` the real images on the device. `at_once` is how much memory takes. `seat` is the unit's own:
    units that compute at the same time have copies of one context, which share the rest.
    """

    config: RunConfig
    store: Store
    data: OpenedDataset
    device: torch.device
    group: Group = Group()
    labelled: LabelledEpochs = field(default_factory=LabelledEpochs)
    at_once: ImagesAtOnce = field(default_factory=ImagesAtOnce)
    resident: ResidentImages = field(default_factory=ResidentImages)
    seat: Seat = field(default_factory=Seat)
    _turn: Any = field(default_factory=RLock)
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _fused: dict[tuple[Any, ...], tuple[nn.Module, nn.Module]] = field(default_factory=dict)
    _captured: dict[str, tuple[nn.Module, CapturedForward]] = field(default_factory=dict)
    _manifests: dict[str, Manifest] = field(default_factory=dict)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Within it a thread makes or uses what units share. What it made is there for others at the end.

        On CUDA all do so on one stream: a recorded forward has one input, one output and one workspace.
        """
        with self._turn:
            if self.device.type != "cuda":
                yield
                return
            stream = stream_for(self.device, "what units share")
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                yield
            stream.synchronize()

    @property
    def flip_probability(self) -> float:
        """How often a view of a real or condensed image is mirrored."""
        return 0.5 if self.config.dataset.flip else 0.0

    def pixels(self, images: ImageSet, indices: np.ndarray) -> Tensor:
        """Real images at some indices on the device: uint8 [n, C, S, S]."""
        return self.resident.pixels(images, indices, self.device)

    def manifest(self, stage: StageName) -> Manifest:
        """Manifest of a finished stage, read once; an ArtifactError if the stage is not complete."""
        if stage not in self._manifests:
            found = read_manifest(self.store, stage_folder(stage))
            if found is None:
                raise ArtifactError(
                    f"{stage}: no complete artifact in {self.store.url}",
                    found="no manifest",
                    expected=f"{stage_folder(stage)}/manifest.json",
                    next=f"edc-ray stage {stage} with the same config, or edc-ray run",
                )
            self._manifests[stage] = found
        return self._manifests[stage]

    def forget_manifest(self, stage: StageName) -> None:
        """Read the stage's manifest and its networks again next time."""
        self._manifests.pop(stage, None)
        if stage == "squeeze":
            self._networks.clear()
            self._fused.clear()
            self._captured.clear()

    def withdraw_manifest(self, stage: StageName) -> None:
        """Mark a stage as incomplete. Its units and their records stay."""
        self.store.delete(manifest_path(stage_folder(stage)))
        self.forget_manifest(stage)

    def numerics(self, *, compiled: bool = True) -> NetworkNumerics:
        return network_numerics(self.config, self.device, compiled=compiled)

    def kernels_name(self, *, compiled: bool = True) -> str:
        """What computes the layers of networks. A unit records it: the last bits depend on it."""
        compiler = self.numerics(compiled=compiled).compiler
        return kernels_for(self.device).name if compiler is None else "inductor"

    def observer_digests(self, names: Iterable[str]) -> dict[str, str]:
        """SHA-256 of the weights of some observers; an ArtifactError if one is not trained."""
        return {name: self._weights_of(name).sha256 for name in names}

    def observer(self, name: str) -> nn.Module:
        """A trained observer: frozen, in eval mode, on the device."""
        if name not in self._networks:
            train, folder, shard = self.data.train, stage_folder("squeeze"), self._weights_of(name)
            network = network_from_bytes(
                read_shard(self.store, folder, shard),
                name=name,
                image_size=train.image_size,
                channels=train.channels,
                class_names=train.class_names,
                source=self.store.join(join_path(folder, shard.path)),
            )
            self._networks[name] = placed(network, self.config, self.device)
        return self._networks[name]

    def fused_observer(self, name: str, wanted: Wanted, *, compiled: bool = True) -> nn.Module:
        """An observer in its fastest form for a purpose, kept until another purpose comes."""
        network, train = self.observer(name), self.data.train
        numerics = self.numerics(compiled=compiled)
        kernels = kernels_for(self.device, numerics.memory_format)
        for key in [key for key in self._fused if key[0] != wanted]:
            del self._fused[key]
        if wanted != "results":
            self._captured.clear()
        key = wanted, name, kernels.name, numerics.dtype, numerics.compiler is None
        if key not in self._fused or self._fused[key][0] is not network:
            images = trial_images(train.channels, train.image_size, self.device)
            self._fused[key] = network, fused_network(network, wanted, kernels, numerics, images)
        return self._fused[key][1]

    def observer_forward(self, name: str, *, compiled: bool = True) -> Callable[[Tensor], Tensor]:
        """An observer as a function from float32 images to float32 logits, without gradients.

        It takes the images in parts if memory is too little.
        """
        forward = self._observer_forward(name, compiled=compiled)
        return partial(self.at_once.forward, "labels and scores", name, forward)

    def _observer_forward(self, name: str, *, compiled: bool) -> Callable[[Tensor], Tensor]:
        network = self.fused_observer(name, "results", compiled=compiled)
        numerics = self.numerics(compiled=compiled)
        if self.device.type != "cuda" or self.config.compile != "auto":
            return numerics.forward(network)
        kept = self._captured.get(name)
        if kept is None or kept[0] is not network:
            kept = self._captured[name] = network, CapturedForward(numerics.forward(network), self.device)
        return kept[1]

    def _weights_of(self, name: str) -> ShardInfo:
        for shard in self.manifest("squeeze").shards:
            if shard.path == network_name(name):
                return shard
        raise ArtifactError(
            f"squeeze: observer '{name}' is not trained in {self.store.url}",
            found=", ".join(shard.path for shard in self.manifest("squeeze").shards),
            expected=network_name(name),
            next="edc-ray stage squeeze with the same config, or edc-ray run",
        )


def choose_device(wanted: str, *, gpus: float | None = None) -> torch.device:
    """The device of `wanted`: auto prefers cuda, then mps, then cpu. `gpus=0` keeps a worker on the CPU."""
    if wanted != "auto":
        _refuse_missing_device(wanted)
        return torch.device(wanted)
    if gpus != 0 and torch.cuda.is_available():
        return torch.device("cuda")
    if gpus != 0 and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _refuse_missing_device(wanted: str) -> None:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "device=cuda, but torch finds no GPU",
            found=f"torch {torch.__version__}, built for CUDA {torch.version.cuda or '(none)'}; "
            f"{torch.cuda.device_count()} GPUs that it can use",
            next="set device=cpu, or install a driver and a build of PyTorch that fit the GPU",
        )
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise ResourceError(
            "device=mps, but torch finds no Apple GPU",
            found=f"torch {torch.__version__}",
            next="set device=cpu",
        )
