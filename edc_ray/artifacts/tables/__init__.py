"""The tables of a run as Parquet: schemas with versions, columns, and checks of foreign files.

May import artifacts.storage.
"""
