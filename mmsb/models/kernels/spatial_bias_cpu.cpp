// Spatial bias at inference in two passes over float32 features, channels last. spatial_bias_cpu.py
// compiles this file and says what it computes. It needs no headers of PyTorch.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kLanes = 8;
constexpr int64_t kPixels = 8;  // whose sums are kept in registers at a time
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float))));

Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }

// As PyTorch's, NaN stays.
Lanes relu(Lanes value) { return value < 0 ? Lanes{} : value; }
float relu(float value) { return value < 0 ? 0 : value; }

template <int64_t count>
void reduce(const float* x, const float* weight, Lanes bias, int64_t channels, float* out) {
  Lanes sums[count];
  for (int64_t p = 0; p < count; ++p) sums[p] = bias;
  for (int64_t c = 0; c < channels; ++c) {
    const Lanes factors = load(weight + c * kLanes);
    for (int64_t p = 0; p < count; ++p) sums[p] += x[p * channels + c] * factors;
  }
  for (int64_t p = 0; p < count; ++p) store(out + p * kLanes, relu(sums[p]));
}

// Bilinear, align_corners=False: the two of size cells that a pixel lies between, and how far.
struct Between {
  int64_t low, high;
  float part;
  Between(int64_t pixel, int64_t pixels, int64_t size) {
    const float at = (pixel + 0.5f) * (static_cast<float>(size) / pixels) - 0.5f;
    low = std::min(static_cast<int64_t>(std::max(at, 0.f)), size - 1);
    high = std::min(low + 1, size - 1);
    part = std::max(at, 0.f) - low;
  }
  float of(float first, float second) const { return first * (1 - part) + second * part; }
};

// x (batch, height, width, channels), weight (reduced, channels), bias (reduced), pixels
// (batch, height, width, kLanes) to work in, pooled (batch, reduced, size * size)
void pool(const float* x, const float* weight, const float* bias, float* pixels, float* pooled,
          int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t size,
          int64_t reduced, int64_t threads) {
  const int64_t count = batch * height * width;
  std::vector<float> factors(channels * kLanes);
  for (int64_t first = 0; first < reduced; first += kLanes) {
    const int64_t outputs = std::min(kLanes, reduced - first);
    Lanes shift{};
    for (int64_t o = 0; o < outputs; ++o) {
      shift[o] = bias[first + o];
      for (int64_t c = 0; c < channels; ++c)
        factors[c * kLanes + o] = weight[(first + o) * channels + c];
    }
#pragma omp parallel for num_threads(threads)
    for (int64_t block = 0; block < (count + kPixels - 1) / kPixels; ++block) {
      int64_t p = block * kPixels;
      const float* next = x + (p + kPixels) * channels;  // in an order that no CPU foresees
      for (int64_t i = 0; i < kPixels * channels; i += 16) __builtin_prefetch(next + i);
      if (p + kPixels <= count)
        reduce<kPixels>(x + p * channels, factors.data(), shift, channels, pixels + p * kLanes);
      else
        for (; p < count; ++p)
          reduce<1>(x + p * channels, factors.data(), shift, channels, pixels + p * kLanes);
    }
#pragma omp parallel for num_threads(threads)
    for (int64_t line = 0; line < batch * size; ++line) {
      const int64_t image = line / size, row = line % size;
      const int64_t top = row * height / size, bottom = ((row + 1) * height + size - 1) / size;
      for (int64_t col = 0; col < size; ++col) {
        const int64_t left = col * width / size, right = ((col + 1) * width + size - 1) / size;
        Lanes sum{};
        for (int64_t h = image * height + top; h < image * height + bottom; ++h)
          for (int64_t w = left; w < right; ++w) sum += load(pixels + (h * width + w) * kLanes);
        sum /= static_cast<float>((bottom - top) * (right - left));
        for (int64_t o = 0; o < outputs; ++o)
          pooled[((image * reduced + first + o) * size + row) * size + col] = sum[o];
      }
    }
  }
}

