"""Methods as values: each is a function from a config to a config, a point of one design space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edc_ray.config.run import RunConfig


def edc(config: RunConfig) -> RunConfig:
    """EDC as we believe it best and sound (Shao et al., NeurIPS 2024, arXiv:2404.13733).

    Deviations from the shipped scripts: running estimates start at the first batch instead of 0 and
    do not leak from one work unit into the next; variances of the targets are those of all pixels;
    images are rounded, not truncated, and stored without loss.
    """
    return _with(
        config,
        method="edc",
        recover={
            "enabled": True, "layers": ("bn", "conv"), "category_aware": "global", "global_weight": 0.5,
            "class_weight": 0.5, "statistic_momentum": 0.8, "estimate_start": "first", "variance": "pooled",
            "order": "blocks", "carry": "reset", "image_rounding": "round", "image_format": "png",
            "verifier_touches_estimate": False,
        },
        init={"replacement": False, "mosaic_order": "edc"},
        relabel={"mix": "cutmix", "label_norm": "none"},
        evaluate={"loss": "mse_ce", "ce_weight": 0.025, "smoothing_factor": 2.0, "ema_decay": 0.99},
    )  # fmt: skip


def edc_official(config: RunConfig) -> RunConfig:
    """EDC as the official scripts run it, with their order of work and their carried state."""
    return _with(
        edc(config),
        method="edc_official",
        recover={
            "estimate_start": "zero", "variance": "official", "order": "official", "carry": "chain",
            "image_rounding": "trunc", "verifier_touches_estimate": True,
        },
        init={"replacement": True},
    )  # fmt: skip


def rded(config: RunConfig) -> RunConfig:
    """RDED (Sun et al., CVPR 2024): mosaics of well classified crops are the condensed images."""
    return _with(
        edc(config),
        method="rded",
        init={"kind": "mosaic", "mosaic_order": "rded"},
        recover={"enabled": False},
        evaluate={"loss": "kl", "temperature": 20.0, "ema_decay": 0.0},
    )


METHODS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "edc": edc,
    "edc_official": edc_official,
    "rded": rded,
}


def _with(config: RunConfig, *, method: str, **sections: dict[str, Any]) -> RunConfig:
    update: dict[str, Any] = {"method": method}
    for name, fields in sections.items():
        update[name] = getattr(config, name).model_copy(update=fields)
    return config.model_copy(update=update)
