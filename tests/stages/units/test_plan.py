"""Work units: blocks, names and fingerprints."""

from __future__ import annotations

import pytest

from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import WorkUnit, blocks, span
from tests.stages.tiny_runs import tiny_context, units_of


@pytest.mark.parametrize(("total", "size"), [(10, 3), (9, 3), (1, 5), (0, 2)])
def test_blocks_of_any_size_cover_the_range_once_in_order(total: int, size: int) -> None:
    cut = list(blocks(total, size))
    assert [place for first, end in cut for place in range(first, end)] == list(range(total))
    assert all(end - first == size for first, end in cut[:-1])


def test_a_larger_total_leaves_full_blocks_alone() -> None:
    assert list(blocks(7, 3))[:2] == list(blocks(20, 3))[:2]


def test_span_of_one_and_of_many_names_both_ends() -> None:
    assert span("classes", 40, 50) == "classes 40-49"
    assert span("ipc", 3, 4) == "ipc 3"


def test_a_fingerprint_changes_with_the_config_the_work_and_the_inputs_only() -> None:
    unit = WorkUnit("init", "a", "a title", {"first": 0})
    whole = unit.fingerprinted("config", ["data"]).fingerprint
    same = WorkUnit("init", "other key", "other title", {"first": 0})
    assert same.fingerprinted("config", ["data"]).fingerprint == whole
    others = [
        unit.fingerprinted("other config", ["data"]),
        unit.fingerprinted("config", ["other data"]),
        WorkUnit("init", "a", "a title", {"first": 1}).fingerprinted("config", ["data"]),
    ]
    assert len({whole, *(other.fingerprint for other in others)}) == 4


def test_units_of_every_stage_have_keys_titles_and_fingerprints_of_their_own(finished: StageContext) -> None:
    for name in STAGES:
        units = units_of(finished, name)
        assert units
        for names in ([u.key for u in units], [u.title for u in units], [u.fingerprint for u in units]):
            assert len(set(names)) == len(units)


def test_units_of_a_run_do_not_depend_on_the_number_of_actors(finished: StageContext) -> None:
    root = finished.store.url.rsplit("/", 1)[0]
    other = tiny_context(root, cluster__num_actors=7, cluster__retries=0, cluster__cpus_per_actor=2)
    for name in STAGES:
        assert units_of(other, name) == units_of(finished, name)
