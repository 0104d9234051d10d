// Tiles of a map, the moments of channels and tiles, and the coefficients of a gradient.

#pragma once

#include "sums.h"

namespace {

// Where the tiles of an [H][W] map lie and what their pixels weigh. rows [3][R][H], columns [3][S][W]: weights of
// values, of squares, and of products with the next. R = 0: no tiles.
struct Tiles {
    long R, S, H, W;
    const double *rows, *columns;

    double row(long kind, long u, long i) const { return rows[(kind * R + u) * H + i]; }
    double column(long kind, long v, long j) const { return columns[(kind * S + v) * W + j]; }
    void row_span(long u, long *first, long *last) const { span(rows + (R + u) * H, H, first, last); }
    void column_span(long v, long *first, long *last) const { span(columns + (S + v) * W, W, first, last); }

    // Whether tiles share no pixel. Then only squares have weights, and a tile's pixels have the same ones.
    bool whole() const {
        for (long i = 0; i < R * H; ++i)
            if (rows[2 * R * H + i] != 0) return false;
        for (long j = 0; j < S * W; ++j)
            if (columns[2 * S * W + j] != 0) return false;
        return R > 0;
    }

  private:
    static void span(const double *weight, long count, long *first, long *last) {
        for (*first = 0; *first < count && weight[*first] == 0;) ++*first;
        for (*last = count; *last > *first && weight[*last - 1] == 0;) --*last;
    }
};

// Mean and variance of channels from those of their planes, [B][C].
void channel_moments(const double *mean, const double *square, long B, long C, double *out) {
    for (long c = 0; c < C; ++c) {
        double total = 0, within = 0;
        for (long b = 0; b < B; ++b) total += mean[b * C + c], within += square[b * C + c];
        const double about = total / B;
        for (long b = 0; b < B; ++b) within += (mean[b * C + c] - about) * (mean[b * C + c] - about);
        out[c] = about;
        out[C + c] = within / B;
    }
}

// Mean and variance of tiles. plain, mixed, second [R][S]: sums over the planes of what a tile's pixels weigh, of d,
// of away * d, and of d * d, where d + away = x - centre, and away is one number in a plane.
void tile_moments(const double *plain, const double *mixed, const double *second, long tiles, const float *near,
                  long planes, double *out) {
    double away = 0, away_square = 0;
    for (long n = 0; n < planes; ++n) {
        const double each = (double)near[n] - near[0];
        away += each;
        away_square += each * each;
    }
    for (long t = 0; t < tiles; ++t) {
        const double mean = (plain[t] + away) / planes;
        const double variance = (second[t] + 2 * mixed[t] + away_square) / planes - mean * mean;
        out[t] = mean + near[0];
        out[tiles + t] = variance < 0 ? 0 : variance;
    }
}

// constant and slope of a gradient, from the derivatives of the loss by mean and variance. count: numbers of a channel.
void channel_coefficients(const float *by_mean, const float *by_variance, const double *mean, double count, long C,
                          float *constant, float *slope) {
    for (long c = 0; c < C; ++c) {
        const double first = by_mean ? by_mean[c] : 0, second = by_variance ? by_variance[c] : 0;
        slope[c] = (float)(2 * second / count);
        constant[c] = (float)((first - 2 * second * mean[c]) / count);
    }
}

// The coefficients of a gradient: constant[C], slope[C] and maps [0, 2 or 10][HW]. See planes_gradient.
struct Coefficients {
    const long maps;
    const Zeros<float> constant;
    float *const slope, *const map;
    bool missing;

    // by: derivatives of the loss by channel mean and variance [C], patch mean and variance [R * S]; null is 0.
    // mean, patch_mean: as measured.
    Coefficients(const Tiles &tiles, long B, long C, long HW, const float *const by[4], const double *mean,
                 const double *patch_mean)
        : maps(tiles.R == 0 ? 0 : tiles.whole() ? 2 : 10), constant(2 * C + maps * HW),
          slope(constant + C), map(slope + C), missing(!constant) {
        if (missing) return;
        channel_coefficients(by[0], by[1], mean, (double)B * HW, C, constant, slope);
        if (maps) fill_maps(tiles, (double)B * C, by, patch_mean, HW);
    }

  private:
    void fill_maps(const Tiles &tiles, double planes, const float *const by[4], const double *patch_mean, long HW) {
        const long W = tiles.W, H = tiles.H;
        const Zeros<double> sum(5 * HW); // of a place's constant and of its factors K0, KR, KV, KX
        missing = !sum;
        if (missing) return;
        for (long t = 0; t < tiles.R * tiles.S; ++t) {
            const long u = t / tiles.S, v = t % tiles.S;
            const double g = 2 * (by[3] ? by[3][t] : 0) / planes;
            const double a = (by[2] ? by[2][t] : 0) / planes - g * patch_mean[t];
            long top, bottom, first, last;
            tiles.row_span(u, &top, &bottom);
            tiles.column_span(v, &first, &last);
            for (long i = top; i < bottom; ++i) {
                const double row = a * tiles.row(0, u, i), square = g * tiles.row(1, u, i), next = g * tiles.row(2, u, i);
                for (long j = first; j < last; ++j) {
                    double *at = sum + i * W + j;
                    const double own = tiles.column(1, v, j), beside = tiles.column(2, v, j);
                    at[0] += row * tiles.column(0, v, j);
                    at[HW] += square * own;
                    if (maps == 2) continue;
                    at[2 * HW] += square * beside;
                    at[3 * HW] += next * own;
                    at[4 * HW] += next * beside;
                }
            }
        }
        for (long p = 0; p < 2 * HW; ++p) map[p] = (float)sum[p];
        for (long i = 0; maps > 2 && i < H; ++i)
            for (long j = 0; j < W; ++j) {
                const long p = i * W + j;
                const double *right = sum + 2 * HW + p, *lower = right + HW, *diagonal = lower + HW;
                float *at = map + p;
                at[2 * HW] = (float)right[0];
                at[3 * HW] = j ? (float)right[-1] : 0;
                at[4 * HW] = (float)lower[0];
                at[5 * HW] = (float)diagonal[0];
                at[6 * HW] = i ? (float)lower[-W] : 0;
                at[7 * HW] = i && j ? (float)diagonal[-W - 1] : 0;
                at[8 * HW] = j ? (float)diagonal[-1] : 0;
                at[9 * HW] = i ? (float)diagonal[-W] : 0;
            }
    }
};

} // namespace
