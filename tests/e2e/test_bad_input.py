"""What a user can get wrong: a clear error, status 2, and no work started."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from edc_ray.artifacts.storage.layout import MANIFEST_NAME
from edc_ray.config.load import load_recipe
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.real.images import DenseImages
from edc_ray.launch import launch
from tests.data.made_images import synthetic_images, write_image_folder, write_parquet
from tests.data.planted import Planted
from tests.e2e.command_line import TINY_SETTINGS, CommandLine, Ended

Run = Callable[..., Ended]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def run(shown: CommandLine, tmp_path: Path) -> Run:
    """`edc-ray run digits` with tiny settings and its own storage, without Ray."""

    def run(*overrides: str) -> Ended:
        return shown("run", "digits", *TINY_SETTINGS, f"storage.root={tmp_path / 'runs'}", *overrides)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound folder of 8x8 images, eight of each of three classes."""
    write_image_folder(synthetic_images(3, 8, 8, 3), str(tmp_path / "images"))
    return tmp_path / "images"


@pytest.fixture
def no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Asserts that nothing was computed or recorded."""
    started: list[object] = []
    monkeypatch.setattr("edc_ray.stages.pipeline.run_stage", lambda *words: started.append(words))

    def check() -> None:
        assert not started
        assert not [path for path in tmp_path.rglob("*.json") if path.parent != tmp_path]

    return check


def _refused(ended: Ended, kind: str, *words: str) -> None:
    assert ended.status == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith(f"{kind}: ") or f"\n{kind}: " in ended.err
    for word in words:
        assert word in ended.err
    # At least one of the further parts of a message: what was found, what was expected, what to do.
    assert any(part in ended.err for part in ("\n  found:", "\n  expected:", "\n  next:", "Did you mean"))
    assert "Traceback" not in ended.err


def _mine(folder: Path | str) -> tuple[str, str]:
    return f"dataset.train={folder}", "dataset.name=mine"


def test_missing_images(run: Run, no_work: Callable[[], None], folder: Path) -> None:
    _refused(run(*_mine(folder / "nowhere")), "DataError", "nothing at", "nowhere", "dataset.train")
    ended = run(*_mine(folder), f"dataset.val={folder.parent / 'no-val'}")
    _refused(ended, "DataError", "nothing at", "no-val")
    no_work()


def test_an_empty_dataset(run: Run, no_work: Callable[[], None], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    _refused(run(*_mine(tmp_path / "images")), "DataError", "images")
    empty = DenseImages(np.zeros((0, 3, 8, 8), np.uint8), [], ["a", "b"])
    write_parquet(empty, str(tmp_path / "empty.parquet"))
    _refused(run(*_mine(tmp_path / "empty.parquet")), "DataError", "empty.parquet")
    no_work()


@pytest.mark.parametrize("harm", ["truncated", "not an image"])
def test_a_corrupt_image(run: Run, no_work: Callable[[], None], folder: Path, harm: str) -> None:
    path = folder / "class1" / "00012.png"
    path.write_bytes(path.read_bytes()[:-30] if harm == "truncated" else b"not an image at all")
    _refused(run(*_mine(folder)), "DataError", "00012.png")
    no_work()


def test_a_class_with_no_image(run: Run, no_work: Callable[[], None], folder: Path) -> None:
    for path in (folder / "class1").iterdir():
        path.unlink()
    ended = run(*_mine(folder), "dataset.class_names=[class0,class1,class2]")
    _refused(ended, "DataError", "class1")
    images = synthetic_images(3, 8, 8, 3)
    write_parquet(images.subset(np.flatnonzero(images.labels != 1)), str(folder.parent / "two.parquet"))
    _refused(run(*_mine(folder.parent / "two.parquet")), "DataError", "class1", "no image")
    no_work()


def test_a_single_class(run: Run, no_work: Callable[[], None], tmp_path: Path) -> None:
    write_image_folder(synthetic_images(1, 8, 8, 3), str(tmp_path / "images"))
    _refused(run(*_mine(tmp_path / "images")), "DataError", "single class", "two classes or more")
    no_work()


def test_a_validation_set_of_other_classes(run: Run, no_work: Callable[[], None], folder: Path) -> None:
    write_image_folder(synthetic_images(4, 4, 8, 3), str(folder.parent / "val"))
    ended = run(*_mine(folder), f"dataset.val={folder.parent / 'val'}")
    _refused(ended, "DataError", "different classes", "'class3'")
    no_work()


def test_ipc_zero(run: Run, no_work: Callable[[], None]) -> None:
    _refused(run("ipc=0"), "ConfigError", "'ipc'", "greater than or equal to 1")
    no_work()


def test_ipc_above_the_class_size_with_real_initial_images(
    run: Run, no_work: Callable[[], None], folder: Path
) -> None:
    ended = run(*_mine(folder), "init.kind=real", "ipc=8")
    _refused(ended, "DataError", "class 'class0' has fewer images than ipc", "6 training", "init.replacement")
    no_work()


def test_an_unknown_recipe_or_stage(shown: CommandLine, no_work: Callable[[], None]) -> None:
    _refused(shown("run", "digitz"), "ConfigError", "unknown recipe 'digitz'", "Did you mean 'digits'?")
    _refused(shown("stage", "recovr", "digits"), "ConfigError", "unknown stage 'recovr'", "recover")
    no_work()


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("recover.learning_rat=1", "recover.learning_rate"), ("reciver.iterations=1", "recover.iterations")],
)
def test_an_unknown_field(run: Run, no_work: Callable[[], None], override: str, nearest: str) -> None:
    _refused(run(override), "ConfigError", override.split("=")[0], f"Did you mean '{nearest}'?")
    no_work()


@pytest.mark.parametrize("field", ["squeeze.observers", "evaluate.students"])
def test_an_unknown_observer_or_student(run: Run, no_work: Callable[[], None], field: str) -> None:
    _refused(run(f"{field}=[resnet18_smal]"), "ConfigError", "'resnet18_smal'", "resnet18_small")
    no_work()


def test_an_observer_that_is_not_squeezed(run: Run, no_work: Callable[[], None]) -> None:
    ended = run("relabel.observers=[wrn_16_2]")
    _refused(ended, "ConfigError", "relabel.observers", "wrn_16_2", "squeeze.observers")
    no_work()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ipc=many", ("'ipc'", "'many'", "integer")),
        ("ipc=1.5", ("'ipc'", "1.5")),
        ("squeeze.observers={a: 1}", ("squeeze.observers", "'a'")),
        ("recover.learning_rate=fast", ("recover.learning_rate", "'fast'", "number")),
        ("recover.learning_rate=.nan", ("recover.learning_rate",)),
        ("recover.enabled=maybe", ("recover.enabled", "'maybe'")),
        ("evaluate.rows=[condensed,best]", ("evaluate.rows", "'best'", "random_hard")),
        ("init.kind=[a", ("init.kind", "[a")),
        ("just-words", ("just-words", "section.field=value")),
    ],
)
def test_a_wrong_type(run: Run, no_work: Callable[[], None], override: str, words: tuple[str, ...]) -> None:
    _refused(run(override), "ConfigError", *words)
    no_work()


def test_a_config_file_that_is_missing_or_no_config(
    shown: CommandLine, no_work: Callable[[], None], tmp_path: Path
) -> None:
    _refused(shown("run", "--config", str(tmp_path / "no.yaml")), "ConfigError", "no.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    _refused(shown("run", "--config", str(tmp_path / "list.yaml")), "ConfigError", "list.yaml", "sections")
    no_work()


def test_storage_that_cannot_be_written(run: Run, no_work: Callable[[], None], tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    _refused(run(f"storage.root={tmp_path / 'a-file' / 'runs'}"), "ArtifactError", "a-file")
    no_work()


def test_storage_of_a_kind_nobody_knows(run: Run, no_work: Callable[[], None]) -> None:
    ended = run("storage.root=nosuchkind://bucket/runs")
    assert ended.status == 2
    assert "nosuchkind" in ended.err
    assert "Traceback" not in ended.err
    no_work()


def test_a_truncated_parquet_file_of_images(run: Run, no_work: Callable[[], None], tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(synthetic_images(3, 8, 8, 3), str(path))
    path.write_bytes(path.read_bytes()[:-100])
    _refused(run(*_mine(path)), "DataError", "train.parquet")
    no_work()


# A run that exists already.


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    write_image_folder(synthetic_images(3, 8, 8, 3), str(place / "images"))
    words = (*TINY_SETTINGS, f"storage.root={place}", *_mine(place / "images"), "evaluate.rows=[condensed]")
    launch(load_recipe("digits", words), STAGE_NAMES)
    return place / "digits"


@pytest.fixture
def made(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in the storage of `run`."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "digits"))


def _contents(place: Path) -> dict[str, bytes]:
    names = ("events.jsonl", "report")
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.relative_to(place).parts[0] not in names
    }


def test_a_run_folder_of_another_config(run: Run, made: Path, folder: Path) -> None:
    before = _contents(made)
    ended = run(*_mine(folder), "evaluate.rows=[condensed]", "seed=3", "recover.iterations=5")
    _refused(ended, "ConfigError", "made by another config", "seed=0", "seed=3", "run.name")
    ended = run(
        *_mine(folder), "evaluate.rows=[condensed]", "recover.iterations=5", "recover.betas=[0.1,0.2]"
    )
    _refused(ended, "ConfigError", "recover.iterations=2", "recover.iterations=5", "recover.betas=[0.1, 0.2]")
    assert _contents(made) == before


@pytest.mark.parametrize("stage_folder", ["condensed", "init", "labels"])
def test_a_truncated_shard_of_a_stage_that_is_needed(
    shown: CommandLine, made: Path, folder: Path, stage_folder: str
) -> None:
    shard = next((made / stage_folder).glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-40])
    for path in (made / "results").rglob("*"):
        if path.is_file():
            path.unlink()
    words = (*TINY_SETTINGS, f"storage.root={made.parent}", *_mine(folder), "evaluate.rows=[condensed]")
    _refused(shown("stage", "evaluate", "digits", *words), "ArtifactError", "not complete", "edc-ray verify")
    assert not (made / "results" / MANIFEST_NAME).exists()
    verified = shown("verify", str(made))
    assert verified.status == 1
    assert f"{stage_folder}/{shard.name}" in verified.out


def test_a_truncated_shard_is_made_again_by_a_run(run: Run, made: Path, folder: Path) -> None:
    before = _contents(made)
    shard = next((made / "condensed").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-40])
    assert run(*_mine(folder), "evaluate.rows=[condensed]").status == 0
    after = _contents(made)
    assert after.keys() == before.keys()
    # Records and manifests hold times, run.yaml the place of the images.
    shards = [name for name in before if not name.endswith((".json", ".yaml"))]
    assert [name for name in shards if after[name] != before[name]] == []


@pytest.mark.parametrize("kind", ["manifest", "record"])
def test_a_manifest_or_record_of_a_newer_schema(run: Run, made: Path, folder: Path, kind: str) -> None:
    path = made / "condensed" / MANIFEST_NAME
    if kind == "record":
        path.unlink()
        path = next((made / "condensed" / "records").glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b'"schema_version":1', b'"schema_version":2'))
    newer = path.read_bytes()
    ended = run(*_mine(folder), "evaluate.rows=[condensed]")
    _refused(ended, "ArtifactError", "written by a newer edc-ray", "schema version 2", "upgrade")
    assert path.read_bytes() == newer


def test_a_stage_without_the_stages_it_needs(shown: CommandLine, folder: Path, tmp_path: Path) -> None:
    words = (*TINY_SETTINGS, f"storage.root={tmp_path / 'runs'}", *_mine(folder))
    ended = shown("stage", "recover", "digits", *words)
    _refused(ended, "ArtifactError", "squeeze: no complete artifact", "edc-ray stage squeeze")
    assert not list((tmp_path / "runs").rglob(MANIFEST_NAME))


def test_verifying_what_is_no_run(shown: CommandLine, tmp_path: Path) -> None:
    _refused(shown("verify", str(tmp_path / "nothing")), "ConfigError", "no run at", "nothing")


def test_a_corrupt_image_in_memory_is_named_by_its_row(run: Run, no_work: Callable[[], None]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG")
    cells = [{"bytes": buffer.getvalue(), "path": None}] * 5 + [{"bytes": b"no image", "path": None}]
    url = "memory://bad-input/corrupt.parquet"
    with fsspec.open(url, "wb") as file:
        pq.write_table(pa.table({"image": cells, "label": [0, 1, 0, 1, 0, 1]}), file)
    _refused(run(*_mine(url)), "DataError", "corrupt.parquet", "5")
    no_work()


# What another program or another run made; official files do not say all of their dataset.
KNOWN = (
    "dataset.class_names=[class0,class1,class2]", "dataset.num_classes=3", "dataset.image_size=8",
    "dataset.channels=3", "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.2,0.2,0.2]",
)  # fmt: skip


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluate.learning_rates={resnet18_smal: 0.1}", ("evaluate.learning_rates", "resnet18_small")),
        ("evaluate.learning_rates={convnet_d1: 0}", ("evaluate.learning_rates.convnet_d1", "greater than 0")),
        ("evaluate.batch_size=7", ("evaluate.order=groups", "a step of 7 images", "relabel.mix_group=10")),
    ],
)
def test_rates_and_steps_of_students_that_cannot_be(
    run: Run, no_work: Callable[[], None], override: str, words: tuple[str, ...]
) -> None:
    _refused(run("evaluate.order=groups", override), "ConfigError", *words)
    no_work()


def test_weights_that_are_not_those_that_were_asked_for(
    run: Run, finished_run: Path, no_work: Callable[[], None]
) -> None:
    weights = finished_run / "squeeze" / "convnet_d1.safetensors"
    ended = run(f"squeeze.weights={{convnet_d1: {{url: {weights}, sha256: '{'0' * 64}'}}}}")
    _refused(ended, "ArtifactError", "have another hash", str(weights))
    no_work()


@pytest.mark.parametrize("field", ["recover.iterations=9", "ipc=2", "init.source=RUN"])
def test_stored_labels_of_other_images_than_the_run_will_have(
    run: Run, finished_run: Path, folder: Path, field: str
) -> None:
    field = field.replace("RUN", str(finished_run))
    ended = run(*_mine(folder), f"relabel.source={finished_run}", field)
    _refused(ended, "ArtifactError", "of another image set", str(finished_run), "recover.enabled=false")


def test_labels_exported_for_another_batch_than_their_mixing_groups(
    shown: CommandLine, finished_run: Path, tmp_path: Path
) -> None:
    words = ("export", str(finished_run), str(tmp_path / "out"), "--only", "labels", "--batch-size", "2")
    _refused(shown(*words), "ArtifactError", "mixed in other groups", "relabel.mix_group=2")
    assert not list((tmp_path / "out").rglob("*.tar"))


@pytest.fixture
def official(shown: CommandLine, finished_run: Path, tmp_path: Path) -> Path:
    """The finished run as the official programs would keep it."""
    assert shown("export", str(finished_run), str(tmp_path / "official")).status == 0
    return tmp_path / "official"


def test_an_official_tree_of_statistics_with_missing_files(
    shown: CommandLine, official: Path, folder: Path, tmp_path: Path
) -> None:
    tree, words = official / "statistics", (*TINY_SETTINGS, *_mine(folder), *KNOWN)
    lost = next(tree.rglob("class_1/*/running.npz"))
    lost.unlink()
    ended = shown("import-statistics", str(tree), str(tmp_path / "imported"), "digits", *words)
    _refused(ended, "ArtifactError", "missing", str(lost.relative_to(tree)))
    assert not [path for path in (tmp_path / "imported").rglob("*") if path.is_file()]


def test_a_pickle_planted_among_official_labels_is_not_run(
    shown: CommandLine, official: Path, folder: Path, tmp_path: Path
) -> None:
    batch = official / "labels" / "epoch_1" / "batch_0.tar"
    items = torch.load(batch, weights_only=False)  # written by this test's own export
    torch.save([*items[:3], Planted(tmp_path / "owned"), *items[4:]], batch)
    words = ("--labels", str(official / "labels"), *TINY_SETTINGS, *_mine(folder), *KNOWN)
    ended = shown("import", str(official / "images"), str(tmp_path / "imported"), "digits", *words)
    _refused(ended, "ArtifactError", "batch_0.tar is not an official label file", "mkdir")
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "imported" / "labels" / MANIFEST_NAME).exists()
