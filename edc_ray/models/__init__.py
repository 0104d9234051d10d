"""Networks: those torchvision lacks, every network by name, and observers as files of weights.

May import errors, core and kernels.
"""
