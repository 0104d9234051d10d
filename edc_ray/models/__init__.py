"""Networks: those torchvision lacks, every network by name, and observers as files of weights.

May import errors, own_code, core and kernels.
"""
