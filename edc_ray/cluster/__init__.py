"""Ray: where units run and how many at once. The only package that imports ray.

May import errors, digests, config, artifacts, data, stages and runs.
"""

import os

# Read when ray is imported, so set before any module here can import it. setdefault: a user's choice stands.
# Workers use the driver's environment; under `uv run` Ray would build a new one for each of them.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# The second generation of Ray Train; the default since Ray 2.51.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
# One process less: a unit that a preempted node interrupts is tried again as after any other death.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# Seconds between two looks of Ray Train at its workers; its default is 2.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# Workers stay in the folder they start in: nothing here writes files by relative names.
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
