// The two passes over inputs stored image by image, pixel by pixel (channels last).

#pragma once

#include "tiles.h"

namespace {

// Adds one row of a tile to its channels' weighted sums. weight: of a pixel, of its square, and of its products with
// the right, the lower and the diagonal neighbours (and of the right with the lower one).
void add_weighted(const float *RESTRICT x, const float *RESTRICT shift, float *RESTRICT value, float *RESTRICT square,
                  const double *const weight[3], double row, double row_square, double row_product, long first,
                  long last, long W, long C, bool bottom) {
    for (long j = first; j < last; ++j) {
        const float *RESTRICT here = x + j * C;
        const float *RESTRICT right = j + 1 < W ? here + C : here;
        const float *RESTRICT lower = bottom ? here : here + W * C;
        const float *RESTRICT diagonal = bottom || j + 1 == W ? here : lower + C;
        const float w = (float)(row * weight[0][j]), own = (float)(row_square * weight[1][j]);
        const float r = (float)(2 * row_square * weight[2][j]), l = (float)(2 * row_product * weight[1][j]);
        const float x2 = (float)(2 * row_product * weight[2][j]);
#pragma omp simd
        for (long c = 0; c < C; ++c) {
            const float d = here[c] - shift[c], dr = right[c] - shift[c];
            const float dl = lower[c] - shift[c], dd = diagonal[c] - shift[c];
            value[c] += w * d;
            square[c] += d * (own * d + r * dr + l * dl + x2 * dd) + x2 * dr * dl;
        }
    }
}

} // namespace

extern "C" {

// As planes_statistics, of x [B][H][W][C].
int pixels_statistics(const float *x, long B, long C, long H, long W, long R, long S, const double *rows,
                      const double *columns, double *out, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const bool whole = tiles.whole();
    const long HW = H * W, strips = R ? R : (H + 15) / 16, tasks = B * strips, per_task = R ? 3 * S : 0;
    const long size = 2 * C + per_task;
    const Zeros<float> shift(B * C);
    const Zeros<double> partial(tasks * size + 2 * B * C + 3 * R * S);
    if (!shift || !partial) return 1;
    int failed = 0;
    double *mean = partial + tasks * size, *square = mean + B * C, *weighed = square + B * C;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < B; ++b) sample_pixels(x + b * HW * C, C, HW, shift + b * C);
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long task = 0; task < tasks; ++task) {
        const long b = task / strips, strip = task % strips;
        const float *image = x + b * HW * C, *near = shift + b * C;
        double *value = partial + task * size, *tile = value + 2 * C;
        const Zeros<float> sum(2 * C);
        const Zeros<double> own(2 * C);
        if (!sum || !own) {
            failed |= 1;
            continue;
        }
        for (long i = strip * H / strips; !whole && i < (strip + 1) * H / strips; ++i)
            for (long j = 0; j < W; j += FLUSH) {
                const long count = j + FLUSH < W ? FLUSH : W - j;
                add_pixels(image + (i * W + j) * C, near, sum, sum + C, count, C);
                flush(sum, value, 2 * C);
            }
        for (long v = 0; R && v < S; ++v) {
            const double *weight[3] = {columns + v * W, columns + (S + v) * W, columns + (2 * S + v) * W};
            long first, last;
            tiles.column_span(v, &first, &last);
            memset(own, 0, 2 * C * sizeof(double));
            for (long i = strip * H / strips; whole && i < (strip + 1) * H / strips; ++i) {
                add_pixels(image + (i * W + first) * C, near, sum, sum + C, last - first, C);
                flush(sum, own, 2 * C);
            }
            for (long c = 0; whole && c < 2 * C; ++c) {
                value[c] += own[c];
                own[c] *= rows[strip * H + strip * H / strips] * weight[0][first];
            }
            for (long i = 0; !whole && i < H; ++i) {
                const double *row = rows + strip * H + i;
                if (row[R * H] == 0) continue;
                add_weighted(image + i * W * C, near, sum, sum + C, weight, row[0], row[R * H], row[2 * R * H], first,
                             last, W, C, i + 1 == H);
                flush(sum, own, 2 * C);
            }
            double plain = 0, mixed = 0, squares = 0;
            for (long c = 0; c < C; ++c) {
                plain += own[c];
                mixed += own[c] * (near[c] - shift[0]);
                squares += own[C + c];
            }
            tile[v] = plain, tile[S + v] = mixed, tile[2 * S + v] = squares;
        }
    }
    for (long b = 0; b < B; ++b)
        strip_moments(partial + b * strips * size, strips, size, shift + b * C, C, HW, mean + b * C, square + b * C);
    channel_moments(mean, square, B, C, out);
    for (long i = 0; i < 3 * R * S; ++i) {
        const long kind = i / (R * S), u = i / S % R, v = i % S;
        for (long b = 0; b < B; ++b) weighed[i] += partial[(b * strips + u) * size + 2 * C + kind * S + v];
    }
    if (R) tile_moments(weighed, weighed + R * S, weighed + 2 * R * S, R * S, shift, B * C, out + 2 * C);
    return failed;
}

