"""The public face: what `import edc_ray` offers, and all that the command line needs of a run.

May import errors, config, artifacts, data, models, stages, runs, report, sharing and launch.
Where a module imports torch, `edc_ray` imports it on first use.
"""
