"""Kernels that are faster than the torch form of `core`, which computes where there is none.

May import errors and core.
"""
