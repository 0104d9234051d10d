// Moments of every image by itself on a CPU: see edc_ray/core/layers/image_statistics.py for what they are, and
// edc_ray/kernels/cpu/statistics.py for their caller.
//
// float32 data, B images of C channels of H rows of W pixels. "planes": stored image by image, channel by channel.
// "pixels": stored image by image, pixel by pixel (channels last). An image is read once from memory and is one
// thread's work, so results depend neither on the number of threads nor on the images beside it.

#include "tiles.h"

namespace {

const long TOGETHER = 4;   // planes that share one visit to the sums of the places
const long SAMPLES = 64;   // numbers whose mean is near that of an image
const long QUANTITIES = 5; // sums of a place: values, squares, products with the right, lower, diagonal neighbours

float near_mean(const float *x, long count) {
    const long samples = count < SAMPLES ? count : SAMPLES;
    double total = 0;
    for (long k = 0; k < samples; ++k) total += x[(2 * k + 1) * count / (2 * samples)];
    return (float)(total / samples);
}

// Sums of d and of d * d, d = x - centre. A float32 sum holds at most CHUNK numbers.
template <long CHUNK>
void sums_around(const float *RESTRICT x, float centre, long count, double *values, double *squares) {
    *values = *squares = 0;
    for (long first = 0; first < count; first += CHUNK) {
        const long end = first + CHUNK < count ? first + CHUNK : count;
        float square = 0, value = 0;
#pragma omp simd reduction(+ : square, value)
        for (long p = first; p < end; ++p) {
            const float d = x[p] - centre;
            square += d * d;
            value += d;
        }
        *squares += square;
        *values += value;
    }
}

// Adds K planes, `stride` apart, to the sums of their places [QUANTITIES][HW]. Behind a plane that has neighbours
// lie W + 1 numbers more.
template <long K, bool NEIGHBOURS>
void add_planes(const float *RESTRICT x, long stride, float centre, float *RESTRICT sums, long HW, long W) {
    float *RESTRICT value = sums, *RESTRICT square = sums + HW;
    float *RESTRICT right = sums + 2 * HW, *RESTRICT lower = sums + 3 * HW, *RESTRICT diagonal = sums + 4 * HW;
#pragma omp simd
    for (long p = 0; p < HW; ++p) {
        float v = value[p], s = square[p], r = 0, l = 0, g = 0;
        for (long k = 0; k < K; ++k) {
            const float *at = x + k * stride + p;
            const float d = at[0] - centre;
            v += d;
            s += d * d;
            if (NEIGHBOURS) {
                const float e = at[1] - centre, f = at[W] - centre;
                r += d * e;
                l += d * f;
                g += d * (at[W + 1] - centre) + e * f;
            }
        }
        value[p] = v, square[p] = s;
        if (NEIGHBOURS) right[p] += r, lower[p] += l, diagonal[p] += g;
    }
}

// Mean and variance of every tile from the sums over C channels at its places.
void finish_tiles(const double *sums, float centre, long C, const Tiles &t, bool whole, double *mean, double *variance) {
    const long HW = t.H * t.W;
    const double *value = sums, *square = sums + HW, *right = sums + 2 * HW;
    const double *lower = sums + 3 * HW, *diagonal = sums + 4 * HW;
    for (long u = 0; u < t.R; ++u)
        for (long v = 0; v < t.S; ++v) {
            double first = 0, second = 0;
            long top, bottom, begin, end;
            t.row_span(u, &top, &bottom);
            t.column_span(v, &begin, &end);
            for (long i = top; i < bottom; ++i) {
                const double a = t.row(0, u, i), a2 = t.row(1, u, i), aa = t.row(2, u, i);
                for (long j = begin; j < end; ++j) {
                    const long p = i * t.W + j;
                    const double b2 = t.column(1, v, j), bb = t.column(2, v, j);
                    first += a * t.column(0, v, j) * value[p];
                    second += a2 * b2 * square[p];
                    if (whole) continue;
                    second += 2 * (a2 * bb * right[p] + aa * b2 * lower[p] + aa * bb * diagonal[p]);
                }
            }
            first /= C, second /= C;
            const double spread = second - first * first;
            mean[u * t.S + v] = first + centre;
            variance[u * t.S + v] = spread > 0 ? spread : 0;
        }
}

void tiles_of_planes(const float *x, long C, const Tiles &t, bool whole, float *scratch, float *sum, double *total,
                     float centre) {
    const long HW = t.H * t.W, padded = HW + t.W + 1, size = (whole ? 2 : QUANTITIES) * HW;
    const auto add_all = whole ? add_planes<TOGETHER, false> : add_planes<TOGETHER, true>;
    const auto add_one = whole ? add_planes<1, false> : add_planes<1, true>;
    long since = 0;
    for (long c = 0; c < C; c += TOGETHER) {
        const long count = c + TOGETHER < C ? TOGETHER : C - c;
        const float *from = x + c * HW;
        if (!whole) {
            for (long k = 0; k < count; ++k) memcpy(scratch + k * padded, from + k * HW, HW * sizeof(float));
            from = scratch;
        }
        const long stride = whole ? HW : padded;
        if (count == TOGETHER) add_all(from, stride, centre, sum, HW, t.W);
        else
            for (long k = 0; k < count; ++k) add_one(from + k * stride, stride, centre, sum, HW, t.W);
        if ((since += TOGETHER) >= FLUSH || c + TOGETHER >= C) {
            flush(sum, total, size);
            since = 0;
        }
    }
}

void channels_of_pixels(const float *x, long C, long HW, float *sum, double *total, double *mean, double *variance) {
    float *near = sum + 2 * C;
    sample_pixels(x, C, HW, near);
    for (long p = 0; p < HW; p += FLUSH) {
        add_pixels(x + p * C, near, sum, sum + C, p + FLUSH < HW ? FLUSH : HW - p, C);
        flush(sum, total, 2 * C);
    }
    strip_moments(total, 1, 2 * C, near, C, HW, mean, variance);
    clamp(variance, C);
}

// Sums over the channels of a pixel: values, squares, products with its right, lower, diagonal neighbours.
void sums_of_pixel(const float *RESTRICT here, const float *RESTRICT right, const float *RESTRICT lower,
                   const float *RESTRICT diagonal, float centre, long C, long HW, double *total) {
    float value = 0, square = 0, beside = 0, below = 0, across = 0;
#pragma omp simd reduction(+ : value, square, beside, below, across)
    for (long c = 0; c < C; ++c) {
        const float d = here[c] - centre, e = right[c] - centre, f = lower[c] - centre;
        value += d;
        square += d * d;
        beside += d * e;
        below += d * f;
        across += d * (diagonal[c] - centre) + e * f;
    }
    total[0] = value, total[HW] = square, total[2 * HW] = beside, total[3 * HW] = below, total[4 * HW] = across;
}

// Where the next column begins that another tile has, or the same tile with another weight.
long end_of_run(const Tiles &t, long j) {
    for (long k = j + 1; k < t.W; ++k)
        for (long v = 0; v < 2 * t.S; ++v)
            if (t.columns[v * t.W + k] != t.columns[v * t.W + j]) return k;
    return t.W;
}

// Of whole tiles: the sums over a run of pixels in a row are at its first pixel.
void whole_tiles_of_pixels(const float *x, long C, const Tiles &t, double *total, float centre) {
    for (long first = 0, end; first < t.W; first = end) {
        end = end_of_run(t, first);
        for (long i = 0; i < t.H; ++i) {
            const long p = i * t.W + first, count = (end - first) * C;
            sums_around<4096>(x + p * C, centre, count, total + p, total + t.H * t.W + p);
        }
    }
}

void tiles_of_pixels(const float *x, long C, const Tiles &t, bool whole, double *total, float centre) {
    if (whole) return whole_tiles_of_pixels(x, C, t, total, centre);
    for (long i = 0; i < t.H; ++i)
        for (long j = 0; j < t.W; ++j) {
            const float *here = x + (i * t.W + j) * C;
            // What reaches over the edge has no weight: any number stands for it.
            const float *right = j + 1 < t.W ? here + C : here, *lower = i + 1 < t.H ? here + t.W * C : here;
            const float *diagonal = j + 1 < t.W ? lower + C : lower;
            sums_of_pixel(here, right, lower, diagonal, centre, C, t.H * t.W, total + i * t.W + j);
        }
}

} // namespace

