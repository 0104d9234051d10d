from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edc_ray.artifacts.storage.store import Store
from edc_ray.cluster.actors import _warn_if_it_fails
from edc_ray.errors import StorageError


def test_the_driver_says_that_storage_fails_while_workers_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        _warn_if_it_fails(store)
        assert not caplog.messages

        def full(*_: object, **__: object) -> bool:
            raise StorageError("cannot write a", found="OSError: no space left")

        monkeypatch.setattr(Store, "publish", full)
        _warn_if_it_fails(store)
    (told,) = caplog.messages
    assert told == (
        "storage fails: cannot write a (OSError: no space left); workers keep their results and try again"
    )