// As planes_gradient, of x, g and to [B][H][W][C].
int pixels_gradient(const float *x, const float *g, float *to, long B, long C, long H, long W, long R, long S,
                    const double *rows, const double *columns, const float *by_mean, const float *by_variance,
                    const float *by_patch_mean, const float *by_patch_variance, const double *measured, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const float *const by[4] = {by_mean, by_variance, by_patch_mean, by_patch_variance};
    const long HW = H * W;
    const Coefficients parts(tiles, B, C, HW, by, measured, measured + 2 * C);
    if (parts.missing) return 1;
    const long maps = parts.maps;
    const float *map = parts.map;
    const float *RESTRICT constant = parts.constant, *RESTRICT slope = parts.slope;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < B * H; ++row) {
        const long i = row % H;
        for (long j = 0; j < W; ++j) {
            const long p = i * W + j, at = (row * W + j) * C;
            const float *RESTRICT here = x + at;
            const float *up = g ? g + at : 0;
            float *out = to + at;
            const float a = maps ? map[p] : 0.f, k = maps ? map[HW + p] : 0.f;
            if (maps <= 2) {
#pragma omp simd
                for (long c = 0; c < C; ++c) out[c] = (up ? up[c] : 0.f) + (constant[c] + a) + (slope[c] + k) * here[c];
                continue;
            }
            // Neighbours outside have no weight: any number stands for them.
            const long left = j ? -C : 0, right = j + 1 < W ? C : 0, above = i ? -W * C : 0, below = i + 1 < H ? W * C : 0;
            const float *RESTRICT x1 = here + right, *RESTRICT x2 = here + left, *RESTRICT x3 = here + below;
            const float *RESTRICT x4 = here + below + right, *RESTRICT x5 = here + above;
            const float *RESTRICT x6 = here + above + left, *RESTRICT x7 = here + below + left;
            const float *RESTRICT x8 = here + above + right;
            const float k1 = map[2 * HW + p], k2 = map[3 * HW + p], k3 = map[4 * HW + p], k4 = map[5 * HW + p];
            const float k5 = map[6 * HW + p], k6 = map[7 * HW + p], k7 = map[8 * HW + p], k8 = map[9 * HW + p];
#pragma omp simd
            for (long c = 0; c < C; ++c)
                out[c] = (up ? up[c] : 0.f) + (constant[c] + a) + (slope[c] + k) * here[c] + (k1 * x1[c] + k2 * x2[c]) +
                         (k3 * x3[c] + k4 * x4[c]) + (k5 * x5[c] + k6 * x6[c]) + (k7 * x7[c] + k8 * x8[c]);
        }
    }
    return 0;
}

} // extern "C"
