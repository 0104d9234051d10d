// The two passes over a layer's input on a CPU: see edc_ray/core/measured_input.py for what they compute,
// and compiled.py, beside this file, for who calls them.
//
// float32 data, B images of C channels of HW pixels in rows of W. "planes": stored image by image, channel by
// channel. "pixels": stored image by image, pixel by pixel (channels last). Work is cut by the sizes alone and
// partial sums are added in one order, so results do not depend on the number of threads.

#include <cstdlib>
#include <cstring>

#define RESTRICT __restrict__

namespace {

const long FLUSH = 64;   // float32 partial sums hold at most so many numbers a lane
const long TOGETHER = 4; // planes that share one visit to the sums of the places
const long BLOCKS = 16;  // parts of the work on planes, each with sums of its own over places

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

// What one row of pixels adds to the sums of its channels: d and d * d, d = x - shift.
void add_pixels(const float *RESTRICT x, const float *RESTRICT shift, float *RESTRICT value, float *RESTRICT square,
                long count, long C) {
    for (long p = 0; p < count; ++p, x += C) {
#pragma omp simd
        for (long c = 0; c < C; ++c) {
            const float d = x[c] - shift[c];
            value[c] += d;
            square[c] += d * d;
        }
    }
}

// What one row of a tile adds to its channels' weighted sums. weight: of a pixel, of its square, and of its products
// with the right, the lower and the diagonal neighbours (and of the right with the lower one).
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

// Where the tiles of an [H][W] map lie and what their pixels weigh. rows [3][R][H], columns [3][S][W]: weights of
// values, of squares, and of products with the next. R = 0: no tiles.
struct Tiles {
    long R, S, H, W;
    const double *rows, *columns;

    double row(long kind, long u, long i) const { return rows[(kind * R + u) * H + i]; }
    double column(long kind, long v, long j) const { return columns[(kind * S + v) * W + j]; }
    void row_span(long u, long *first, long *last) const { span(rows + (R + u) * H, H, first, last); }
    void column_span(long v, long *first, long *last) const { span(columns + (S + v) * W, W, first, last); }

    // Tiles without overlap: pixels count by themselves alone, all of a tile alike.
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

// Mean and variance of channels from the means and variances of their planes, [B][C].
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
                    // The falling product stands at its right pixel.
                    if (i + 1 < tiles.H && j + 1 < W) second += 2 * next * beside * (at[5 * HW] + at[6 * HW + 1]);
                }
            }
            weighed[u * tiles.S + v] = plain;
            weighed[count + u * tiles.S + v] = mixed;
            weighed[2 * count + u * tiles.S + v] = second;
        }
}

// What the gradient is made of: constant[C], slope[C] and maps [0, 2 or 10][HW]. See planes_gradient.
struct Coefficients {
    float *constant, *slope, *map;
    long maps;
    bool missing;

    // by: derivatives of the loss by channel mean and variance [C], patch mean and variance [R * S]; null is 0.
    // mean, patch_mean: what was measured.
    Coefficients(const Tiles &tiles, long B, long C, long HW, const float *const by[4], const double *mean,
                 const double *patch_mean) {
        maps = tiles.R == 0 ? 0 : tiles.whole() ? 2 : 10;
        constant = (float *)malloc((2 * C + maps * HW) * sizeof(float));
        missing = constant == 0;
        if (missing) return;
        slope = constant + C, map = slope + C;
        const double N = (double)B * HW;
        for (long c = 0; c < C; ++c) {
            const double by_mean = by[0] ? by[0][c] : 0, by_variance = by[1] ? by[1][c] : 0;
            slope[c] = (float)(2 * by_variance / N);
            constant[c] = (float)((by_mean - 2 * by_variance * mean[c]) / N);
        }
        if (maps) fill_maps(tiles, (double)B * C, by, patch_mean, HW);
    }
    ~Coefficients() { free(constant); }

  private:
    void fill_maps(const Tiles &tiles, double planes, const float *const by[4], const double *patch_mean, long HW) {
        const long W = tiles.W, H = tiles.H;
        double *sum = (double *)calloc(5 * HW, sizeof(double)); // the place's constant, K0, KR, KV, KX
        if (!sum) {
            missing = true;
            return;
        }
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
        free(sum);
    }
};

void flush(float *RESTRICT from, double *RESTRICT to, long count) {
    for (long i = 0; i < count; ++i) {
        to[i] += from[i];
        from[i] = 0;
    }
}

} // namespace

