"""A run's folder: whether a config may begin it or go on with it, growth, added classes, what it holds.

`placement` says where the units of a run are done, `lease` who does them, `interrupts` how they end early.

May import errors, digests, config, artifacts, data, kernels, models and stages.
"""
