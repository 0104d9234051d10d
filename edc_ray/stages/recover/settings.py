"""The settings of recover's loop, from a config."""

from __future__ import annotations

from edc_ray.config.run import RunConfig
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.stages.recover.plan import rank_key
from edc_ray.stages.units.plan import WorkUnit


def settings_of_unit(config: RunConfig, unit: WorkUnit) -> RecoverSettings:
    """The loop's settings of a unit.

    In the official order only rank 0 verifies as it goes; the finished images every rank verifies.
    """
    section = config.recover
    verifies = section.order != "official" or unit.key == rank_key(0)
    return section.model_copy(
        update={
            "mirror": section.mirror and config.dataset.flip,
            "verify_every": section.verify_every if verifies else 0,
        }
    )
