"""What the job scripts add to the words of a command line."""

from __future__ import annotations

import sys


def as_submitted_job(command: str) -> list[str]:
    """`sys.argv` of `edc-ray COMMAND ...` for a job: it joins its own cluster, and says where results go.

    The working folder of a job is thrown away with the job, so a default folder would lose the results.
    """
    words = sys.argv[1:]
    asks_for_help = "--help" in words
    if (
        not asks_for_help
        and "--config" not in words
        and not any(word.startswith("storage.root=") for word in words)
    ):
        sys.exit(
            "ConfigError: a job needs storage.root=URL, a place that outlives it and that every node sees"
        )
    if not asks_for_help and not any(word.startswith("cluster.address=") for word in words):
        words.append("cluster.address=auto")
    return ["edc-ray", command, *words]
