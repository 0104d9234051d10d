from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.tables import reader_process
from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.data.real.parquet import read_parquet
from edc_ray.errors import ArtifactError, DataError, EdcRayError
from tests.artifacts.parquet_files import (
    child_of,
    hanging,
    prove_whole,
    sound,
    with_larger_page,
    with_one_long_value,
    written,
)

IMAGES = [bytes(np.random.default_rng(n).integers(0, 256, 3000, np.uint8)) for n in range(500)]
HONEST = pa.table(
    {
        "label": pa.array(np.arange(1000) % 7),
        "class_name": [f"class number {n}" * 4 for n in range(1000)],
        "image": IMAGES * 2,
        "nothing": pa.nulls(1000, pa.string()),
        "lists": [[float(n)] * (n % 3) for n in range(1000)],
        "structs": [{"bytes": b"a" * (n % 9), "path": None} for n in range(1000)],
    }
)
SEEDS = Path(__file__).parents[2] / "fuzz" / "corpus"


def run_script(folder: Path, text: str, **environment: str) -> subprocess.Popen[str]:
    """A program that knows `prove_whole` and `sound`, without a guard of its main module."""
    preface = "from tests.artifacts.parquet_files import child_of, hanging, prove_whole, sound\n"
    script = folder / "script.py"
    script.write_text(preface + text)
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root} | environment
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Decodes by another line, in a reader process of this test's own."""

    def use(line: str) -> None:
        monkeypatch.setattr(reader_process, "_PROGRAM", hanging(tmp_path, line))

    monkeypatch.setattr(reader_process, "_readers", {})
    yield use
    for reader in reader_process._readers.values():
        reader.stop()


