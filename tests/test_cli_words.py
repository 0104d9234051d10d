"""What a user types: recipes, fields and config files, and what the command line says of mistakes in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from edc_ray.cli import app
from edc_ray.config.load import load_yaml
from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES
from tests.e2e.command_line import CommandLine
from tests.test_cli import tiny

COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("COLUMNS", "120")
    return CommandLine(monkeypatch, capsys)


def test_a_shown_config_given_back_as_a_file_is_the_same_config(ask: CommandLine, tmp_path: Path) -> None:
    first = ask("show-config", "digits", "method=rded", "recover.iterations=7")
    assert (first.status, first.err) == (0, "")
    assert load_yaml(first.out).recover.iterations == 7
    (tmp_path / "run.yaml").write_text(first.out)
    assert ask("show-config", "--config", str(tmp_path / "run.yaml")) == first
    other = ask("show-config", "--config", str(tmp_path / "run.yaml"), "recover.iterations=8")
    assert other.out == first.out.replace("iterations: 7", "iterations: 8")


def test_recipes_are_listed_with_the_row_each_aims_at(ask: CommandLine) -> None:
    answer = ask("recipes")
    assert answer.status == 0
    recipes, methods = answer.out.split("\n\nmethod=\n")
    assert [line.split()[0] for line in recipes.splitlines()] == list(RECIPES)
    assert [line.split()[0] for line in methods.splitlines()] == list(METHODS)
    assert "79.1" in answer.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show-config", "cifar1"], "unknown recipe 'cifar1'. Did you mean 'cifar10'?"),
        (["show-config", "digits", "recover.iteration=3"], "Did you mean 'recover.iterations'?"),
        (["show-config", "digits", "method=rdet"], "unknown method 'rdet'. Did you mean 'rded'?"),
        (["stage", "recovr", "digits"], "unknown stage 'recovr'. Did you mean 'recover'?"),
        (["run", "digits", "ipc=0"], "config field 'ipc' cannot be used"),
        (["run", "digits", "recover.iterations=many"], "config field 'recover.iterations' cannot be used"),
        (["run", "digits", "iterations"], "override 'iterations' is not understood"),
        (["run", "digits", "recover.iterations", "5"], "expected: recover.iterations=VALUE"),
        (["run", "digits", "-ipc=5"], "expected: ipc=VALUE"),
        (["run", "Digits"], "Did you mean 'digits'?"),
        (["run", "pyproject.toml"], "next:     for the config in it: --config pyproject.toml"),
        (["run", "tests/runs/run_of_f7d5578"], "--config tests/runs/run_of_f7d5578/run.yaml"),
        (["stage", "digits", "recover"], "'digits' is a recipe\n  expected: STAGE digits"),
        (["run", "digits", "device=cuda:7"], "CUDA_VISIBLE_DEVICES=7 chooses the GPU"),
        (["run", "digits", "device=gpu"], "Input should be auto, cpu, cuda or mps\n"),
        (["run"], "no recipe is given"),
        (["run", "ipc=3"], "no recipe is given"),
        (["run", "digits", "--config", "run.yaml"], "both a recipe and --config are given"),
        (["run", "--config", "/nowhere/run.yaml"], "config file /nowhere/run.yaml cannot be read"),
        (["verify", "/nowhere/run"], "there is no run at /nowhere/run"),
        (["status", "/nowhere/run"], "there is no run at /nowhere/run"),
        (["report", "/nowhere/run"], "there is no run at /nowhere/run"),
        (["rn", "digits"], "No such command 'rn'"),
        (["run", "digits", "--jsn"], "No such option: --jsn"),
    ],
)
def test_a_users_mistake_ends_with_status_2_and_a_message_on_stderr(
    ask: CommandLine, words: list[str], message: str
) -> None:
    answer = ask(*words)
    assert (answer.status, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not Path("/nowhere").exists()


@pytest.mark.parametrize("content", ["- 1", "a: [", "ipc: 3", b"\xff\xfe"])
def test_a_file_that_holds_no_config_ends_with_status_2_and_names_the_file(
    ask: CommandLine, tmp_path: Path, content: str | bytes
) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = ask("run", "--config", str(file))
    assert answer.status == 2
    assert answer.err.startswith("ConfigError: ")


def test_a_credential_is_refused_and_not_shown(ask: CommandLine) -> None:
    answer = ask("run", "digits", "storage.options.secret=hunter2")
    assert answer.status == 2
    assert "storage.options.secret looks like a credential" in answer.err
    assert "hunter2" not in answer.out + answer.err


def test_an_error_of_the_input_ends_before_anything_is_stored(ask: CommandLine, tmp_path: Path) -> None:
    answer = ask("run", *tiny(tmp_path, "dataset.train=/nowhere/images"))
    assert answer.status == 2
    assert answer.err.startswith("DataError: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_field_typed_as_an_option_gets_a_hint(ask: CommandLine) -> None:
    told = ask("show-config", "digits", "--recover.iterations=5").err
    assert "expected: recover.iterations=VALUE" in told


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=["all", *COMMANDS])
def test_help_is_plain_text_of_any_terminal_and_no_name_is_cut(ask: CommandLine, words: list[str]) -> None:
    told = ask(*words, "-h")
    assert (told.status, told.err) == (0, "")
    assert told.out.isascii()
    assert told.out == ask(*words, "--help").out
    assert "..." not in told.out.partition("Commands:")[2]


def test_a_name_with_letters_that_the_output_lacks_is_shown(tmp_path: Path, tiny_run: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "\xe9t\xe9")
    command = [sys.executable, "-m", "edc_ray", "verify", str(tmp_path / "\xe9t\xe9")]
    ended = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path}/\\xe9t\\xe9: sound\n".encode())
