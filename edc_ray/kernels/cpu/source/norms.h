// A scale and a shift of each channel with an activation, and the moments of the input, in one pass over inputs stored
// image by image, pixel by pixel (channels last). See edc_ray/core/layers/norm_activation.py.

#pragma once

#include "tiles.h"

namespace {

enum { NONE = 0, RELU = 1, RELU6 = 2, SILU = 3 };

// e^x to two units in the last place, in operations that are done for several numbers at once.
inline float exp_of(float x) {
    const float magic = 12582912.f; // adding it rounds to an integer, which then stands in the lowest bits
    x = x < -87.f ? -87.f : x > 87.f ? 87.f : x;
    const float rounded = x * 1.44269504f + magic;
    const float n = rounded - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    int bits;
    memcpy(&bits, &rounded, sizeof bits);
    bits = (int)(((unsigned)bits + 127u) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

template <int ACT> inline float activated(float y) {
    if (ACT == RELU) return y > 0 ? y : y <= 0 ? 0.f : y; // what is no number stays none
    if (ACT == RELU6) return y > 6 ? 6.f : y < 0 ? 0.f : y;
    if (ACT == SILU) return y / (1.f + exp_of(-y));
    return y;
}

template <int ACT> inline float slope_of(float y) {
    if (ACT == RELU) return y <= 0 ? 0.f : 1.f;
    if (ACT == RELU6) return y <= 0 || y >= 6 ? 0.f : 1.f;
    if (ACT == SILU) {
        const float s = 1.f / (1.f + exp_of(-y));
        return s * (1.f + y * (1.f - s));
    }
    return 1.f;
}

template <int ACT, bool MEASURED>
void norm_row(const float *RESTRICT x, const float *RESTRICT scale, const float *RESTRICT shift,
              const float *RESTRICT near, float *RESTRICT value, float *RESTRICT square, float *RESTRICT to, long count,
              long C) {
    for (long p = 0; p < count; ++p, x += C, to += C) {
#pragma omp simd
        for (long c = 0; c < C; ++c) {
            if (MEASURED) {
                const float d = x[c] - near[c];
                value[c] += d;
                square[c] += d * d;
            }
            to[c] = activated<ACT>(scale[c] * x[c] + shift[c]);
        }
    }
}

template <int ACT>
void norm_gradient_row(const float *RESTRICT x, const float *RESTRICT g, const float *RESTRICT scale,
                       const float *RESTRICT shift, const float *RESTRICT constant, const float *RESTRICT slope,
                       float *RESTRICT to, long count, long C) {
    for (long p = 0; p < count; ++p, x += C, to += C, g += g ? C : 0) {
        if (g) {
#pragma omp simd
            for (long c = 0; c < C; ++c)
                to[c] = scale[c] * slope_of<ACT>(scale[c] * x[c] + shift[c]) * g[c] + constant[c] + slope[c] * x[c];
        } else {
#pragma omp simd
            for (long c = 0; c < C; ++c) to[c] = constant[c] + slope[c] * x[c];
        }
    }
}

template <int ACT>
int normalised(const float *x, const float *scale, const float *shift, float *to, long B, long C, long HW,
               bool by_image, double *out, int threads) {
    const long strips = (HW + 4095) / 4096, tasks = B * strips;
    const Zeros<float> near(B * C);
    const Zeros<double> partial(tasks * 2 * C + 2 * B * C);
    if (!near || !partial) return 1;
    int failed = 0;
    for (long b = 0; out && b < B; ++b) sample_pixels(x + b * HW * C, C, HW, near + b * C);
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long task = 0; task < tasks; ++task) {
        const long b = task / strips, first = task % strips * HW / strips, last = (task % strips + 1) * HW / strips;
        const Zeros<float> sum(2 * C);
        if (!sum) {
            failed |= 1;
            continue;
        }
        for (long p = first; p < last; p += FLUSH) {
            const long count = p + FLUSH < last ? FLUSH : last - p, at = (b * HW + p) * C;
            if (out) {
                norm_row<ACT, true>(x + at, scale, shift, near + b * C, sum, sum + C, to + at, count, C);
                flush(sum, partial + task * 2 * C, 2 * C);
            } else {
                norm_row<ACT, false>(x + at, scale, shift, near + b * C, sum, sum + C, to + at, count, C);
            }
        }
    }
    if (!out) return failed;
    double *mean = by_image ? out : partial + tasks * 2 * C, *square = mean + B * C;
    for (long b = 0; b < B; ++b)
        strip_moments(partial + b * strips * 2 * C, strips, 2 * C, near + b * C, C, HW, mean + b * C, square + b * C);
    if (by_image) clamp(square, B * C);
    else channel_moments(mean, square, B, C, out);
    return failed;
}

} // namespace

extern "C" {

// to = activation(scale * x + shift), x and to [B][HW][C]; out, if not null: mean and variance of x [2][C], or, by
// image, those of each image by itself [2][B][C].
int norms_forward(const float *x, const float *scale, const float *shift, long activation, float *to, long B, long C,
                  long HW, long by_image, double *out, int threads) {
    const auto none = normalised<NONE>;
    const decltype(none) all[] = {none, normalised<RELU>, normalised<RELU6>, normalised<SILU>};
    return all[activation](x, scale, shift, to, B, C, HW, by_image != 0, out, threads);
}

// to = scale * activation'(scale * x + shift) * g + constant + slope * x; g: null is 0. constant and slope come from the
// derivatives of the loss by mean and variance [C], null is 0, as in planes_gradient.
int norms_gradient(const float *x, const float *g, const float *scale, const float *shift, long activation, float *to,
                   long B, long C, long HW, const float *by_mean, const float *by_variance, const double *measured,
                   int threads) {
    const Zeros<float> constant(2 * C);
    float *const slope = constant + C;
    if (!constant) return 1;
    if (measured) channel_coefficients(by_mean, by_variance, measured, (double)B * HW, C, constant, slope);
    const auto none = norm_gradient_row<NONE>;
    const decltype(none) all[] = {none, norm_gradient_row<RELU>, norm_gradient_row<RELU6>, norm_gradient_row<SILU>};
    const auto row = all[activation];
    const long part = 64, parts = (B * HW + part - 1) / part;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long k = 0; k < parts; ++k) {
        const long p = k * part, count = p + part < B * HW ? part : B * HW - p, at = p * C;
        row(x + at, g ? g + at : 0, scale, shift, constant, slope, to + at, count, C);
    }
    return 0;
}

} // extern "C"
