"""What units of a process share: manifests, networks, the device."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edc_ray.artifacts.storage.layout import manifest_path
from edc_ray.data.real.images import DenseImages
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, ResourceError
from edc_ray.kernels.cpu.fused_network import Wanted
from edc_ray.models.observers import freeze
from edc_ray.stages.units.context import Seat, StageContext, choose_device
from tests.stages.tiny_runs import OBSERVERS, tiny_context

Copied = Callable[..., StageContext]


def test_a_manifest_that_is_not_there_is_an_error_with_the_command_that_makes_it() -> None:
    context = tiny_context()
    with pytest.raises(ArtifactError, match=r"recover: no complete artifact in memory://.*") as caught:
        context.manifest("recover")
    assert "condensed/manifest.json" in str(caught.value)
    assert "edc-ray stage recover" in str(caught.value)


def test_a_forgotten_manifest_is_read_again(copied: Copied) -> None:
    context = copied()
    held = context.manifest("init")
    context.store.delete(manifest_path("init"))
    assert context.manifest("init") is held
    context.forget_manifest("init")
    with pytest.raises(ArtifactError, match="no manifest"):
        context.manifest("init")


def test_an_observer_is_loaded_once_frozen_and_in_eval_mode(copied: Copied) -> None:
    context = copied()
    network = context.observer("wrn_16_2")
    assert context.observer("wrn_16_2") is network
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    context.forget_manifest("squeeze")
    assert context.observer("wrn_16_2") is not network


class Slicing(nn.Module):
    """A user's own network, which reads the values between a norm and its activation."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.features[:2](images)
        return self.head((self.features[2:](raw) - 0.5 * raw).mean((2, 3)))


@pytest.mark.parametrize("wanted", ["gradients", "inputs", "results"])
def test_a_network_that_slices_between_norm_and_activation_keeps_its_logits(
    finished: StageContext, wanted: Wanted
) -> None:
    """In recover, in statistics, and in init and relabel."""
    network, images = freeze(Slicing()), torch.randn(5, 1, 8, 8)
    context = replace(finished, _networks={"own": network})
    made = context.fused_observer("own", wanted)
    torch.testing.assert_close(made(images), network(images))
    assert context.fused_observer("own", wanted) is made


def test_fused_observers_are_kept_until_they_are_wanted_for_something_else(finished: StageContext) -> None:
    context = replace(finished, _fused={})
    first = context.fused_observer("wrn_16_2", "results")
    if first is context.observer("wrn_16_2"):
        pytest.skip("no kernels that fuse")
    assert context.fused_observer("wrn_16_2", "results") is first
    context.fused_observer("wrn_16_2", "inputs")
    assert context.fused_observer("wrn_16_2", "results") is not first


def test_digests_of_observers_are_those_of_their_files(finished: StageContext) -> None:
    shards = {shard.path: shard.sha256 for shard in finished.manifest("squeeze").shards}
    assert finished.observer_digests(OBSERVERS) == {name: shards[f"{name}.safetensors"] for name in OBSERVERS}


def test_an_observer_that_squeeze_did_not_train_is_an_error_naming_it(finished: StageContext) -> None:
    for ask in (finished.observer, lambda name: finished.observer_digests([name])):
        with pytest.raises(ArtifactError, match="observer 'convnet_d2' is not trained"):
            ask("convnet_d2")


def test_an_observer_of_another_class_order_is_refused(copied: Copied) -> None:
    context = copied()
    train = context.data.train
    assert isinstance(train, DenseImages)
    turned = DenseImages(train.images, train.labels, tuple(reversed(train.class_names)))
    other = replace(context, data=OpenedDataset(context.data.spec, turned, context.data.val))
    with pytest.raises(ArtifactError, match="convnet_d1"):
        other.observer("convnet_d1")


def test_the_device_asked_for_is_taken_and_auto_without_gpus_is_the_cpu() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto", gpus=0) == torch.device("cpu")


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_auto_prefers_cuda_then_mps_then_the_cpu(
    cuda: int, mps: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert choose_device("auto") == torch.device(chosen)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_and_torch_says_what_it_sees(device: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ResourceError, match=rf"device={device}, but(.|\n)*torch {re.escape(torch.__version__)}"
    ):
        choose_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(device) == torch.device(device)


def test_what_units_share_is_made_by_one_thread_at_a_time_also_from_copies(finished: StageContext) -> None:
    inside, most = set[int](), []

    def work(number: int) -> None:
        context = replace(finished, seat=Seat())
        with context.one_at_a_time(), context.one_at_a_time():
            inside.add(number)
            time.sleep(0.005)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8
