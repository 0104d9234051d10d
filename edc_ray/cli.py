"""The command line: what the face does, printed.

A command imports what it needs when it runs: torch and Ray take seconds, and `show-config` needs neither.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import to_yaml, unknown_name
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.errors import ArtifactError, ConfigError, EdcRayError, UnitsFailedError
from edc_ray.face import configs
from edc_ray.report.progress import ToldRun
from edc_ray.report.table import print_table
from edc_ray.runs.interrupts import status_of_interrupt, terminations_interrupt
from edc_ray.runs.stored_run import stored_run
from edc_ray.version import __version__, commit

app = typer.Typer(
    name="edc-ray",
    help="Condense a labelled image dataset into a few images per class plus soft labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut long names at the width of a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
stderr = Console(stderr=True)
_INTERRUPTED = 130  # as typer exits after a KeyboardInterrupt

RunUrl = Annotated[str, typer.Argument(metavar="URL", help="A run's folder: <storage.root>/<run.name>.")]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="[RECIPE] [section.field=value ...]", show_default=False)
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="A YAML file with the config, instead of a recipe.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"edc-ray {__version__}, commit {commit()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print version and commit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None: ...


@app.command()
def run(
    words: Words = None, config: ConfigFile = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Run the pipeline. Finished work is reused.

    squeeze, statistics, init, recover, relabel, evaluate.
    """
    _run_stages(configs.of_words(words or [], config), STAGE_NAMES, as_json, quiet)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help=", ".join(STAGE_NAMES))],
    words: Words = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one stage. The stages it needs must be complete."""
    if name in RECIPES:
        raise ConfigError(f"'{name}' is a recipe", expected=f"STAGE {name}", next="name the stage first")
    chosen = _one_of("stage", name, STAGE_NAMES)
    _run_stages(configs.of_words(words or [], config), [chosen], as_json, quiet)


@app.command()
def sweep(
    words: Words = None, config: ConfigFile = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Run the pipeline once for each point of sweep.space.

    Such as sweep.space.recover.matching_weight=[0.001,0.01,0.1].
    """
    resolved = configs.of_words(words or [], config)
    from edc_ray.face.running import sweep

    found = sweep(resolved)
    if as_json:
        _print_json({"run": found.url, "trials": found.trials})
    else:
        print_table(found.table())
    if found.failed:
        raise UnitsFailedError(
            f"sweep: {len(found.failed)} of {len(found.trials)} trials failed; the others are done and kept",
            found="\n" + "\n".join(f"    {trial['fields']}: {trial['error']}" for trial in found.failed[:10]),
            next="fix the cause and run the same command again: only the failed trials run",
        )


@app.command("show-config")
def show_config(words: Words = None, config: ConfigFile = None) -> None:
    """Print a config as YAML, for --config.

    `edc-ray show-config digits > run.yaml`, `edc-ray run --config run.yaml`.
    """
    sys.stdout.write(to_yaml(configs.of_words(words or [], config)))


@app.command()
def recipes() -> None:
    """List recipes with what they aim at, and methods."""
    for name, line in configs.recipes().items():
        print(f"{name:<15} {line}")
    print("\nmethod=")
    for name, line in configs.methods().items():
        print(f"  {name:<13} {line}")


@app.command()
def verify(url: RunUrl) -> None:
    """Compare every file with its recorded size and hash. Exit status 1 if any is wrong."""
    from edc_ray.sharing.verify import has_proof, verify_folder

    store = stored_run(url)
    problems = verify_folder(store)
    for problem in problems:
        print(f"{problem.path}: {problem.problem}")
    if problems:
        print(f"{store.url}: {len(problems)} damaged or missing files")
        raise typer.Exit(1)
    sound = "sound" if has_proof(store) else "a run without a finished unit, so there is nothing to compare"
    print(f"{store.url}: {sound}")


