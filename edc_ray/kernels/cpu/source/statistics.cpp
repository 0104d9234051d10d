// The two passes over a layer's input on a CPU: see edc_ray/core/layers/measured_input.py for what they compute, and
// edc_ray/kernels/cpu/statistics.py for their caller.
//
// float32 data, B images of C channels of HW pixels in rows of W. Work is cut by the sizes alone and partial sums are
// added in one order: the number of threads changes no result. Functions return 0, or 1 if memory is missing.

#include "norms.h"
#include "pixels.h"
#include "planes.h"
