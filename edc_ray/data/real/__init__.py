"""Real images: folders, Parquet files and named datasets, by URL, decoded when they are asked for.

May import nothing more.
"""