@app.command()
def status(url: RunUrl) -> None:
    """Show what is complete in a run or a sweep. Exit status 1 if a manifest is damaged."""
    from edc_ray.runs.stored_run import no_run, stage_states, trial_states

    store = stored_run(url)
    try:
        states = stage_states(store)
    except ArtifactError as error:
        print(f"{error.summary}; edc-ray verify names the damaged files")
        raise typer.Exit(1) from None
    trials = trial_states(store)
    has_stages = any(stage.state != "not there" for stage in states.values())
    if not has_stages and not trials and not store.exists(RUN_CONFIG):
        raise no_run(store.url)
    if has_stages or not trials:
        for name, stage in states.items():
            print(f"{name:<11} {stage}")
    for name, state in trials.items():
        print(f"{name} {state}")
    raise typer.Exit(1 if any(stage.state == "damaged" for stage in states.values()) else 0)


@app.command()
def report(url: RunUrl) -> None:
    """Write a run's pictures, curves and page again. Prints where they are."""
    from edc_ray.face.run import open

    for written in open(url).write_report():
        print(written)


@app.command()
def gc(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run, or an imported set.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Keep younger files: a writer may still work on them. 90s, 30m, 1h, 2d.")
    ] = "1h",
    as_json: AsJson = False,
) -> None:
    """Remove what killed writers left behind.

    Temporary files, shards that no record names, pending uploads.
    """
    from edc_ray.artifacts.proof.garbage import find_garbage, parse_age, remove_garbage
    from edc_ray.report.table import garbage_json, print_garbage

    min_age = parse_age(older_than)
    store = open_store(url, writable=False)
    found = find_garbage(store, min_age, STAGE_NAMES)
    if not found.garbage and not found.young:
        stored_run(url)
    gone = found.garbage if dry_run else remove_garbage(store, found.garbage, min_age)
    if as_json:
        print(garbage_json(store.url, found, gone, dry_run=dry_run))
    else:
        print_garbage(store.url, found, gone, dry_run=dry_run)


@app.command("import")
def import_(
    url: Annotated[
        str, typer.Argument(help="Folder of new000/..., 00000/..., train/00000/..., *.parquet or *.tar.")
    ],
    dest: Annotated[str, typer.Argument(help="Folder to write. It can then be read like a run.")],
    words: Words = None,
    config: ConfigFile = None,
    labels: Annotated[
        str | None, typer.Option(help="Official label files of these images: the folder that holds epoch_0/.")
    ] = None,
) -> None:
    """Import images and labels of other programs. Those of export, too."""
    from edc_ray.sharing.import_official import import_images

    print(import_images(configs.of_words(words or [], config), url, dest, labels=labels))


@app.command("import-statistics")
def import_statistics(
    url: Annotated[str, typer.Argument(help="Folder that holds ConvFeatureHook/.")],
    dest: Annotated[str, typer.Argument(help="Folder to write. Give it as statistics.source.")],
    words: Words = None,
    config: ConfigFile = None,
    class_patch_swapped: Annotated[
        bool, typer.Option(help="In class files, patch mean and variance are under each other's key.")
    ] = True,
) -> None:
    """Import official statistics of a recipe's observers. Each observer gets one table."""
    from edc_ray.sharing.import_official import import_statistics

    told = import_statistics(
        configs.of_words(words or [], config), url, dest, class_patch_swapped=class_patch_swapped
    )
    print(told)


