"""Job script of the pipeline: `edc-ray run` on the cluster to which it is submitted.

ray job submit --working-dir . -- python jobs/run_pipeline.py cifar10 storage.root=s3://bucket/runs
"""

from __future__ import annotations

import sys

from job_words import as_submitted_job

from edc_ray.cli import main

if __name__ == "__main__":
    sys.argv = as_submitted_job("run")
    main()
