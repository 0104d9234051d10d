// Operations of RandAugment on 8-bit images, image after image: see edc_ray/core/views/rand_augment.py for what they are, and
// edc_ray/kernels/cpu/views.py for their caller.
//
// The same operations on the same numbers as torch's, so the same bytes. For that no product and sum may be fused into
// one rounding:
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

enum Kind { IDENTITY, MOVE, BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE, AUTO_CONTRAST, EQUALIZE };

struct Sizes {
    long channels, height, width;
    long pixels() const { return height * width; }
    long numbers() const { return channels * pixels(); }
};

inline uint8_t byte_of(float value) {
    value = value < 0.0f ? 0.0f : value;
    return static_cast<uint8_t>(static_cast<int>(value > 255.0f ? 255.0f : value));
}

// own * image + rest * other.
void blend(uint8_t *image, const uint8_t *other, long count, float own, float rest) {
#pragma omp simd
    for (long p = 0; p < count; ++p) image[p] = byte_of(own * image[p] + rest * other[p]);
}

void blend_with(uint8_t *image, float other, long count, float own, float rest) {
    const float constant = rest * other;
#pragma omp simd
    for (long p = 0; p < count; ++p) image[p] = byte_of(own * image[p] + constant);
}

void grey_of(const uint8_t *image, const Sizes &size, uint8_t *grey) {
    const long count = size.pixels();
    if (size.channels == 1) {
        std::memcpy(grey, image, count);
        return;
    }
    const uint8_t *green = image + count, *blue = green + count;
#pragma omp simd
    for (long p = 0; p < count; ++p) {
        const float value = 0.2989f * image[p] + 0.587f * green[p] + 0.114f * blue[p];
        grey[p] = static_cast<uint8_t>(static_cast<int>(value));
    }
}

// Each pixel inside becomes (its eight neighbours + 5 times itself) / 13, rounded; no thirteenth lies between two bytes.
void blur(const uint8_t *image, const Sizes &size, uint8_t *blurred) {
    std::memcpy(blurred, image, size.numbers());
    const long width = size.width;
    for (long row = 0; row < size.channels * size.height; ++row) {
        if (row % size.height == 0 || row % size.height == size.height - 1) continue;
        const uint8_t *at = image + row * width;
#pragma omp simd
        for (long x = 1; x < width - 1; ++x) {
            const int above = at[x - width - 1] + at[x - width] + at[x - width + 1];
            const int below = at[x + width - 1] + at[x + width] + at[x + width + 1];
            const int sum = above + below + at[x - 1] + at[x + 1] + 5 * at[x];
            blurred[row * width + x] = static_cast<uint8_t>((2 * sum + 13) / 26);
        }
    }
}

void look_up(uint8_t *plane, long count, const uint8_t *levels) {
    for (long p = 0; p < count; ++p) plane[p] = levels[plane[p]];
}

void auto_contrast(uint8_t *plane, long count) {
    uint8_t low = 255, high = 0, levels[256];
    for (long p = 0; p < count; ++p) low = std::min(low, plane[p]), high = std::max(high, plane[p]);
    if (low == high) return;
    const float scale = 1.0f / (static_cast<float>(high) - static_cast<float>(low)) * 255.0f; // torch's way to divide
    for (int level = 0; level < 256; ++level) levels[level] = byte_of((level - static_cast<float>(low)) * scale);
    look_up(plane, count, levels);
}

void equalize(uint8_t *plane, long count) {
    long histogram[256] = {0}, below = 0;
    uint8_t levels[256];
    for (long p = 0; p < count; ++p) ++histogram[plane[p]];
    int last = 255;
    while (last > 0 && !histogram[last]) --last;
    const long step = (count - histogram[last]) / 255;
    if (step == 0) return;
    for (int level = 0; level < 256; ++level) {
        levels[level] = level ? std::min<long>((below + step / 2) / step, 255) : 0;
        below += histogram[level];
    }
    look_up(plane, count, levels);
}

// One operation on one image. sources: for MOVE, which pixel stands at each place, counted from 1; 0 is black.
void change(uint8_t *image, const Sizes &size, int kind, double magnitude, const int64_t *sources, uint8_t *scratch) {
    const long count = size.pixels(), numbers = size.numbers();
    const float own = static_cast<float>(1.0 + magnitude), rest = static_cast<float>(1.0 - (1.0 + magnitude));
    switch (kind) {
    case MOVE:
        std::memcpy(scratch, image, numbers);
        for (long channel = 0; channel < size.channels; ++channel) {
            const uint8_t *from = scratch + channel * count;
            for (long p = 0; p < count; ++p) image[channel * count + p] = sources[p] ? from[sources[p] - 1] : 0;
        }
        return;
    case BRIGHTNESS:
        return blend_with(image, 0, numbers, own, rest);
    case COLOUR:
        if (size.channels == 1) return;
        grey_of(image, size, scratch);
        for (long channel = 0; channel < size.channels; ++channel)
            blend(image + channel * count, scratch, count, own, rest);
        return;
    case CONTRAST: {
        grey_of(image, size, scratch);
        long sum = 0;
        for (long p = 0; p < count; ++p) sum += scratch[p];
        return blend_with(image, static_cast<float>(sum) / static_cast<float>(count), numbers, own, rest);
    }
    case SHARPNESS:
        if (size.height <= 2 || size.width <= 2) return;
        blur(image, size, scratch);
        return blend(image, scratch, numbers, own, rest);
    case POSTERIZE: {
        const uint8_t mask = static_cast<uint8_t>(256 - (1 << (8 - static_cast<int>(magnitude))));
        for (long p = 0; p < numbers; ++p) image[p] &= mask;
        return;
    }
    case SOLARIZE: {
        const float threshold = static_cast<float>(magnitude);
        for (long p = 0; p < numbers; ++p) image[p] = image[p] >= threshold ? 255 - image[p] : image[p];
        return;
    }
    case AUTO_CONTRAST:
        for (long channel = 0; channel < size.channels; ++channel) auto_contrast(image + channel * count, count);
        return;
    case EQUALIZE:
        for (long channel = 0; channel < size.channels; ++channel) equalize(image + channel * count, count);
        return;
    default:
        return;
    }
}

} // namespace

// Changes images [count][channels][height][width] in place. kind, magnitude and sources are [count][places].
// Returns 0, or 1 where there is no memory for an image.
extern "C" int change_images(uint8_t *images, const int64_t *kind, const double *magnitude,
                             const int64_t *const *sources, long count, long channels, long height, long width,
                             long places, int threads) {
    const Sizes size = {channels, height, width};
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        uint8_t *scratch = static_cast<uint8_t *>(std::malloc(size.numbers() + 1));
        if (!scratch) failed = 1;
#pragma omp for schedule(static)
        for (long image = 0; image < count; ++image)
            for (long place = image * places; scratch && place < (image + 1) * places; ++place)
                change(images + image * size.numbers(), size, static_cast<int>(kind[place]), magnitude[place],
                       sources[place], scratch);
        std::free(scratch);
    }
    return failed;
}
