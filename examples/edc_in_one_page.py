"""EDC on one page: the whole method on 8x8 handwritten digits, in the order in which it happens.

Only torch and `edc_ray.core`, the maths of the package: no configuration, no storage, no Ray. Read it from
top to bottom, or run it (less than a minute): python examples/edc_in_one_page.py
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.layers.accumulator import StatisticsAccumulator
from edc_ray.core.pixels import denormalise, normalise, to_uint8
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer, ObserverTargets
from edc_ray.core.schedules import cosine
from edc_ray.core.seeding import draws
from edc_ray.core.students.ema import EmaParameters
from edc_ray.core.students.student_loss import LossOptions, mse_ce
from edc_ray.core.views.crops import best_crop_of_each, cross_entropy_of_each, cut_crops, sample_crops
from edc_ray.core.views.views import ViewSettings, draw_epoch_views, render_views

SEED, IPC, K, SIZE = 0, 1, 10, 16
PATCH, BATCH = 4, 10
MEAN, STD = (0.3,), (0.37,)
Targets = dict[str, ObserverTargets]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised images [N, 1, 16, 16] and labels [N] to train on, then a quarter to judge by."""
    pixels, classes = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    images = F.interpolate(pixels.float().reshape(-1, 1, 8, 8) / 16, SIZE, mode="bilinear")
    images, labels = normalise(images, MEAN, STD), classes.long()
    order = torch.from_numpy(draws(SEED, "split").permutation(len(labels)))
    val, train = order[: len(order) // 4], order[len(order) // 4 :]
    return images[train], labels[train], images[val], labels[val]


def convnet(width: int, seed: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    """Three blocks of convolution, norm, ReLU and pooling, as the condensation literature has them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for channels in (1, width, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1), norm(width), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (SIZE // 8) ** 2, K))


def squeeze(images: Tensor, labels: Tensor, width: int, epochs: int = 8) -> nn.Module:
    """1. Train an observer on all real images."""
    network = convnet(width, seed=width)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.05 * cosine(epoch, epochs, 1.0)
        order = torch.from_numpy(draws(SEED, "squeeze", width, epoch).permutation(len(images)))
        for batch in order.split(64):
            loss = F.cross_entropy(network.train()(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def statistics(observer: Observer, images: Tensor, labels: Tensor) -> ObserverTargets:
    """2. What real images look like inside the observer: moments of all images, and of each class."""
    sums = StatisticsAccumulator(observer.taps.kinds, PATCH)
    with torch.no_grad():
        for batch in torch.arange(len(images)).split(64):
            with observer.taps.recording() as inputs:
                observer.logits(images[batch])
            sums.add(inputs, labels[batch])
    return {name: LayerTarget(sums.pooled_global(name), sums.pooled_class(name)) for name in sums.kinds}


def initial_images(images: Tensor, labels: Tensor, observers: list[Observer]) -> Tensor:
    """3. Start from real images: the crops of each class that the observers know best, [K * IPC, C, H, W]."""
    forwards, chosen = [observer.logits for observer in observers], []
    for label in range(K):
        members = torch.nonzero(labels == label).flatten()[:60]
        boxes = [sample_crops(draws(SEED, "init", i), 3, (SIZE, SIZE), (0.5, 1.0)) for i in members.tolist()]
        crops = torch.cat([cut_crops(images[i], box, SIZE) for i, box in zip(members, boxes, strict=True)])
        losses = cross_entropy_of_each(crops, torch.full((len(crops),), label), forwards)
        best, best_losses = best_crop_of_each(crops.unflatten(0, (-1, 3)), losses.unflatten(0, (-1, 3)))
        chosen.append(best[best_losses.argsort()[:IPC]])
    return torch.cat(chosen)


def recover(start: Tensor, labels: Tensor, observers: list[Observer], targets: Targets) -> Tensor:
    """4. Optimise the pixels until the observers recognise the images and see real statistics in them."""
    settings = RecoverSettings(matching_weight=0.01, iterations=200, mirror=False)
    views = partial(draws, SEED, "recover")  # iteration -> its random numbers
    run = partial(recover_images, settings=settings, patch_side=PATCH, mean=MEAN, std=STD, draws=views)
    return run(LoopState.start(start), labels, observers, targets).images


def evaluate(condensed: Tensor, labels: Tensor, observers: list[Observer], epochs: int = 200) -> nn.Module:
    """5. and 6. Relabel and train: each epoch has new crops, mixed by CutMix, with the observers' logits."""
    student = convnet(32, seed=1000, norm=lambda width: nn.GroupNorm(width, width))
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.005, weight_decay=0.01)
    average, options = EmaParameters(student, 0.99), LossOptions(temperature=1.0, ce_weight=0.025)
    slots = [(label, place % IPC) for place, label in enumerate(labels.tolist())]
    settings = ViewSettings(flip_probability=0.0, mix_group=BATCH)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.005 * cosine(epoch, epochs, 2.0)
        views = draw_epoch_views(SEED, epoch, slots, SIZE, settings)
        order = draws(SEED, "evaluate", epoch).permutation(len(views))
        for rows in np.array_split(order, len(order) // BATCH):
            seen = render_views(condensed, views, rows, mean=MEAN, std=STD)
            soft_labels = ensemble_logits([observer.logits(seen) for observer in observers])
            hard_labels = labels[torch.from_numpy(views.image[rows])]
            loss = mse_ce(student.train()(seen), soft_labels, hard_labels, options)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update()
    with average.swapped():
        return deepcopy(student)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    return 100 * (network.eval()(images).argmax(1) == labels).float().mean().item()


def main() -> dict[str, float]:
    """Top-1 in percent of students that have seen IPC images of each class: condensed, or the real crops."""
    torch.set_num_threads(1)
    images, labels, val_images, val_labels = digits()
    networks = {f"convnet_w{width}": squeeze(images, labels, width) for width in (16, 32)}
    observers = [Observer.of(name, network) for name, network in networks.items()]
    targets = {observer.name: statistics(observer, images, labels) for observer in observers}
    few_labels = torch.arange(K).repeat_interleave(IPC)
    crops = initial_images(images, labels, observers)
    rows = {"condensed": recover(crops, few_labels, observers, targets), "init": crops}
    stored = {row: to_uint8(denormalise(few, MEAN, STD), "round") for row, few in rows.items()}
    students = {row: evaluate(pixels, few_labels, observers) for row, pixels in stored.items()}
    return {row: accuracy(student, val_images, val_labels) for row, student in students.items()}


if __name__ == "__main__":
    for row, top1 in main().items():
        print(f"{row:<10} {top1:.1f}% of the held-out digits are recognised")
