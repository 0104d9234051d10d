"""What a run stores: whole files, proven by records and manifests, and the tables in them.

May import errors.
"""
