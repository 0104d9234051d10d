"""What trainings of observers and of students share."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edc_ray.core.pixels import from_uint8
from edc_ray.data.real.images import DenseImages
from edc_ray.errors import NumericalError
from edc_ray.models.registry import build_network
from edc_ray.stages.units.context import Group, StageContext
from edc_ray.stages.units.training import (
    batches_of,
    check_loss,
    judge,
    make_optimizer,
    mean_and_std,
    mean_over_group,
    normalised,
    set_rate,
    wrapped_for_group,
)


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (13, 4), (2, 8), (1, 4)])
def test_batches_cover_the_order_once_and_none_is_a_single_image(
    finished: StageContext, count: int, size: int
) -> None:
    order = np.arange(count)[::-1]
    batches = list(batches_of(order, size, finished))
    assert np.concatenate(batches).tolist() == order.tolist()
    assert len(batches) == 1 or min(map(len, batches)) >= 2


def test_processes_of_a_group_share_every_batch_and_each_has_two_images_or_more(
    finished: StageContext,
) -> None:
    order = np.arange(15)
    shares = [list(batches_of(order, 4, replace(finished, group=Group(rank, 2)))) for rank in range(2)]
    together = [sorted(np.concatenate(parts).tolist()) for parts in zip(*shares, strict=True)]
    assert together == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]
    assert min(len(batch) for share in shares for batch in share) >= 2


def test_a_process_alone_trains_the_network_itself(finished: StageContext) -> None:
    network = finished.observer("convnet_d1")
    assert wrapped_for_group(network, finished) is network


def test_decay_is_for_matrices_and_filters_only(finished: StageContext) -> None:
    network = build_network("wrn_16_2", num_classes=3, image_size=8, channels=1, seed=0)
    section = finished.config.evaluate.model_copy(update={"weight_decay": 0.5})
    groups = make_optimizer(network, section).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    assert all(parameter.ndim == 1 for parameter in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_the_optimizer_is_the_one_of_the_section(finished: StageContext) -> None:
    network = finished.observer("convnet_d1")
    sgd = make_optimizer(network, finished.config.squeeze)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == finished.config.squeeze.momentum
    assert isinstance(make_optimizer(network, finished.config.evaluate), torch.optim.AdamW)


def test_the_rate_follows_the_schedule_and_is_set_in_every_group(finished: StageContext) -> None:
    section = finished.config.squeeze.model_copy(
        update={"schedule": "cos", "smoothing_factor": 2.0, "learning_rate": 0.4}
    )
    optimizer = make_optimizer(finished.observer("convnet_d1"), section)
    for epoch in range(4):
        rate = set_rate(optimizer, section, epoch, 4)
        # With a smoothing factor of 2 the rate ends halfway down.
        assert rate == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi * epoch / 8)))
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
    adaptive = section.model_copy(update={"schedule": "alrs"})
    assert set_rate(optimizer, adaptive, 2, 4, [1.0, 1.0]) == pytest.approx(0.4 * 0.9975)
    assert set_rate(optimizer, adaptive, 2, 4, [1.0, 2.0]) == 0.4
    constant = section.model_copy(update={"schedule": "constant"})
    assert set_rate(optimizer, constant, 3, 4) == 0.4


def test_normalised_images_have_the_mean_and_std_of_the_dataset_taken_out(finished: StageContext) -> None:
    train = finished.data.train
    images = normalised(train.fetch(np.arange(len(train))), finished)
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    (mean,), (std,) = mean_and_std(finished)
    pixels = from_uint8(finished.pixels(train, np.array([3])))
    torch.testing.assert_close(normalised(train.fetch([3]), finished), (pixels - mean) / std)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_training_and_names_it(value: float) -> None:
    assert check_loss(torch.tensor(1.5), "squeeze: observer x", 3) == 1.5
    with pytest.raises(NumericalError, match=r"squeeze: observer x: the training loss is .* in epoch 3"):
        check_loss(torch.tensor(value), "squeeze: observer x", 3)


def test_a_group_goes_by_the_mean_of_its_losses_and_a_process_alone_by_its_own(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A sum over two processes of which the other one has the loss 3.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda loss: loss.add_(3.0))
    loss = torch.tensor(1.0)
    assert mean_over_group(loss, finished) == 1.0
    assert mean_over_group(loss, replace(finished, group=Group(1, 2))) == 2.0
    assert loss == 1.0


def test_a_judgement_counts_all_validation_images_whatever_the_batch(finished: StageContext) -> None:
    network, val = finished.observer("convnet_d1"), finished.data.val
    logits = network(normalised(val.fetch(np.arange(len(val))), finished))
    right = logits.argmax(1).numpy() == val.labels
    for batch_size in (1, 5, 256):
        judgement = judge(network, val, finished, batch_size)
        assert judgement.top1 == pytest.approx(100 * right.mean())
        assert judgement.top5 == 100.0
        assert judgement.images == len(val)
        assert judgement.per_class == pytest.approx(
            [100 * right[val.labels == label].mean() for label in range(3)], abs=1e-3
        )
    confidence = F.softmax(logits, 1).max(1).values.detach().numpy()
    assert judgement.ece <= max(confidence.max(), 1 - confidence.min())


def test_outputs_that_overflow_are_refused(finished: StageContext) -> None:
    network = copy.deepcopy(finished.observer("convnet_d1"))
    with torch.no_grad():
        list(network.parameters())[-1][0] = torch.inf
    with pytest.raises(
        NumericalError, match=r"outputs for (\d+) of \1 validation images are NaN or infinite"
    ):
        judge(network, finished.data.val, finished, 256)


def test_a_class_without_validation_images_has_no_accuracy_of_its_own(finished: StageContext) -> None:
    val = finished.data.val
    assert isinstance(val, DenseImages)
    without = val.subset(np.flatnonzero(val.labels != 2))
    judgement = judge(finished.observer("convnet_d1"), without, finished, 256)
    assert judgement.per_class[2] is None
    assert None not in judgement.per_class[:2]


def test_judging_leaves_a_network_in_eval_mode_and_its_weights_alone(finished: StageContext) -> None:
    network = build_network("wrn_16_2", num_classes=3, image_size=8, channels=1, seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    judge(network, finished.data.val, finished, 7)
    assert not network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_of_the_fused_optimiser_are_those_of_the_plain_one(finished: StageContext, name: str) -> None:
    section = finished.config.evaluate.model_copy(update={"optimizer": name, "weight_decay": 0.5})
    networks = [build_network("wrn_16_2", num_classes=3, image_size=8, channels=1, seed=0) for _ in range(2)]
    fused, plain = (make_optimizer(network, section) for network in networks)
    assert all(group["fused"] for group in fused.param_groups)
    for group in plain.param_groups:
        group["fused"] = False
    for number in range(3):
        images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(number))
        for network, optimizer in zip(networks, (fused, plain), strict=True):
            optimizer.zero_grad()
            network.eval()(images).square().sum().backward()
            optimizer.step()
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