extern "C" {

// All return 0, or 1 where memory is missing.
// x [B][C][H][W]; out: channel mean and variance [2][C], then patch mean and variance [2][R * S].
int planes_statistics(const float *x, long B, long C, long H, long W, long R, long S, const double *rows,
                      const double *columns, double *out, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const bool whole = tiles.whole();
    const long N = B * C, HW = H * W, stride = HW + W + 2, maps = R == 0 ? 0 : whole ? 3 : 7, size = maps * HW;
    const long most = maps ? BLOCKS : 16 * BLOCKS, blocks = N < most ? N : most;
    double *partial = (double *)calloc(blocks * size + 3 * R * S + 2 * N, sizeof(double));
    float *near = (float *)malloc(N * sizeof(float));
    if (!partial || !near) {
        free(partial), free(near);
        return 1;
    }
    double *weighed = partial + blocks * size, *mean = weighed + 3 * R * S, *square = mean + N;
    const float centre = mean_of(x, HW);
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long block = 0; block < blocks; ++block) {
        float *scratch = (float *)calloc(TOGETHER * stride + size, sizeof(float));
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
        free(scratch);
    }
    for (long i = 0; i < size; ++i) // the first block's sums become those of all
        for (long block = 1; block < blocks; ++block) partial[i] += partial[block * size + i];
    channel_moments(mean, square, B, C, out);
    if (maps) {
        weigh_places(tiles, whole, partial, weighed);
        tile_moments(weighed, weighed + R * S, weighed + 2 * R * S, R * S, near, N, out + 2 * C);
    }
    free(partial), free(near);
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
        float *scratch = maps > 2 ? (float *)calloc(HW + 2 * margin, sizeof(float)) : 0;
        if (maps > 2 && !scratch) failed |= 1;
#pragma omp for schedule(static)
        for (long n = 0; n < N; ++n) {
            if (maps > 2 && !scratch) continue;
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
        free(scratch);
    }
    return failed;
}

// As planes_statistics, of x [B][H][W][C].
int pixels_statistics(const float *x, long B, long C, long H, long W, long R, long S, const double *rows,
                      const double *columns, double *out, int threads) {
    const Tiles tiles = {R, S, H, W, rows, columns};
    const bool whole = tiles.whole();
    const long HW = H * W, strips = R ? R : (H + 15) / 16, tasks = B * strips, per_task = R ? 3 * S : 0;
    float *shift = (float *)malloc(B * C * sizeof(float));
    double *partial = (double *)calloc(tasks * (2 * C + per_task) + 2 * B * C + 3 * R * S, sizeof(double));
    if (!shift || !partial) {
        free(shift), free(partial);
        return 1;
    }
    int failed = 0;
    double *mean = partial + tasks * (2 * C + per_task), *square = mean + B * C, *weighed = square + B * C;
    const long samples = HW < 8 ? HW : 8;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < B; ++b) {
        float *near = shift + b * C;
        for (long c = 0; c < C; ++c) near[c] = 0;
        for (long k = 0; k < samples; ++k) {
            const float *at = x + (b * HW + (2 * k + 1) * HW / (2 * samples)) * C;
            for (long c = 0; c < C; ++c) near[c] += at[c] / samples;
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long task = 0; task < tasks; ++task) {
        const long b = task / strips, strip = task % strips;
        const float *image = x + b * HW * C, *near = shift + b * C;
        double *value = partial + task * (2 * C + per_task), *tile = value + 2 * C;
        float *sum = (float *)calloc(2 * C, sizeof(float));
        double *own = (double *)calloc(2 * C, sizeof(double));
        if (!sum || !own) {
            free(sum), free(own);
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
        free(sum), free(own);
    }
    for (long b = 0; b < B; ++b)
        for (long c = 0; c < C; ++c) {
            double value = 0, second = 0;
            for (long strip = 0; strip < strips; ++strip) {
                value += partial[(b * strips + strip) * (2 * C + per_task) + c];
                second += partial[(b * strips + strip) * (2 * C + per_task) + C + c];
            }
            const double rest = value / HW; // what the plane's mean is off by
            mean[b * C + c] = shift[b * C + c] + rest;
            square[b * C + c] = second / HW - rest * rest;
        }
    channel_moments(mean, square, B, C, out);
    for (long i = 0; i < 3 * R * S; ++i) {
        const long kind = i / (R * S), u = i / S % R, v = i % S;
        for (long b = 0; b < B; ++b) weighed[i] += partial[(b * strips + u) * (2 * C + per_task) + 2 * C + kind * S + v];
    }
    if (R) tile_moments(weighed, weighed + R * S, weighed + 2 * R * S, R * S, shift, B * C, out + 2 * C);
    free(shift), free(partial);
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
