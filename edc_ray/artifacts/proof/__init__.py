"""Records and manifests: what proves a unit done and a stage complete, and what they leave to collect.

May import artifacts.storage.
"""
