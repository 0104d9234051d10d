"""The settings of recover's loop, from a config."""

from __future__ import annotations

from dataclasses import replace

from edc_ray.config.run import RunConfig
from edc_ray.core.recover.state import RecoverSettings
from edc_ray.stages.recover.plan import rank_key
from edc_ray.stages.units.plan import WorkUnit


def settings_of(config: RunConfig) -> RecoverSettings:
    """The loop's settings of a config."""
    section = config.recover
    without_classes = section.category_aware == "none"
    return RecoverSettings(
        iterations=section.iterations,
        learning_rate=section.learning_rate,
        betas=section.betas,
        matching_weight=section.matching_weight,
        statistic_momentum=section.statistic_momentum,
        estimate_start=section.estimate_start,
        global_weight=section.global_weight,
        class_weight=0.0 if without_classes else section.class_weight,
        drop_rate=section.drop_rate,
        first_multiplier=section.first_multiplier,
        flatness_weight=section.flatness_weight,
        flatness_momentum=section.flatness_momentum,
        flatness_temperature=section.flatness_temperature,
        crop_scale=section.crop_scale,
        crop_curriculum=section.crop_curriculum,
        crop_milestone=section.crop_milestone,
        flip_probability=0.5 if config.dataset.flip and section.mirror else 0.0,
        jitter=section.jitter,
        tv_l1_weight=section.tv_l1_weight,
        tv_l2_weight=section.tv_l2_weight,
        l2_weight=section.l2_weight,
        diversity_weight=section.diversity_weight,
        diversity_temperature=section.diversity_temperature,
        patch_side=config.statistics.patch_side,
        verifier_touches_estimate=section.verifier_touches_estimate,
        verify_every=section.verify_every,
        verify_final=section.verify_final,
    )


def settings_of_unit(config: RunConfig, unit: WorkUnit) -> RecoverSettings:
    """In the official order only rank 0 verifies as it goes; the finished images every rank verifies."""
    settings = settings_of(config)
    elsewhere = config.recover.order == "official" and unit.key != rank_key(0)
    return replace(settings, verify_every=0) if elsewhere else settings
