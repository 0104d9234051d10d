"""`python -m edc_ray` is `edc-ray`."""

from edc_ray.cli import main

main()
