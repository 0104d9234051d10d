"""An export is whole or says that it is not, has the same bytes each time, and can be imported."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.export.options import ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root

WITH_CARD: tuple[Format, ...] = ("huggingface", "imagefolder", "webdataset")
ALL: tuple[Format, ...] = (*WITH_CARD, "official", "rded")


def contents(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list()}


def exported(url: str, format: Format, **options: Any) -> Store:
    dest = new_root()
    export_run(url, dest, ExportOptions(format, **options), dataset_card)
    return open_store(dest)


@pytest.mark.parametrize("format", WITH_CARD)
def test_the_manifest_names_every_file_and_its_hash(finished: StageContext, format: Format) -> None:
    store = exported(finished.store.url, format)
    stated = json.loads(store.read("edc_ray.json"))
    found = contents(store)
    del found["edc_ray.json"]
    assert stated["files"] == {
        path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in found.items()
    }
    assert stated["format"] == format
    assert finished.store.url.encode() not in b"".join(contents(store).values())


class Killed(BaseException):
    """An error that kills a writer: no `except Exception` catches it."""


@pytest.mark.parametrize("format", ALL)
def test_an_export_that_dies_at_any_file_is_completed_by_the_same_command(
    finished: StageContext, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: Any = {"official": ["images", "labels"]}.get(format)
    whole = contents(exported(finished.store.url, format, parts=parts))
    publish, dest, life = Store.publish, new_root(), [0]

    def dying(self: Store, path: str, data: bytes, *, replace: bool = False) -> bool:
        life[0] -= "probe" not in path
        if life[0] < 0:
            raise Killed
        return publish(self, path, data, replace=replace)

    monkeypatch.setattr(Store, "publish", dying)
    for life[0] in range(len(whole) + 3):
        try:
            export_run(finished.store.url, dest, ExportOptions(format, parts=parts), dataset_card)
        except Killed:
            there = contents(open_store(dest, writable=False))
            assert all(there[path] == whole[path] for path in there.keys() & whole.keys())
            assert "edc_ray.json" not in there or there.keys() >= whole.keys()
        except ConfigError:  # official parts that are complete are not written again
            break
    life[0] = 10**6
    assert contents(open_store(dest)) == whole


@pytest.mark.parametrize("format", ALL)
def test_a_folder_that_holds_something_is_left_as_it_is(finished: StageContext, format: Format) -> None:
    store = open_store(new_root())
    store.publish("images/mine.txt", b"mine")
    with pytest.raises(ConfigError, match="is not empty"):
        export_run(finished.store.url, store.url, ExportOptions(format), dataset_card)
    assert contents(store) == {"images/mine.txt": b"mine"}


def test_another_export_of_the_same_run_is_something_else(finished: StageContext) -> None:
    store = exported(finished.store.url, "huggingface")
    before = contents(store)
    with pytest.raises(ConfigError, match="is not empty"):
        export_run(finished.store.url, store.url, ExportOptions("huggingface", license="other"), dataset_card)
    assert contents(store) == before


def test_a_damaged_image_ends_an_export_with_its_name(finished: StageContext, copied: Any) -> None:
    context = copied("evaluate")
    path = "condensed/classes-00001-00001_ipc-00000-00001.parquet"
    context.store.publish(path, context.store.read(path)[:-1] + b"?", replace=True)
    dest = new_root()
    with pytest.raises(ArtifactError, match=r"classes-00001-00001.*\.parquet is damaged"):
        export_run(context.store.url, dest, ExportOptions("imagefolder"), dataset_card)
    assert not open_store(dest).exists("edc_ray.json")


def test_a_set_without_students_or_labels_has_a_card_too(copied: Any) -> None:
    context = copied("relabel", "evaluate")
    card = exported(context.store.url, "huggingface").read("README.md").decode()
    assert "No student was trained" in card
    assert 'config_name": "labels' not in card
