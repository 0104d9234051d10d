// Views of 8-bit images: cut, resized with two taps an axis, flipped, normalised and mixed in one pass.
//
// It does the operations of edc_ray/core/views/cut_views.py and mixing.py on the same numbers, so it makes the same bits.
// For that, no product and sum may be fused into one rounding:
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

const long LANES = 16;  // columns made together, from twice as many numbers

struct Sizes {
  long channels, height, width;
};

// What views read: an image for each, and positions and weights along both axes.
struct Sources {
  const uint8_t* images;
  const int64_t* image;
  const int32_t *row_first, *row_second, *column_first, *column_second;
  const float *row_weight, *column_weight;
};

struct Window {
  long row0, row1, column0, column1;
};

// The pixels of one channel that a window reads, as floats in [0, 1], at their places in the image.
void read_pixels(const uint8_t* plane, const Sizes& size, const Sources& from, long view, const Window& window,
                 float* pixels) {
  long low_row = size.height, high_row = -1, low = size.width, high = -1;
  for (long y = view * size.height + window.row0; y < view * size.height + window.row1; ++y) {
    low_row = std::min<long>(low_row, std::min(from.row_first[y], from.row_second[y]));
    high_row = std::max<long>(high_row, std::max(from.row_first[y], from.row_second[y]));
  }
  for (long x = view * size.width + window.column0; x < view * size.width + window.column1; ++x) {
    low = std::min<long>(low, std::min(from.column_first[x], from.column_second[x]));
    high = std::max<long>(high, std::max(from.column_first[x], from.column_second[x]));
  }
  for (long y = low_row; y <= high_row; ++y) {
    const uint8_t* bytes = plane + y * size.width;
    float* row = pixels + y * size.width;
#pragma omp simd
    for (long x = low; x <= high; ++x) row[x] = static_cast<float>(bytes[x]) / 255.0f;
  }
}

// Memory of a thread: a channel's pixels, one line of them, and what find_blocks notes.
struct Scratch {
  float *pixels, *line;
  int32_t *begin, *left, *right;
  explicit Scratch(const Sizes& size) {
    const long blocks = size.width / LANES + 1;
    const long numbers = size.width * size.height + size.width + 2 * LANES + blocks * (1 + 2 * LANES);
    pixels = static_cast<float*>(std::malloc(sizeof(float) * numbers));
    line = pixels + size.width * size.height;
    begin = reinterpret_cast<int32_t*>(line + size.width + 2 * LANES);
    left = begin + blocks;
    right = left + blocks * LANES;
  }
  ~Scratch() { std::free(pixels); }
};

// How one line of a window is made: what its columns read, and what becomes of each number.
struct Columns {
  long first, last;
  const int32_t *left, *right;
  const float* weight;
  float mean, deviation;
  bool blend;  // out = out * own + number * other
  float own, other;
};

void make_line(const float* line, const Columns& at, float* out) {
#pragma omp simd
  for (long x = at.first; x < at.last; ++x) {
    const float first = line[at.left[x]];
    const float value = (first + (line[at.right[x]] - first) * at.weight[x] - at.mean) / at.deviation;
    out[x] = at.blend ? out[x] * at.own + value * at.other : value;
  }
}

#if defined(__AVX512F__)
// Whether each LANES columns read from 2 * LANES numbers. If so, notes where these begin and which of them each reads.
bool find_blocks(const Columns& at, const Scratch& to) {
  for (long x = at.first, block = 0; x < at.last; x += LANES, ++block) {
    const long end = std::min(x + LANES, at.last);
    const int32_t low = std::min(*std::min_element(at.left + x, at.left + end),
                                 *std::min_element(at.right + x, at.right + end));
    const int32_t high = std::max(*std::max_element(at.left + x, at.left + end),
                                  *std::max_element(at.right + x, at.right + end));
    if (high - low >= 2 * LANES) return false;
    to.begin[block] = low;
    for (long lane = 0; lane < LANES; ++lane) {
      const long column = std::min(x + lane, end - 1);
      to.left[block * LANES + lane] = at.left[column] - low;
      to.right[block * LANES + lane] = at.right[column] - low;
    }
  }
  return true;
}

