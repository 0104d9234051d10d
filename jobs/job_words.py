"""What the job scripts add to their command line."""

from __future__ import annotations

import sys


def as_submitted_job(command: str) -> list[str]:
    """`sys.argv` of `edc-ray COMMAND ...` for a job, which joins its cluster and states where results go.

    Ray deletes the working folder with the job, and results in it would be lost. If a config file is given,
    the command checks the folder after reading it.
    """
    words = sys.argv[1:]
    asks_for_help = "--help" in words
    # --config=run.yaml counts as --config.
    names = {word.partition("=")[0] for word in words}
    if not asks_for_help and names.isdisjoint({"--config", "storage.root"}):
        sys.exit("ConfigError: a job needs storage.root=URL, a place that outlives the job")
    if not asks_for_help and "cluster.address" not in names:
        words.append("cluster.address=auto")
    return ["edc-ray", command, *words]
