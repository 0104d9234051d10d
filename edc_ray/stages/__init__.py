"""The pipeline: one folder for each stage, `units` for what they share, and `pipeline`, which orders them.

May import errors, version, digests, config, core, kernels, models, artifacts and data.
"""
