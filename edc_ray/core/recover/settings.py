"""What decides the pixels apart from the data: the section `recover`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edc_ray.core.schedules import Curriculum, smallest_crop
from edc_ray.core.settings import Beta, CropScale, Settings

Carry = Literal["reset", "chain"]
EstimateStart = Literal["zero", "first"]


class RecoverSettings(Settings):
    """Settings of `recover_images`. The optimiser is Adam with a cosine over the iterations.

    Deviations:
        the official code shows the images to a verifier. We do so only where that changes the running
        estimate, and `edc` leaves it out: looking at the images must not change them. Students judge them.
    """

    iterations: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    matching_weight: float = Field(default=0.01, ge=0)
    statistic_momentum: float = Field(
        default=0.8, ge=0, lt=1, description="weight of history in the running estimate"
    )
    estimate_start: EstimateStart = "first"
    global_weight: float = Field(default=0.5, ge=0)
    class_weight: float = Field(default=0.5, ge=0)
    drop_rate: float = Field(
        default=0.0, ge=0, lt=1, description="chance that a convolution is left out of one forward"
    )
    first_multiplier: float = Field(
        default=10.0, ge=0, description="weight of the first matched layer; the others have 1"
    )
    flatness_weight: float = Field(default=0.0, ge=0)
    flatness_momentum: float = Field(default=0.99, ge=0, lt=1)
    flatness_temperature: float = Field(default=4.0, gt=0)
    crop_scale: CropScale = (0.5, 1.0)
    crop_curriculum: Curriculum = Field(
        default="none", description="how the smallest crop comes down from the whole image (CDA)"
    )
    crop_milestone: float = Field(
        default=1.0, ge=0, le=1, description="share of the iterations that the curriculum takes"
    )
    mirror: bool = Field(default=True, description="half of the views are mirrored, where dataset.flip")
    jitter: int = Field(default=0, ge=0, description="views are rolled by up to so many pixels")
    tv_l1_weight: float = Field(default=0.0, ge=0, description="weight of total variation, mean of |.|")
    tv_l2_weight: float = Field(default=0.0, ge=0, description="weight of total variation, norms")
    l2_weight: float = Field(default=0.0, ge=0, description="weight of the mean norm of an image")
    diversity_weight: float = Field(
        default=0.0, ge=0, description="weight of G-VBSM's term between the images of a class"
    )
    diversity_temperature: float = Field(default=4.0, gt=0)
    verifier_touches_estimate: bool = Field(
        default=False,
        description="as in the official programs for small images: showing the first observer how well it "
        "knows the images also updates its running estimate",
    )
    verify_every: int = Field(default=100, ge=0, description="iterations between two such forwards; 0: never")
    verify_final: bool = Field(
        default=True, description="the verifier also sees the finished images of each batch"
    )

    @model_validator(mode="after")
    def _something_is_matched(self) -> RecoverSettings:
        if self.matching_weight and self.global_weight == self.class_weight_in_use == 0:
            raise ValueError("no target has a weight: set matching_weight=0, or global_weight above 0")
        return self

    @property
    def class_weight_in_use(self) -> float:
        """Weight of the class term of the matching loss."""
        return self.class_weight

    def verifies_at(self, iteration: int) -> bool:
        """Whether an iteration has a verifying forward that touches the running estimate."""
        return self.verifier_touches_estimate and self.verify_every > 0 and iteration % self.verify_every == 0

    def crop_scale_at(self, iteration: int) -> tuple[float, float]:
        """Smallest and largest share of the area of an iteration's view."""
        smallest, largest = self.crop_scale
        floor = smallest_crop(iteration, self.iterations, smallest, self.crop_curriculum, self.crop_milestone)
        return min(floor, largest), largest
