"""What the job scripts add to the words of a command line."""

from __future__ import annotations

import sys


def as_submitted_job(command: str) -> list[str]:
    """`sys.argv` of `edc-ray COMMAND ...` for a job: it joins its own cluster, and says where results go.

    The working folder of a job is thrown away with the job, so a default folder would lose the results.
    Whether a config file says where they go, the command itself sees when it has read the file.
    """
    words = sys.argv[1:]
    asks_for_help = "--help" in words
    # What is left of the sign: --config=run.yaml is --config too.
    names = {word.partition("=")[0] for word in words}
    if not asks_for_help and names.isdisjoint({"--config", "storage.root"}):
        sys.exit(
            "ConfigError: a job needs storage.root=URL, a place that outlives it and that every node sees"
        )
    if not asks_for_help and "cluster.address" not in names:
        words.append("cluster.address=auto")
    return ["edc-ray", command, *words]
