// The two passes over inputs stored image by image, channel by channel: B * C planes of HW numbers.

#pragma once

#include "tiles.h"

namespace {

const long TOGETHER = 4; // planes that share one visit to the sums of the places
const long BLOCKS = 16;  // parts of the work on planes, each with sums of its own over places

// The mean square of x - mean, which is left in `to` where that is not null.
double squares_around(const float *RESTRICT x, float mean, float *RESTRICT to, long count) {
    double squares = 0;
    for (long first = 0; first < count; first += 1024) {
        const long end = first + 1024 < count ? first + 1024 : count;
        float square = 0;
        if (to) {
#pragma omp simd reduction(+ : square)
            for (long p = first; p < end; ++p) {
                const float d = x[p] - mean;
                to[p] = d;
                square += d * d;
            }
        } else {
#pragma omp simd reduction(+ : square)
            for (long p = first; p < end; ++p) square += (x[p] - mean) * (x[p] - mean);
        }
        squares += square;
    }
    return squares / count;
}

// Adds the products of some planes to sums[0..6][HW]: d, away * d, d * d and d times four neighbours.
template <bool NEIGHBOURS>
void add_products(const float *RESTRICT d, long stride, const float *away, float *RESTRICT sums, long HW, long W) {
    float *RESTRICT value = sums, *RESTRICT mixed = sums + HW, *RESTRICT square = sums + 2 * HW;
    float *RESTRICT right = sums + 3 * HW, *RESTRICT lower = sums + 4 * HW;
    float *RESTRICT rising = sums + 5 * HW, *RESTRICT falling = sums + 6 * HW;
#pragma omp simd
    for (long p = 0; p < HW; ++p) {
        float v = value[p], m = mixed[p], s = square[p];
        float r = 0, l = 0, u = 0, f = 0;
        if (NEIGHBOURS) r = right[p], l = lower[p], u = rising[p], f = falling[p];
        for (long k = 0; k < TOGETHER; ++k) {
            const float *at = d + k * stride + p;
            const float here = at[0];
            v += here;
            m += away[k] * here;
            s += here * here;
            if (NEIGHBOURS) {
                r += here * at[1];
                l += here * at[W];
                u += here * at[W + 1];
                f += here * at[W - 1];
            }
        }
        value[p] = v, mixed[p] = m, square[p] = s;
        if (NEIGHBOURS) right[p] = r, lower[p] = l, rising[p] = u, falling[p] = f;
    }
}

// Sums [3][R][S] of tiles from sums [3 or 7][HW] of places, as add_products makes them.
void weigh_places(const Tiles &tiles, bool whole, const double *sums, double *weighed) {
    const long W = tiles.W, HW = tiles.H * W, count = tiles.R * tiles.S;
    for (long u = 0; u < tiles.R; ++u)
        for (long v = 0; v < tiles.S; ++v) {
            long top, bottom, first, last;
            tiles.row_span(u, &top, &bottom);
            tiles.column_span(v, &first, &last);
            double plain = 0, mixed = 0, second = 0;
            for (long i = top; i < bottom; ++i) {
                const double row = tiles.row(0, u, i), square = tiles.row(1, u, i), next = tiles.row(2, u, i);
                for (long j = first; j < last; ++j) {
                    const double *at = sums + i * W + j;
                    const double w = row * tiles.column(0, v, j), own = tiles.column(1, v, j);
                    plain += w * at[0];
                    mixed += w * at[HW];
                    second += square * own * at[2 * HW];
                    if (whole) continue;
                    const double beside = tiles.column(2, v, j);
                    if (j + 1 < W) second += 2 * square * beside * at[3 * HW];
                    if (i + 1 < tiles.H) second += 2 * next * own * at[4 * HW];
                    // The falling product is at its right pixel.
                    if (i + 1 < tiles.H && j + 1 < W) second += 2 * next * beside * (at[5 * HW] + at[6 * HW + 1]);
                }
            }
            weighed[u * tiles.S + v] = plain;
            weighed[count + u * tiles.S + v] = mixed;
            weighed[2 * count + u * tiles.S + v] = second;
        }
}

} // namespace

