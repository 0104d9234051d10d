// For the kernels that add up float32 numbers.

#pragma once

#include <cstdlib>
#include <cstring>

#define RESTRICT __restrict__

namespace {

const long FLUSH = 64; // a float32 partial sum holds at most this many numbers

// Memory full of zeros. The pointer is null if there is no memory.
template <typename T> struct Zeros {
    T *const at;
    explicit Zeros(long count) : at((T *)calloc(count, sizeof(T))) {}
    Zeros(const Zeros &) = delete; // a copy would free the memory twice
    ~Zeros() { free(at); }
    operator T *() const { return at; }
};

// Adds partial sums to totals and clears them.
void flush(float *RESTRICT from, double *RESTRICT to, long count) {
    for (long i = 0; i < count; ++i) {
        to[i] += from[i];
        from[i] = 0;
    }
}

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

// Adds to near[C] the mean of up to eight of an image's HW pixels: a number close to the mean of each channel.
void sample_pixels(const float *x, long C, long HW, float *near) {
    const long samples = HW < 8 ? HW : 8;
    for (long k = 0; k < samples; ++k) {
        const float *at = x + (2 * k + 1) * HW / (2 * samples) * C;
        for (long c = 0; c < C; ++c) near[c] += at[c] / samples;
    }
}

// Adds the pixels of one row to the sums of their channels: d and d * d, d = x - near.
void add_pixels(const float *RESTRICT x, const float *RESTRICT near, float *RESTRICT value, float *RESTRICT square,
                long count, long C) {
    for (long p = 0; p < count; ++p, x += C) {
#pragma omp simd
        for (long c = 0; c < C; ++c) {
            const float d = x[c] - near[c];
            value[c] += d;
            square[c] += d * d;
        }
    }
}

// Mean and variance of an image's channels from the sums [2][C] of its strips, which lie `stride` apart.
void strip_moments(const double *sums, long strips, long stride, const float *near, long C, long HW, double *mean,
                   double *variance) {
    for (long c = 0; c < C; ++c) {
        double value = 0, second = 0;
        for (long strip = 0; strip < strips; ++strip) {
            value += sums[strip * stride + c];
            second += sums[strip * stride + C + c];
        }
        const double rest = value / HW; // the mean of d
        mean[c] = near[c] + rest;
        variance[c] = second / HW - rest * rest;
    }
}

// Rounding may make a variance negative.
void clamp(double *variance, long count) {
    for (long i = 0; i < count; ++i) variance[i] = variance[i] > 0 ? variance[i] : 0;
}

} // namespace
