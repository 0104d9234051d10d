"""squeeze with observers that begin with weights of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import pytest
import safetensors.torch
import torch

from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.errors import ArtifactError, ConfigError, UnitsFailedError
from edc_ray.models.registry import build_network
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.import_official import import_statistics
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.recover.stage import load_targets
from edc_ray.stages.squeeze.stage import starting_network
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import manifest_of, new_root, run_until, tiny_context

NAME = "convnet_d1"


def _stored(context: StageContext, folder: Path) -> dict[str, str]:
    """The observer of a run as a file, for `squeeze.weights`."""
    data = context.store.read(f"{stage_folder('squeeze')}/{NAME}.safetensors")
    return _file(data, folder / "observer.safetensors")


def _file(data: bytes, path: Path) -> dict[str, str]:
    path.write_bytes(data)
    return {"url": str(path), "sha256": hashlib.sha256(data).hexdigest()}


def _other_classes(folder: Path, count: int = 5) -> dict[str, str]:
    """Weights that know other classes and do not name them."""
    network = build_network(NAME, num_classes=count, image_size=8, channels=1, seed=3)
    return _file(safetensors.torch.save(dict(network.state_dict())), folder / "other.safetensors")


def _context(weights: Any, root: str | None = None, **fields: Any) -> StageContext:
    given = {"squeeze__observers": [NAME], "squeeze__epochs": 0, "squeeze__weights": {NAME: weights}}
    return tiny_context(root, **given | fields)


def test_an_observer_of_another_run_is_taken_as_it_is(finished: StageContext, tmp_path: Path) -> None:
    source = _stored(finished, tmp_path)
    context = _context(source)
    run_until(context, "squeeze")
    assert context.observer_digests([NAME]) == finished.observer_digests([NAME])
    (taken,) = manifest_of(context, "squeeze").records
    trained = next(one for one in manifest_of(finished, "squeeze").records if one.unit == NAME)
    assert (taken.meta["top1"], taken.meta["curves"]) == (trained.meta["top1"], {})
    assert taken.meta["pretrained"] == {"source": source["url"], "sha256": source["sha256"], "head": "kept"}


def test_fine_tuning_starts_from_the_weights(finished: StageContext, tmp_path: Path) -> None:
    source = _stored(finished, tmp_path)
    digests = {
        epochs: _squeezed(_context(source, squeeze__epochs=epochs, squeeze__learning_rate=rate))
        for epochs, rate in ((0, 0.1), (1, 1e-12), (2, 0.1))
    }
    state, unmoved, moved = (digests[epochs] for epochs in (0, 1, 2))
    assert all(torch.allclose(unmoved[key], state[key], atol=1e-8) for key in state)
    assert not torch.allclose(moved["classifier.weight"], state["classifier.weight"], atol=1e-4)


def _squeezed(context: StageContext) -> dict[str, torch.Tensor]:
    run_until(context, "squeeze")
    return context.observer(NAME).state_dict()


def test_a_head_of_other_classes_is_refused_untrained_and_fresh_trained(tmp_path: Path) -> None:
    source = _other_classes(tmp_path)
    with pytest.raises(UnitsFailedError, match=r"5 classes(.|\n)*expected: 3 classes(.|\n)*head_classes"):
        run_until(_context(source), "squeeze")
    context = _context(source, squeeze__epochs=1)
    run_until(context, "squeeze")
    assert manifest_of(context, "squeeze").records[0].meta["pretrained"]["head"] == "fresh"


def test_chosen_classes_of_a_larger_head_are_the_observers_logits(tmp_path: Path) -> None:
    context = _context(_other_classes(tmp_path), squeeze__head_classes=[4, 0, 2])
    whole = build_network(NAME, num_classes=5, image_size=8, channels=1, seed=3)
    network, facts = starting_network(context, NAME)
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(network(images), whole(images)[:, [4, 0, 2]], rtol=0, atol=1e-6)
    assert facts["pretrained"]["head"] == "chosen"


def test_a_file_with_another_hash_is_refused_and_a_remote_one_stops_its_observer(
    finished: StageContext, tmp_path: Path
) -> None:
    source = _stored(finished, tmp_path) | {"sha256": "0" * 64}
    with pytest.raises(ArtifactError, match="have another hash"):
        _context(source)
    remote = f"memory://{tmp_path.name}/observer.safetensors"
    fsspec.filesystem("memory").pipe_file(remote, Path(source["url"]).read_bytes())
    with pytest.raises(UnitsFailedError, match="have another hash"):
        run_until(_context(source | {"url": remote}), "squeeze")


def test_the_place_of_a_file_changes_nothing_and_its_content_changes_the_observer(
    finished: StageContext, tmp_path: Path
) -> None:
    root, source = new_root(), _stored(finished, tmp_path)
    run_until(_context(source, root), "squeeze")
    moved = str(tmp_path / "moved")
    Path(source["url"]).rename(moved)
    (again,) = run_until(_context(source | {"url": moved}, root), "squeeze")
    assert (again.units_done, again.units_reused) == (0, 1)
    (other,) = run_until(_context(_other_classes(tmp_path, 3), root), "squeeze")
    assert (other.units_done, other.units_reused) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"squeeze__head_classes": [0, 1]}, "2 indices(.|\n)*3, one for each class"),
        ({"squeeze__weights": {"resnet18": "torchvision"}, "squeeze__observers": ["resnet18"],
          "dataset__image_size": 32}, "1000 classes(.|\n)*3 classes"),
        ({"squeeze__weights": {}, "squeeze__epochs": 1, "squeeze__head_classes": [0, 1, 2]}, "no pretrained"),
    ],
)  # fmt: skip
def test_classes_that_do_not_fit_are_refused_before_work(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _context({"url": "nowhere", "sha256": "0" * 64}, **fields)


OWN = """
from torch import nn

