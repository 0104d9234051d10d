"""What a person looks at: tables, curves, pictures, the page of a run, progress.

May import errors, config, artifacts and data.
"""
