// Views of 8-bit images: cut, resized with two taps an axis, flipped, normalised and mixed in one pass.
//
// The same operations on the same numbers as edc_ray/core/cut_views.py and mixing.py, so the same bits. For that no
// product and sum may be fused into one rounding:
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace {

struct Sizes {
  long channels, height, width;
};

// What views read: an image each, and positions and weights along both axes.
struct Sources {
  const uint8_t* images;
  const int64_t* image;
  const int32_t *row_first, *row_second, *column_first, *column_second;
  const float *row_weight, *column_weight;
};

struct Window {
  long row0, row1, column0, column1;
};

// The pixels of one channel that a window reads, as floats in [0, 1]; written where they are in the image.
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

// One window of one channel of a view. With `blend`: out = out * own + view * other.
void cut(const uint8_t* plane, const Sizes& size, const Sources& from, long view, const Window& window, float mean,
         float deviation, bool blend, float own, float other, float* pixels, float* stretched, float* out) {
  if (window.row0 >= window.row1 || window.column0 >= window.column1) return;
  read_pixels(plane, size, from, view, window, pixels);
  const int32_t* left = from.column_first + view * size.width;
  const int32_t* right = from.column_second + view * size.width;
  const float* weight = from.column_weight + view * size.width;
  long low = size.width, high = -1;
  for (long x = window.column0; x < window.column1; ++x) {
    low = std::min<long>(low, std::min(left[x], right[x]));
    high = std::max<long>(high, std::max(left[x], right[x]));
  }
  for (long y = window.row0; y < window.row1; ++y) {
    const float* above = pixels + from.row_first[view * size.height + y] * size.width;
    const float* below = pixels + from.row_second[view * size.height + y] * size.width;
    const float share = from.row_weight[view * size.height + y];
#pragma omp simd
    for (long x = low; x <= high; ++x) stretched[x] = above[x] + (below[x] - above[x]) * share;
    float* row = out + y * size.width;
    if (blend) {
#pragma omp simd
      for (long x = window.column0; x < window.column1; ++x) {
        const float first = stretched[left[x]];
        const float value = (first + (stretched[right[x]] - first) * weight[x] - mean) / deviation;
        row[x] = row[x] * own + value * other;
      }
    } else {
#pragma omp simd
      for (long x = window.column0; x < window.column1; ++x) {
        const float first = stretched[left[x]];
        row[x] = (first + (stretched[right[x]] - first) * weight[x] - mean) / deviation;
      }
    }
  }
}

}  // namespace

// Views float32 [count, channels, height, width]. Partners are null without mixing; with CutMix `box` holds rows and
// columns of each view's box; with MixUp it is null, and `lam` holds the weights of the view and of its partner.
// Returns 0, or 1 where there is no memory for a channel.
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
    float* pixels = static_cast<float*>(std::malloc(sizeof(float) * width * (height + 1)));
    if (!pixels) failed = 1;
#pragma omp for schedule(static)
    for (long view = 0; view < count; ++view) {
      if (!pixels) continue;
      for (long channel = 0; channel < channels; ++channel) {
        float* stretched = pixels + width * height;
        float* plane_out = out + (view * channels + channel) * height * width;
        const uint8_t* plane = images + (image[view] * channels + channel) * height * width;
        cut(plane, size, own, view, whole, mean[channel], deviation[channel], false, 0, 0, pixels, stretched,
            plane_out);
        if (!partner_image) continue;
        const uint8_t* other = images + (partner_image[view] * channels + channel) * height * width;
        if (box) {
          const int64_t* edges = box + 4 * view;
          const Window inside = {static_cast<long>(edges[0]), static_cast<long>(edges[1]),
                                 static_cast<long>(edges[2]), static_cast<long>(edges[3])};
          cut(other, size, partner, view, inside, mean[channel], deviation[channel], false, 0, 0, pixels, stretched,
              plane_out);
        } else {
          cut(other, size, partner, view, whole, mean[channel], deviation[channel], true, lam[2 * view],
              lam[2 * view + 1], pixels, stretched, plane_out);
        }
      }
    }
    std::free(pixels);
  }
  return failed;
}