// Like make_line, after find_blocks: numbers come from registers, not one by one from memory.
void make_line_of_blocks(const float* line, const Columns& at, const Scratch& found, float* out) {
  const __m512 mean = _mm512_set1_ps(at.mean), deviation = _mm512_set1_ps(at.deviation);
  const __m512 own = _mm512_set1_ps(at.own), other = _mm512_set1_ps(at.other);
  for (long x = at.first, block = 0; x < at.last; x += LANES, ++block) {
    const __mmask16 inside = at.last - x >= LANES ? 0xffff : (1u << (at.last - x)) - 1;
    const float* from = line + found.begin[block];
    const __m512 near = _mm512_loadu_ps(from), far = _mm512_loadu_ps(from + LANES);
    const __m512i left = _mm512_loadu_si512(found.left + block * LANES);
    const __m512i right = _mm512_loadu_si512(found.right + block * LANES);
    const __m512 first = _mm512_permutex2var_ps(near, left, far), second = _mm512_permutex2var_ps(near, right, far);
    const __m512 way = _mm512_mul_ps(_mm512_sub_ps(second, first), _mm512_maskz_loadu_ps(inside, at.weight + x));
    __m512 value = _mm512_div_ps(_mm512_sub_ps(_mm512_add_ps(first, way), mean), deviation);
    if (at.blend) {
      const __m512 before = _mm512_mul_ps(_mm512_maskz_loadu_ps(inside, out + x), own);
      value = _mm512_add_ps(before, _mm512_mul_ps(value, other));
    }
    _mm512_mask_storeu_ps(out + x, inside, value);
  }
}
#else
bool find_blocks(const Columns&, const Scratch&) { return false; }
void make_line_of_blocks(const float* line, const Columns& at, const Scratch&, float* out) { make_line(line, at, out); }
#endif

// One window of one channel of a view. lam: the weights of out and of the view if they are mixed, else null.
void cut(const Sizes& size, const Sources& from, long view, long channel, const Window& window, const float* mean,
         const float* deviation, const float* lam, const Scratch& scratch, float* out) {
  if (window.row0 >= window.row1 || window.column0 >= window.column1) return;
  const long plane = from.image[view] * size.channels + channel, start = view * size.width;
  read_pixels(from.images + plane * size.height * size.width, size, from, view, window, scratch.pixels);
  const Columns columns = {window.column0, window.column1, from.column_first + start, from.column_second + start,
                           from.column_weight + start, mean[channel], deviation[channel], lam != nullptr,
                           lam ? lam[0] : 0, lam ? lam[1] : 0};
  long low = size.width, high = -1;
  for (long x = window.column0; x < window.column1; ++x) {
    low = std::min<long>(low, std::min(columns.left[x], columns.right[x]));
    high = std::max<long>(high, std::max(columns.left[x], columns.right[x]));
  }
  const bool blocks = find_blocks(columns, scratch);
  float* line = scratch.line;
  for (long y = window.row0; y < window.row1; ++y) {
    const float* above = scratch.pixels + from.row_first[view * size.height + y] * size.width;
    const float* below = scratch.pixels + from.row_second[view * size.height + y] * size.width;
    const float share = from.row_weight[view * size.height + y];
#pragma omp simd
    for (long x = low; x <= high; ++x) line[x] = above[x] + (below[x] - above[x]) * share;
    if (blocks) make_line_of_blocks(line, columns, scratch, out + y * size.width);
    else make_line(line, columns, out + y * size.width);
  }
}

}  // namespace

// Views float32 [count, channels, height, width]. Partners are null without mixing; with CutMix `box` holds rows and
// columns of each view's box; with MixUp it is null, and `lam` holds the weights of the view and of its partner.
// Returns 0, or 1 if there is no memory for a channel.
extern "C" int cut_views(const uint8_t* images, const int64_t* image, const int32_t* row_first,
                         const int32_t* row_second, const int32_t* column_first, const int32_t* column_second,
                         const float* row_weight, const float* column_weight, const int64_t* partner_image,
                         const int32_t* partner_row_first, const int32_t* partner_row_second,
                         const int32_t* partner_column_first, const int32_t* partner_column_second,
                         const float* partner_row_weight, const float* partner_column_weight, const int64_t* box,
                         const float* lam, const float* mean, const float* deviation, float* out, long count,
                         long channels, long height, long width, int threads) {
  const Sizes size = {channels, height, width};
  const Sources own = {images, image, row_first, row_second, column_first, column_second, row_weight, column_weight};
  const Sources partner = {images, partner_image, partner_row_first, partner_row_second, partner_column_first,
                           partner_column_second, partner_row_weight, partner_column_weight};
  const Window whole = {0, height, 0, width};
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    const Scratch scratch(size);
    if (!scratch.pixels) failed = 1;
#pragma omp for schedule(static)
    for (long view = 0; view < count; ++view) {
      if (!scratch.pixels) continue;
      for (long channel = 0; channel < channels; ++channel) {
        float* plane_out = out + (view * channels + channel) * height * width;
        cut(size, own, view, channel, whole, mean, deviation, nullptr, scratch, plane_out);
        if (!partner_image) continue;
        const int64_t* edges = box ? box + 4 * view : nullptr;
        const Window window = edges ? Window{long(edges[0]), long(edges[1]), long(edges[2]), long(edges[3])} : whole;
        cut(size, partner, view, channel, window, mean, deviation, box ? nullptr : lam + 2 * view, scratch, plane_out);
      }
    }
  }
  return failed;
}