extern "C" {

// x [B][C][H][W]; out: channel mean and variance [2][C], then patch mean and variance [2][R * S].
int planes_statistics(const float *x, long B, long C, long H, long W, long R, long S, const double *rows,
                      const double *columns, double *out, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const bool whole = tiles.whole();
    const long N = B * C, HW = H * W, stride = HW + W + 2, maps = R == 0 ? 0 : whole ? 3 : 7, size = maps * HW;
    const long most = maps ? BLOCKS : 16 * BLOCKS, blocks = N < most ? N : most;
    const Zeros<double> partial(blocks * size + 3 * R * S + 2 * N);
    const Zeros<float> near(N);
    if (!partial || !near) return 1;
    double *weighed = partial + blocks * size, *mean = weighed + 3 * R * S, *square = mean + N;
    const float centre = mean_of(x, HW);
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long block = 0; block < blocks; ++block) {
        const Zeros<float> scratch(TOGETHER * stride + size);
        if (!scratch) {
            failed |= 1;
            continue;
        }
        float *sum = scratch + TOGETHER * stride, away[TOGETHER];
        const long last = (block + 1) * N / blocks;
        long since = 0;
        for (long first = block * N / blocks; first < last; first += TOGETHER) {
            for (long k = 0; k < TOGETHER; ++k) {
                float *d = scratch + k * stride;
                away[k] = 0;
                if (first + k >= last) {
                    if (maps) memset(d, 0, HW * sizeof(float));
                    continue;
                }
                const float about = mean_of(x + (first + k) * HW, HW);
                square[first + k] = squares_around(x + (first + k) * HW, about, maps ? d : 0, HW);
                mean[first + k] = near[first + k] = about;
                away[k] = about - centre;
            }
            if (!maps) continue;
            if (maps > 3) add_products<true>(scratch, stride, away, sum, HW, W);
            else add_products<false>(scratch, stride, away, sum, HW, W);
            if ((since += TOGETHER) >= FLUSH || first + TOGETHER >= last) {
                flush(sum, partial + block * size, size);
                since = 0;
            }
        }
    }
    for (long i = 0; i < size; ++i) // the first block's sums become those of all
        for (long block = 1; block < blocks; ++block) partial[i] += partial[block * size + i];
    channel_moments(mean, square, B, C, out);
    if (maps) {
        weigh_places(tiles, whole, partial, weighed);
        tile_moments(weighed, weighed + R * S, weighed + 2 * R * S, R * S, near, N, out + 2 * C);
    }
    return failed;
}

// to = g + constant[c] + slope[c] * x, plus what the maps say: the place's constant, then the factors of the pixel
// itself and of its right, left, lower, lower right, upper, upper left, lower left and upper right neighbours.
// g may be null, and may be `to`. The others are as Coefficients takes them.
int planes_gradient(const float *x, const float *g, float *to, long B, long C, long H, long W, long R, long S,
                    const double *rows, const double *columns, const float *by_mean, const float *by_variance,
                    const float *by_patch_mean, const float *by_patch_variance, const double *measured, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const float *const by[4] = {by_mean, by_variance, by_patch_mean, by_patch_variance};
    const long HW = H * W, N = B * C;
    const Coefficients parts(tiles, B, C, HW, by, measured, measured + 2 * C);
    if (parts.missing) return 1;
    const long maps = parts.maps;
    const float *map = parts.map;
    const long margin = W + 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const Zeros<float> scratch(maps > 2 ? HW + 2 * margin : 1);
        if (!scratch) failed |= 1;
#pragma omp for schedule(static)
        for (long n = 0; n < N; ++n) {
            if (!scratch) continue;
            const float c = parts.constant[n % C], s = parts.slope[n % C];
            const float *RESTRICT at = x + n * HW;
            const float *up = g ? g + n * HW : 0;
            float *out = to + n * HW;
            if (!maps) {
#pragma omp simd
                for (long p = 0; p < HW; ++p) out[p] = (up ? up[p] : 0.f) + c + s * at[p];
            } else if (maps == 2) {
                const float *RESTRICT a = map, *RESTRICT k = map + HW;
#pragma omp simd
                for (long p = 0; p < HW; ++p) out[p] = (up ? up[p] : 0.f) + (c + a[p]) + (s + k[p]) * at[p];
            } else {
                memcpy(scratch + margin, at, HW * sizeof(float));
                const float *RESTRICT d = scratch + margin;
                const float *RESTRICT m = map;
#pragma omp simd
                for (long p = 0; p < HW; ++p) {
                    const float above = m[7 * HW + p] * d[p - W - 1] + m[6 * HW + p] * d[p - W] + m[9 * HW + p] * d[p - W + 1];
                    const float beside = m[3 * HW + p] * d[p - 1] + m[2 * HW + p] * d[p + 1];
                    const float below = m[8 * HW + p] * d[p + W - 1] + m[4 * HW + p] * d[p + W] + m[5 * HW + p] * d[p + W + 1];
                    out[p] = (up ? up[p] : 0.f) + (c + m[p]) + (s + m[HW + p]) * d[p] + above + beside + below;
                }
            }
        }
    }
    return failed;
}

} // extern "C"
