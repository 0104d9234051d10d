from __future__ import annotations

from tests.config.methods.changed_fields import changed, of


def test_cda_is_sre2l_with_a_curriculum() -> None:
    assert changed(of("imagenet1k", "sre2l"), of("imagenet1k", "cda")) == {
        "method",
        "recover.crop_curriculum",
    }
    tiny = of("tiny_imagenet", "cda").recover
    assert (tiny.learning_rate, tiny.matching_weight) == (0.4, 0.05)