extern "C" {

// Returns 0, or 1 where memory is missing. mean, variance: [B][C + R * S], channels first, then tiles row by row.
int image_statistics(const float *x, long planes, long B, long C, long H, long W, long R, long S, const double *rows,
                     const double *columns, double *mean, double *variance, int threads) {
    const Tiles t = {R, S, H, W, rows, columns};
    const long HW = H * W, width = C + R * S, places = R ? QUANTITIES * HW : 0;
    const bool whole = t.whole();
    const long floats = 3 * C + places + TOGETHER * (HW + W + 1), doubles = 2 * C + places;
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (long b = 0; b < B; ++b) {
        const float *image = x + b * C * HW;
        const Zeros<float> sum(floats);
        const Zeros<double> total(doubles);
        double *const place = total + 2 * C;
        if (!sum || !total) {
            failed |= 1;
            continue;
        }
        const float centre = near_mean(image, C * HW);
        if (planes) {
            for (long c = 0; c < C; ++c) {
                const float about = mean_of(image + c * HW, HW);
                mean[b * width + c] = about;
                double value, square;
                sums_around<1024>(image + c * HW, about, HW, &value, &square);
                variance[b * width + c] = square / HW - (value / HW) * (value / HW);
            }
            if (R) tiles_of_planes(image, C, t, whole, sum + 3 * C + places, sum + 3 * C, place, centre);
        } else {
            channels_of_pixels(image, C, HW, sum, total, mean + b * width, variance + b * width);
            if (R) tiles_of_pixels(image, C, t, whole, place, centre);
        }
        if (R) finish_tiles(place, centre, C, t, whole, mean + b * width + C, variance + b * width + C);
    }
    return failed;
}

} // extern "C"
