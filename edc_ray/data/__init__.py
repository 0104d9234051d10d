"""Images: real ones of any source, and the condensed set.

May import errors, digests, config, artifacts and core.
"""
