"""The same around each test as for the stages."""

from tests.stages.conftest import forgotten_runs, one_thread

__all__ = ["forgotten_runs", "one_thread"]
