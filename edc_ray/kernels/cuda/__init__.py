"""Kernels in Triton, for CUDA devices; without Triton the torch form of `core` computes.

May import nothing more.
"""
