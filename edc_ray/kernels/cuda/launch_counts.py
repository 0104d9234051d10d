"""How many kernels each registered operation starts at most.

A gradient through whole tiles, or through none, takes one instead of two.
"""

LAUNCHES = {
    "moments": 2,
    "moments_gradient": 2,
    "norm": 1,
    "norm_moments": 2,
    "norm_gradient": 1,
    "shared_view": 1,
    "shared_view_gradient": 2,
    "pixel_step": 1,
}
