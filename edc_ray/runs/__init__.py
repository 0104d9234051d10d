"""A run's folder: whether a config may begin it or go on with it, growth, added classes, what it holds.

May import errors, digests, config, artifacts, data and stages.
"""
