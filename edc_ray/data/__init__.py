"""Images: real ones of any source, and the condensed set.

May import errors, own_code, digests, config, artifacts and core.
"""