def net(num_classes, image_size, channels):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(4 * (image_size - 2)**2, num_classes))

def linear(num_classes, image_size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "networks_of_a_user"


def test_an_own_network_without_batchnorm_is_observer_and_student_of_a_whole_run(own: str) -> None:
    context = tiny_context(
        squeeze__observers=[f"{own}:net"], evaluate__students=[f"{own}:net"], evaluate__rows=["condensed"],
        evaluate__seeds=1,
    )  # fmt: skip
    run_pipeline(context)
    assert [shard.path for shard in manifest_of(context, "squeeze").shards] == [f"{own}=3Anet.safetensors"]
    (result,) = manifest_of(context, "evaluate").records
    assert (result.unit, result.meta["result"]["student"]) == (
        f"condensed_{own}=3Anet_seed-000", f"{own}:net",
    )  # fmt: skip


@pytest.mark.parametrize("fields", [{"observer": "linear"}, {"observer": "net", "recover__layers": ["bn"]}])
def test_an_observer_in_which_nothing_can_be_matched_is_refused_before_work(own: str, fields: dict) -> None:
    name = f"{own}:{fields.pop('observer')}"
    with pytest.raises(ConfigError, match=f"cannot match observer '{name}'"):
        tiny_context(squeeze__observers=[name], **fields)
    tiny_context(squeeze__observers=[name], **fields, recover__enabled=False)


def test_statistics_of_an_own_network_are_taken_from_a_run_and_imported_from_a_tree(own: str) -> None:
    name, tree, imported = f"{own}:net", new_root(), new_root()
    fields = {"squeeze__observers": [name], "recover__variance": "official"}
    collected = tiny_context(**fields)
    run_until(collected, "statistics")
    export_run(collected.store.url, tree, ExportOptions(parts=["statistics"]))
    import_statistics(collected.config, f"{tree}/statistics", imported)
    expected = load_targets(collected, name)["0"]
    for url in (collected.store.url, imported):
        taken = tiny_context(**fields, statistics__source=url)
        run_until(taken, "statistics")
        targets = load_targets(taken, name)["0"]
        assert targets.classes is not None
        assert expected.classes is not None
        assert torch.equal(targets.classes.channel_variance, expected.classes.channel_variance)
        assert torch.equal(targets.global_.channel_mean, expected.global_.channel_mean)
