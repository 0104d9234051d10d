"""Sets that are given away or taken in: export, import, compression, cards, facts.

May import errors, version, digests, config, core, artifacts, data, models, stages and report.
"""
