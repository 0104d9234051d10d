// Normalise every channel of every image, ReLU, average 2x2 pixels, on a CPU: see edc_ray/core/layers/norm_pool.py for
// what it computes, and edc_ray/kernels/cpu/statistics.py for its caller.
//
// float32, stored as pixels [B][H][W][C]. A task is one image's block of channels, so results depend neither on the
// number of threads nor on other images. Every function returns 0: none needs memory of its own.

namespace {

template <int N> struct Size {
    enum { value = N };
};

struct Map {
    long H, W, C;
    const float *at(const float *x, long i, long j) const { return x + (i * W + j) * C; }
};

// What a block's numbers are multiplied by before bias is added, and the bias: weight * (x - mean) / deviation + bias.
template <int N> struct Affine {
    float slope[N], constant[N];
    Affine(const float *mean, const float *inverse, const float *weight, const float *bias) {
        for (int c = 0; c < N; ++c) slope[c] = weight[c] * inverse[c], constant[c] = bias[c] - mean[c] * slope[c];
    }
};

template <int N> void clear(float *sum) {
    for (int c = 0; c < N; ++c) sum[c] = 0;
}

template <int N> void flush(const float *sum, double *total) {
    for (int c = 0; c < N; ++c) total[c] += sum[c];
}

// Mean and 1 / deviation of a block, in two looks: a row is summed in float32, rows in float64.
template <int N> void moments(const float *x, const Map &map, double epsilon, float *mean, float *inverse) {
    double total[N] = {0}, square[N] = {0};
    float sum[N], about[N];
    for (long i = 0; i < map.H; ++i) {
        clear<N>(sum);
        for (long j = 0; j < map.W; ++j) {
            const float *at = map.at(x, i, j);
            for (int c = 0; c < N; ++c) sum[c] += at[c];
        }
        flush<N>(sum, total);
    }
    for (int c = 0; c < N; ++c) about[c] = total[c] / (map.H * map.W);
    for (long i = 0; i < map.H; ++i) {
        clear<N>(sum);
        for (long j = 0; j < map.W; ++j) {
            const float *at = map.at(x, i, j);
            for (int c = 0; c < N; ++c) sum[c] += (at[c] - about[c]) * (at[c] - about[c]);
        }
        flush<N>(sum, square);
    }
    for (int c = 0; c < N; ++c) {
        mean[c] = about[c];
        inverse[c] = 1 / __builtin_sqrt(square[c] / (map.H * map.W) + epsilon);
    }
}

// NaN stays what it is, as in torch.
inline float positive(float value) { return value < 0 ? 0 : value; }
inline float passed(float value, float gradient) { return value <= 0 ? 0 : gradient; }

template <int N>
void forward(const float *x, const Map &map, const float *weight, const float *bias, double epsilon, float *out,
             float *mean, float *inverse) {
    moments<N>(x, map, epsilon, mean, inverse);
    const Affine<N> affine(mean, inverse, weight, bias);
    for (long i = 0; i < map.H / 2; ++i)
        for (long j = 0; j < map.W / 2; ++j) {
            const float *upper = map.at(x, 2 * i, 2 * j), *lower = map.at(x, 2 * i + 1, 2 * j);
            float *to = out + (i * (map.W / 2) + j) * map.C;
            for (int c = 0; c < N; ++c) {
                const float a = affine.slope[c], b = affine.constant[c];
                to[c] = 0.25f * (positive(a * upper[c] + b) + positive(a * upper[map.C + c] + b) +
                                 positive(a * lower[c] + b) + positive(a * lower[map.C + c] + b));
            }
        }
}

// to = by_out where it passes, spread over 2x2 pixels, less what of it the norm takes away again.
template <int N>
void backward(const float *x, const float *by_out, const Map &map, const float *weight, const float *bias,
              const float *mean, const float *inverse, float *to, float *by_weight, float *by_bias) {
    const Affine<N> affine(mean, inverse, weight, bias);
    const long rows = map.H / 2, columns = map.W / 2;
    double plain[N] = {0}, mixed[N] = {0};
    float sum[N], product[N];
    for (long i = 0; i < 2 * rows; ++i) {
        clear<N>(sum), clear<N>(product);
        for (long j = 0; j < 2 * columns; ++j) {
            const float *at = map.at(x, i, j), *upstream = by_out + (i / 2 * columns + j / 2) * map.C;
            for (int c = 0; c < N; ++c) {
                const float g = passed(affine.slope[c] * at[c] + affine.constant[c], 0.25f * upstream[c]);
                sum[c] += g;
                product[c] += g * (at[c] - mean[c]);
            }
        }
        flush<N>(sum, plain), flush<N>(product, mixed);
    }
    float slope[N], constant[N];
    for (int c = 0; c < N; ++c) {
        const double share = -(double)affine.slope[c] / (map.H * map.W);
        by_bias[c] = plain[c];
        by_weight[c] = mixed[c] * inverse[c];
        slope[c] = share * mixed[c] * inverse[c] * inverse[c];
        constant[c] = share * plain[c] - slope[c] * mean[c];
    }
    for (long i = 0; i < map.H; ++i)
        for (long j = 0; j < map.W; ++j) {
            const float *at = map.at(x, i, j);
            float *here = to + (i * map.W + j) * map.C;
            if (i >= 2 * rows || j >= 2 * columns) { // in no 2x2 pixels
                for (int c = 0; c < N; ++c) here[c] = slope[c] * at[c] + constant[c];
                continue;
            }
            const float *upstream = by_out + (i / 2 * columns + j / 2) * map.C;
            for (int c = 0; c < N; ++c) {
                const float a = affine.slope[c];
                here[c] = a * passed(a * at[c] + affine.constant[c], 0.25f * upstream[c]) +
                          (slope[c] * at[c] + constant[c]);
            }
        }
}

// Calls part(size, image, channel) for blocks of 32 channels of each image; the rest in blocks of 8, then one by one.
template <typename Part> void for_blocks(long B, long C, int threads, const Part &part) {
    const long blocks = (C + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < B * blocks; ++task) {
        const long image = task / blocks, first = task % blocks * 32;
        for (long c = first; c < first + 32 && c < C;) {
            if (C - c >= 32) part(Size<32>(), image, c), c += 32;
            else if (C - c >= 8) part(Size<8>(), image, c), c += 8;
            else part(Size<1>(), image, c), c += 1;
        }
    }
}

} // namespace

