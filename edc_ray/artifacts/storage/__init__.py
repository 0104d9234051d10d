"""Places and files: where each thing of a run lies, and a store that publishes a file whole or not at all.

May import nothing more.
"""