def growth_of(call: Callable[[], object]) -> int:
    """KiB by which this process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def is_gone(process: int) -> bool:
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_honest_files_pass(compression: str, version: str) -> None:
    for options in ({}, {"row_group_size": 300}, {"use_dictionary": False}, {"data_page_size": 2000}):
        prove_whole(written(HONEST, compression=compression, data_page_version=version, **options))


def test_honest_files_of_ours_and_without_rows_pass() -> None:
    zeros = pa.table({"label": np.zeros(2**18, np.int64)})
    for table in (HONEST, HONEST.slice(0, 0), zeros, pa.table({})):
        prove_whole(table_to_bytes(table, rows_per_group=700))


def test_values_that_share_prefixes_are_read() -> None:
    table = HONEST.select(["class_name"])
    data = written(table, use_dictionary=False, column_encoding={"class_name": "DELTA_BYTE_ARRAY"})
    assert table_from_bytes(data, url="a.parquet").equals(table)


def test_values_that_share_prefixes_without_end_are_refused_by_name() -> None:
    """Each value repeats the one before: 100 MiB in some kilobytes."""
    table = pa.table({"x": pa.array([bytes(2**20)] * 100)})
    data = written(table, use_dictionary=False, column_encoding={"x": "DELTA_BYTE_ARRAY"})
    assert len(data) < 20_000

    def read() -> None:
        with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*bytes make \d{9} or more"):
            table_from_bytes(data, url="a.parquet")

    assert growth_of(read) < 2**15


def test_a_page_larger_than_its_column_is_refused_without_room_for_it() -> None:
    long = pa.table({"packed": pa.array([bytes(1000)] * 4000, pa.binary(1000))})
    liar = with_larger_page(written(long, use_dictionary=False, data_page_size=2**22), 0)

    def read() -> None:
        with pytest.raises(ArtifactError, match=r"a\.parquet is damaged"):
            table_from_bytes(liar, url="a.parquet")

    assert growth_of(read) < 2**15


@pytest.mark.parametrize("named", [True, False])
def test_a_long_value_that_many_rows_repeat_is_refused_by_name(named: bool) -> None:
    """2,000 rows of 1 MiB in a file of less than 20 KiB, whose footer claims 1 MiB."""
    data = written(with_one_long_value(2**20, 2000), dictionary_pagesize_limit=2**30, store_schema=named)
    assert len(data) < 20_000

    def read() -> None:
        with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*more memory than an honest"):
            table_from_bytes(data, url="a.parquet")

    assert growth_of(read) < 2**15


@pytest.mark.parametrize("wrapped", ["list", "struct"])
def test_a_dictionary_inside_other_values_is_counted_unpacked(wrapped: str) -> None:
    values = with_one_long_value(2**16, 2000).column(0).combine_chunks()
    if wrapped == "list":
        column = pa.ListArray.from_arrays(pa.array(np.arange(2001), pa.int32()), values)
    else:
        column = pa.StructArray.from_arrays([values], ["bytes"])
    table = pa.table({"x": column})
    prove_whole(written(table.slice(0, 500), dictionary_pagesize_limit=2**30))
    with pytest.raises(ValueError, match=r"bytes make \d{9} or more"):
        prove_whole(written(table, dictionary_pagesize_limit=2**30))


def test_a_dataset_with_such_pages_is_refused_by_name(tmp_path: Path) -> None:
    import fsspec

    filesystem, path = fsspec.filesystem("file"), str(tmp_path / "train.parquet")
    table = with_one_long_value(2**20, 2000).append_column("label", pa.array(np.zeros(2000, np.int64)))
    Path(path).write_bytes(written(table, dictionary_pagesize_limit=2**30, store_schema=False))
    images = read_parquet(filesystem, [path], path)
    with pytest.raises(DataError, match=r"(?s)cannot read .*train\.parquet.*more memory than an honest"):
        images.reader.read([0])
    label = written(HONEST.select(["image", "label"]), use_dictionary=False)
    Path(path).write_bytes(with_larger_page(label, 1))
    with pytest.raises(DataError, match=r"(?s)cannot read .*train\.parquet"):
        read_parquet(filesystem, [path], path)


def test_a_footer_that_ends_the_reader_process_is_refused_and_the_next_file_is_read() -> None:
    data = (SEEDS / "images" / "histogram_of_other_levels").read_bytes()
    with pytest.raises(ValueError, match="pyarrow ended its process"):
        reader_process.prove(len(data), [(0, data)], groups=())
    prove_whole(sound(0))


def test_row_groups_of_the_same_bytes_are_counted_each(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(pa.table({"x": np.random.default_rng(0).random(2**17)}), use_dictionary=False)
    metadata = pq.read_metadata(pa.BufferReader(data))
    for _ in range(3):
        metadata.append_row_groups(metadata)
    sink = io.BytesIO()
    metadata.write_metadata_file(sink)
    forged = data[: -8 - int.from_bytes(data[-8:-4], "little")] + sink.getvalue()[4:]
    monkeypatch.setattr(reader_process, "most_decoded", lambda _: 4 * 2**20)
    prove_whole(data)
    with pytest.raises(ValueError, match="or more, where 4194304 are the most"):
        prove_whole(forged)


def test_a_file_that_takes_too_long_ends_the_reader_process(other_program, monkeypatch) -> None:
    other_program("time.sleep(60)")
    monkeypatch.setattr(reader_process, "_SECONDS", 1)
    with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*not done with it after 1 seconds"):
        table_from_bytes(sound(0), url="a.parquet")


def test_a_process_that_grows_is_ended_where_the_system_sets_no_limit(other_program, monkeypatch) -> None:
    other_program("held = bytearray(b'1') * 2**29; time.sleep(60)")
    monkeypatch.setattr(reader_process, "_HAS_MEMORY_LIMIT", False)
    with pytest.raises(ValueError, match="SIGKILL"):
        prove_whole(sound(0))


def test_a_process_that_grows_is_stopped_by_the_limit_of_the_system(other_program) -> None:
    other_program("held = bytearray(b'1') * 2**29; time.sleep(60)")
    with pytest.raises(ValueError, match="more memory than an honest file"):
        prove_whole(sound(0))


def test_a_process_that_was_idle_and_ended_is_replaced(other_program, monkeypatch) -> None:
    other_program("pass\nreader_child._IDLE_SECONDS = 0.05")
    prove_whole(sound(0))
    first = child_of()
    time.sleep(0.5)
    prove_whole(sound(1))
    assert child_of() != first


def test_a_process_that_cannot_start_is_no_fault_of_the_file(other_program, monkeypatch) -> None:
    other_program("pass")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EdcRayError, match=r"(?s)does not start.*No module named 'pyarrow'") as caught:
        table_from_bytes(sound(0), url="a.parquet")
    assert not isinstance(caught.value, ArtifactError)


def test_files_share_a_process_and_each_is_proven_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prove_whole(first := sound(0))
    process = child_of()
    prove_whole(sound(1))
    assert child_of() == process
    monkeypatch.setattr(reader_process._Reader, "answer", lambda *_: pytest.fail("it was proven"))
    prove_whole(first)
    with pytest.raises(pytest.fail.Exception):
        prove_whole(sound(2))


def test_a_file_of_ours_is_read_without_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_process._Reader, "answer", lambda *_: pytest.fail("a file of ours"))
    assert table_from_bytes(written(HONEST), url="a", ours=True).equals(HONEST)


def test_the_process_has_no_credentials_and_no_home(monkeypatch: pytest.MonkeyPatch, other_program) -> None:
    monkeypatch.setattr(reader_process, "_readers", {})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    prove_whole(sound(0))
    environment = Path(f"/proc/{child_of()}/environ").read_bytes()
    names = {line.partition(b"=")[0] for line in environment.split(b"\0") if line}
    libraries = {b"PATH", b"LD_LIBRARY_PATH", b"LD_PRELOAD"}
    assert names <= libraries | {b"MALLOC_ARENA_MAX", b"ARROW_DEFAULT_MEMORY_POOL"}
    assert b"secret" not in Path(f"/proc/{child_of()}/cmdline").read_bytes()


def test_a_main_module_without_a_guard_runs_once_and_start_up_files_of_the_user_do_not_run(
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(f"open({str(started)!r}, 'a').write('x')")
    text = "print('begun')\nprove_whole(sound(0))\nprint('done')\n"
    path = f"{Path(__file__).parents[3]}:{tmp_path}"
    script = run_script(tmp_path, text, HOME="/nowhere", PYTHONPATH=path, PYTHONSTARTUP="nothing.py")
    assert script.communicate() == ("begun\ndone\n", "")
    assert started.read_text() == "x"  # of the script itself


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    text = f"""
from pathlib import Path
from edc_ray.artifacts.tables import reader_process
reader_process._PROGRAM = hanging(Path({str(tmp_path)!r}))
from threading import Thread
import time
def tell():
    while not reader_process._readers or not next(iter(reader_process._readers.values()))._child:
        time.sleep(0.05)
    time.sleep(1)
    print(child_of(), flush=True)
