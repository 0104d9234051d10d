"""Work units: their plan, numerics, fingerprints, completeness, and what a process shares among them.

May import nothing more.
"""
