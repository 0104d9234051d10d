"""One file of a condensed set is changed: a reader gets the same numbers, or learns which file it is."""

from __future__ import annotations

import resource
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.data.condensed.images import CondensedImages
from edc_ray.data.condensed.stream import CondensedDataset
from edc_ray.errors import EdcRayError
from tests.data.written_sets import write_images, write_labels
from tests.fuzz.mutations import damaged, vouched_for, with_another_cell, with_another_value
from tests.fuzz.test_readers import EXAMPLES, MAX_KIB, fuzzed

MAX_SECONDS = 20
Files = dict[str, bytes]


class HonestSet:
    """A set on this machine's disk; each example changes some of its files and then puts them back."""

    def __init__(self, root: Path, codec: str) -> None:
        self.store = open_store(str(root))
        write_labels(self.store, write_images(self.store), codec=codec)
        self.files: Files = {path: Path(root, path).read_bytes() for path in self.store.list()}
        self.result = read_as_a_user(self.store)

    def changed_to(self, files: Files) -> Store:
        for path, data in (self.files | files).items():
            Path(self.store.url, path).write_bytes(data)
        return self.store


@pytest.fixture(params=["fp16", "pca8_top1_q5"], scope="module")
def honest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HonestSet:
    return HonestSet(tmp_path_factory.mktemp("whole") / "set", request.param)


def read_as_a_user(store: Store) -> list[np.ndarray]:
    """All images, and all views and labels of all epochs."""
    images = CondensedImages(store.url)
    found = [images.images, images.labels, images.ipc_ids]
    for batch in CondensedDataset(store.url, batch_size=4, shuffle_seed=None, cache=None):
        found += [batch.image.numpy(), batch.logits.numpy(), batch.label.numpy()]
    return found


def outcome(store: Store) -> tuple[list[np.ndarray] | None, str, set[str]]:
    """The numbers, or what the user is told; and the files that `edc-ray verify` names."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems = {problem.path for problem in verify_run(store)}
        try:
            found, told = read_as_a_user(store), ""
        except EdcRayError as error:
            found, told = None, str(error)
    assert time.monotonic() - started < MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_KIB
    return found, told, problems


def are_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(np.array_equal(one, other) and one.dtype == other.dtype for one, other in pairs)


@st.composite
def one_file_damaged(draw: st.DrawFn, files: Files) -> tuple[str, bytes]:
    path = draw(st.sampled_from(sorted(files)))
    if path.endswith(".json") and draw(st.booleans()):
        return path, draw(with_another_value(files[path], forged=False))
    return path, draw(damaged(files[path]))


@dataclass(frozen=True, repr=False)
class Forged:
    """Files that vouch for each other. Hypothesis would show all their bytes."""

    files: Files


@st.composite
def one_file_forged(draw: st.DrawFn, files: Files) -> Forged:
    """A changed table with the record and manifest that vouch for it, or a manifest with another value."""
    path = draw(st.sampled_from([path for path in sorted(files) if "records" not in path]))
    if path.endswith(".json"):
        return Forged({path: draw(with_another_value(files[path]))})
    data = draw(st.one_of(with_another_cell(files[path]), damaged(files[path])))
    return Forged(vouched_for(files, path, data))


def check_damaged(honest: HonestSet, path: str, data: bytes) -> None:
    """The numbers of the honest set, or a refusal that names the file; and `verify` knows of it."""
    found, told, problems = outcome(honest.changed_to({path: data}))
    if found is None:
        assert honest.store.join(path) in told
    else:
        assert are_equal(found, honest.result)
    if path.endswith(".parquet") and data != honest.files[path]:
        assert found is None
        assert path in problems
    if found is None:
        assert path in problems


def check_forged(honest: HonestSet, files: Files) -> None:
    """Numbers that a student can be trained on, or a refusal that names the set or a file of it."""
    found, told, _ = outcome(honest.changed_to(files))
    if found is None:
        assert honest.store.url in told
    else:
        assert all(np.isfinite(one).all() for one in found)
        assert found[0].ndim == 4
        assert all(one.shape[1:] == found[0].shape[1:] for one in found[3::3])


def _each_forged(honest: HonestSet, examples: int) -> None:
    @fuzzed(examples)
    @given(one_file_forged(honest.files))
    def each(forged: Forged) -> None:
        check_forged(honest, forged.files)

    each()


def test_a_set_with_a_forged_file_gives_finite_numbers_or_is_refused(honest: HonestSet) -> None:
    _each_forged(honest, EXAMPLES)


@pytest.mark.nightly
def test_many_sets_with_a_forged_file(honest: HonestSet) -> None:
    _each_forged(honest, 100 * EXAMPLES)


def _each(honest: HonestSet, examples: int) -> None:
    @fuzzed(examples)
    @given(one_file_damaged(honest.files))
    def each(changed: tuple[str, bytes]) -> None:
        check_damaged(honest, *changed)

    each()


def test_a_set_with_a_damaged_file_gives_the_same_numbers_or_names_the_file(honest: HonestSet) -> None:
    _each(honest, EXAMPLES)


@pytest.mark.nightly
def test_many_sets_with_a_damaged_file(honest: HonestSet) -> None:
    _each(honest, 80 * EXAMPLES)


def test_a_file_that_is_not_there_is_named(honest: HonestSet) -> None:
    for path in honest.files:
        store = honest.changed_to({})
        Path(store.url, path).unlink()
        found, told, problems = outcome(store)
        if path.endswith(".parquet"):
            assert found is None
            assert f"{store.join(path)} is missing" in told
            assert path in problems
        elif "records" in path:  # the manifest repeats it
            assert found is not None
            assert are_equal(found, honest.result)
        else:
            assert f"is not complete in {store.url}" in told


@pytest.mark.parametrize(("before", "after"), [(b"[0.5,0.4,0.3]", b"[0.5,0.4,0.2]"), (b'"dog"', b'"dig"')])
def test_a_manifest_with_another_number_or_name_is_refused_by_name(
    honest: HonestSet, before: bytes, after: bytes
) -> None:
    path = "condensed/manifest.json"
    assert before in honest.files[path]
    found, told, problems = outcome(honest.changed_to({path: honest.files[path].replace(before, after)}))
    assert found is None
    assert f"{honest.store.join(path)} is damaged" in told
    assert problems == {path}
