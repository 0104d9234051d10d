"""What happens at one layer: the statistics of its input, and the kernels that measure them.

May import nothing more.
"""
