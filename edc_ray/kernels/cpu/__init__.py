"""Kernels in C++, compiled on first use and cached, and what is fused on a CPU.

May import kernels.cuda.
"""