Thread(target=tell, daemon=True).start()
prove_whole(sound(0))
"""
    script = run_script(tmp_path, text)
    assert script.stdout is not None
    child = int(script.stdout.readline())
    script.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in script.communicate()[1]
    assert is_gone(child)


@pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_the_process_ends_with_its_parent(tmp_path: Path, ending: str) -> None:
    text = f"import os\nprove_whole(sound(0))\nprint(child_of(), flush=True)\n{ending}\n"
    script = run_script(tmp_path, text)
    told, wrong = script.communicate()
    assert wrong == ""
    assert is_gone(int(told))


def test_a_forked_process_has_a_child_of_its_own(tmp_path: Path) -> None:
    text = """
import os
prove_whole(sound(0))
mine = child_of()
forked = os.fork()
if not forked:
    prove_whole(sound(1))
    os._exit(child_of() == mine)
assert os.waitpid(forked, 0)[1] == 0
prove_whole(sound(2))
assert child_of() == mine
"""
    told, wrong = run_script(tmp_path, text).communicate()
    assert (told, wrong) == ("", "")


@pytest.mark.usefixtures("ray_of_tests")
def test_a_worker_of_ray_proves_files() -> None:
    import ray

    @ray.remote(num_cpus=1)
    def prove(data: bytes, hostile: bytes) -> str:
        prove_whole(data)
        try:
            prove_whole(hostile)
        except ValueError as error:
            return str(error)
        return "read"

    seed = (SEEDS / "images" / "nulls_of_a_megabyte").read_bytes()
    assert "401 bytes make 1048576" in ray.get(prove.remote(sound(0), seed))
