"""Job script of a sweep: `edc-ray sweep` on the cluster to which it is submitted.

    ray job submit --working-dir . -- python jobs/run_sweep.py cifar10 storage.root=s3://bucket/runs \\
        'sweep.space.recover.matching_weight=[0.001,0.01]'
"""

from __future__ import annotations

import sys

from job_words import as_submitted_job

from edc_ray.cli import main

if __name__ == "__main__":
    sys.argv = as_submitted_job("sweep")
    main()
