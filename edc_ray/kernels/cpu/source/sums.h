// What kernels share that add up float32 numbers.

#pragma once

#define RESTRICT __restrict__

namespace {

const long FLUSH = 64; // float32 partial sums hold at most so many numbers a lane

float mean_of(const float *RESTRICT x, long count) {
    double total = 0;
    for (long first = 0; first < count; first += 1024) {
        const long end = first + 1024 < count ? first + 1024 : count;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long p = first; p < end; ++p) sum += x[p];
        total += sum;
    }
    return (float)(total / count);
}

} // namespace