@app.command()
def export(
    url: Annotated[str, typer.Argument(help="A run, or an imported or compressed set.")],
    dest: Annotated[str, typer.Argument(help="Folder to write: a path or URL.")],
    style: Annotated[
        str, typer.Option("--format", help="official, rded, huggingface, imagefolder or webdataset")
    ] = "official",
    only: Annotated[
        list[str] | None,
        typer.Option(help="images, labels or statistics; give it once for each. Default: all."),
    ] = None,
    ipc: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images of each class, without labels.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Only the labels of the first N epochs.")] = None,
    image_format: Annotated[
        str | None, typer.Option(help="Re-encode images as png or jpeg. Default: bytes as stored.")
    ] = None,
    license: Annotated[
        str, typer.Option(help="License of the set, for its card: cc-by-4.0, other, ...")
    ] = "unknown",
    shard_mb: Annotated[
        int, typer.Option(min=1, help="Approximate size of a file (huggingface, webdataset).")
    ] = 400,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Batch size of the official student. Must be the size of the mixing groups."),
    ] = None,
    class_patch_swapped: Annotated[
        bool, typer.Option(help="Swap patch mean and variance in class files, as the official writer does.")
    ] = True,
    network_names: Annotated[
        bool, typer.Option(help="ResNet_ResNet18=layer (CIFAR) instead of ResNet=layer (Tiny-ImageNet).")
    ] = True,
) -> None:
    """Write a condensed set for other programs, and its card."""
    from edc_ray.face.run import open
    from edc_ray.sharing.export.options import FORMATS, PARTS

    told = open(url).export(
        dest,
        _one_of("format", style, FORMATS),
        parts=[_one_of("part", part, PARTS) for part in only] if only else None,
        ipc=ipc,
        epochs=epochs,
        image_format=_one_of("image format", image_format, ("png", "jpeg")) if image_format else None,
        batch_size=batch_size,
        class_patch_swapped=class_patch_swapped,
        network_names=network_names,
        license=license,
        shard_bytes=shard_mb * 1_000_000,
    )
    for line in told:
        print(line)


@app.command()
def compress(
    url: Annotated[str, typer.Argument(help="A run with stored labels, or an imported set.")],
    codec: Annotated[
        str, typer.Option(help="For example q8, top16_q6 or pca64_top4_q5. fp16 changes only the epochs.")
    ],
    keep_epochs: Annotated[
        int | None, typer.Option(min=1, help="Keep only the first N epochs. Default: all.")
    ] = None,
    dest: Annotated[
        str | None, typer.Option(help="Folder to write. Default: URL with the codec and epochs appended.")
    ] = None,
) -> None:
    """Copy a condensed set with its labels in another codec. The copy can be read like a run."""
    from edc_ray.face.run import open

    print(open(url).compress(codec, dest, keep_epochs=keep_epochs))


def main() -> None:
    """Entry point. An EdcRayError becomes its message on stderr and its exit status."""
    # Otherwise uv builds a new environment in every Ray worker. Ray reads this when it is imported.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have letters that a terminal lacks
    handler: logging.Handler = logging.StreamHandler()  # a file has no width at which lines would be broken
    if stderr.is_terminal:
        handler = RichHandler(console=stderr, show_time=False, show_path=False)
    words = "%(message)s" if stderr.is_terminal else "%(levelname)-8s %(message)s"
    logging.basicConfig(level="WARNING", format=words, handlers=[handler])
    logging.getLogger("edc_ray").setLevel("INFO")
    terminations_interrupt()
    try:
        configs.refuse_fields_as_options(sys.argv[1:])
        app()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            sys.exit(status_of_interrupt())
        raise
    except EdcRayError as error:
        stderr.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)


def _run_stages(config: RunConfig, stages: Sequence[str], as_json: bool, quiet: bool) -> None:
    from edc_ray.face.running import run
    from edc_ray.report.run_report import run_summary

    with ToldRun("none" if quiet else config.tracking.progress, stderr) as told:
        try:
            finished = run(config, stages, progress=False, on_event=told)
        except EdcRayError:
            if as_json and told.url is not None:
                store = open_store(told.url, config.storage.options, writable=False)
                _print_json(run_summary(store, told.events, whole=False))
            raise
        except KeyboardInterrupt:
            stderr.print(f"interrupted: {told.kept()}", highlight=False, markup=False, soft_wrap=True)
            raise
    stderr.print(f"run: {finished.url}", highlight=False, soft_wrap=True)
    for url in told.report or [finished.report()]:
        stderr.print(f"     {url}", highlight=False, soft_wrap=True)
    if as_json:
        _print_json(run_summary(finished.store, told.events))
    elif finished.rows:
        print_table(finished.table())


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def _one_of(kind: str, name: str, known: Sequence[str]) -> Any:
    if name not in known:
        raise unknown_name(kind, name, known)
    return name
