from __future__ import annotations

import pytest

from edc_ray.config.recipes import RECIPES
from tests.config.methods.changed_fields import of


@pytest.mark.parametrize("recipe", RECIPES)
def test_sre2l_and_cda_ask_one_network_about_its_batchnorms(recipe: str) -> None:
    for method in ("sre2l", "cda"):
        config = of(recipe, method)
        assert len(config.squeeze.observers) == 1
        assert (config.init.kind, config.recover.layers) == ("noise", ("bn",))
        assert config.recover.order == "ipc_major"
