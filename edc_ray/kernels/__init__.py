"""Kernels that a C++ compiler makes on first use; without one the torch form of `core` computes."""