extern "C" {

// x [B][H][W][C], weight and bias [C]; out [B][H / 2][W / 2][C], mean and inverse (deviation) [B][C].
int norm_pool_forward(const float *x, const float *weight, const float *bias, float *out, float *mean, float *inverse,
                      long B, long C, long H, long W, double epsilon, int threads) {
    const Map map = {H, W, C};
    for_blocks(B, C, threads, [&](auto size, long image, long c) {
        float *to = out + image * (H / 2) * (W / 2) * C + c;
        const long at = image * C + c;
        forward<size.value>(x + image * H * W * C + c, map, weight + c, bias + c, epsilon, to, mean + at, inverse + at);
    });
    return 0;
}

// by_out as out, to as x; by_weight and by_bias [B][C]: each image's part.
int norm_pool_backward(const float *x, const float *by_out, const float *weight, const float *bias, const float *mean,
                       const float *inverse, float *to, float *by_weight, float *by_bias, long B, long C, long H,
                       long W, int threads) {
    const Map map = {H, W, C};
    for_blocks(B, C, threads, [&](auto size, long image, long c) {
        const long first = image * H * W * C + c, at = image * C + c;
        const float *g = by_out + image * (H / 2) * (W / 2) * C + c;
        backward<size.value>(x + first, g, map, weight + c, bias + c, mean + at, inverse + at, to + first,
                             by_weight + at, by_bias + at);
    });
    return 0;
}

} // extern "C"