// pooled (batch, reduced, cells), weight (cells, taps * cells), scale (num_maps),
// shift (num_maps, cells), maps (batch, num_maps, cells)
void mix(const float* pooled, const float* weight, const float* scale, const float* shift,
         float* maps, int64_t batch, int64_t reduced, int64_t cells, int64_t taps, int64_t num_maps,
         int64_t threads) {
  const int64_t length = taps * cells;
#pragma omp parallel for num_threads(threads)
  for (int64_t cell = 0; cell < cells; ++cell) {
    const float* factors = weight + cell * length;
    for (int64_t image = 0; image < batch; ++image)
      for (int64_t map = 0; map < num_maps; ++map) {
        const float* from = pooled + (image * reduced + map) * cells;  // its taps side by side
        Lanes sums[4]{};  // in one every addition would wait for the one before
        float sum = 0;
        int64_t i = 0;
        for (; i + 4 * kLanes <= length; i += 4 * kLanes)
          for (int64_t j = 0; j < 4; ++j)
            sums[j] += load(factors + i + j * kLanes) * load(from + i + j * kLanes);
        for (; i < length; ++i) sum += factors[i] * from[i];
        const Lanes lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
        maps[(image * num_maps + map) * cells + cell] =
            sum * scale[map] + shift[map * cells + cell];
      }
  }
}

// y (batch, height, width, channels), bias (channels), maps (batch, num_maps, size * size),
// joined (batch, height, width, channels + extra)
void join(const float* y, const float* bias, const float* maps, float* joined, int64_t batch,
          int64_t channels, int64_t height, int64_t width, int64_t num_maps, int64_t size,
          int64_t extra, int64_t threads) {
  std::vector<Between> columns;
  for (int64_t w = 0; w < width; ++w) columns.emplace_back(w, width, size);
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> cells(size * num_maps);  // of one row of pixels
#pragma omp for
    for (int64_t line = 0; line < batch * height; ++line) {
      const int64_t image = line / height;
      const Between rows(line % height, height, size);
      for (int64_t map = 0; map < num_maps; ++map) {
        const float* grid = maps + (image * num_maps + map) * size * size;
        for (int64_t i = 0; i < size; ++i)
          cells[i * num_maps + map] = rows.of(grid[rows.low * size + i], grid[rows.high * size + i]);
      }
      const float* from = y + line * width * channels;
      float* to = joined + line * width * (channels + extra);
      for (int64_t w = 0; w < width; ++w, from += channels, to += channels + extra) {
        int64_t c = 0;
        for (; c + kLanes <= channels; c += kLanes)
          store(to + c, relu(load(from + c) + load(bias + c)));
        for (; c < channels; ++c) to[c] = relu(from[c] + bias[c]);
        const float* left = cells.data() + columns[w].low * num_maps;
        const float* right = cells.data() + columns[w].high * num_maps;
        for (int64_t map = 0; map < num_maps; ++map)
          to[channels + map] = relu(columns[w].of(left[map], right[map]));
        std::fill(to + channels + num_maps, to + channels + extra, 0.f);
      }
    }
  }
}
}  // namespace

extern "C" void concatenate(const float* y, const float* x, float* joined, const float* y_bias,
                            const float* weight, const float* bias, const float* mixing,
                            const float* scale, const float* shift, int64_t batch,
                            int64_t channels, int64_t height, int64_t width, int64_t x_channels,
                            int64_t x_height, int64_t x_width, int64_t size, int64_t taps,
                            int64_t num_maps, int64_t extra, int64_t threads) {
  const int64_t reduced = num_maps + taps - 1, cells = size * size;
  const int64_t pixels = batch * x_height * x_width * kLanes, pooled = batch * reduced * cells;
  thread_local std::vector<float> work;  // kept: new memory costs more than what is done with it
  work.resize(std::max<size_t>(work.size(), pixels + pooled + batch * num_maps * cells));
  float* grid = work.data() + pixels;
  float* maps = grid + pooled;
  pool(x, weight, bias, work.data(), grid, batch, x_channels, x_height, x_width, size, reduced,
       threads);
  mix(grid, mixing, scale, shift, maps, batch, reduced, cells, taps, num_maps, threads);
  join(y, y_bias, maps, joined, batch, channels, height, width, num_maps, size, extra, threads);
}
