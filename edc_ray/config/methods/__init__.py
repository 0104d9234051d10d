"""Methods: one file for each, with its values and its function from a config to a config.

May import config.run.
"""
