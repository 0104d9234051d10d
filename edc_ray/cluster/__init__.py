"""Ray: where units run and how many at once. The only package that imports ray.

May import errors, digests, config, core, artifacts, data, stages and runs.
"""

import os

# Ray reads these when it is imported, so they are set first. setdefault keeps what a user has set.
# Workers use the driver's environment. Under `uv run` Ray would build a new one for each of them.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Version 2 of Ray Train, the default since Ray 2.51.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
# Saves a process: a unit on a preempted node is retried like any other.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# How often Ray Train checks its workers, in seconds. Its default is 2.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# Workers keep their working folder: nothing here writes files by relative names.
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
