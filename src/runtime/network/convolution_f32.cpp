#include "runtime/network/convolution_bands.h"
#include "runtime/network/matrix_product.h"

namespace packlight::runtime {
namespace {

using kernels::Activation;
using kernels::ProductF32;

// Stops of a pointwise convolution that a thread takes at a time.
constexpr int64_t kPointwiseColumns = 1 << 14;
// Fewer leave most lanes of a vector idle.
constexpr int64_t kFewStops = 4;

struct Operands {
  const float *x, *weight, *bias;
  Activation activation;
  float* y;

  ProductF32 product(const Convolution& it, const BandPart& part, int64_t map, int64_t end) const {
    ProductF32 product;
    const int64_t row = part.group * it.group_maps() + map;
    product.rows = end - map;
    product.inner = it.inner();
    product.a = weight + row * it.inner();
    product.a_row_stride = it.inner();
    product.bias = bias != nullptr ? bias + row : nullptr;
    product.activation = activation;
    return product;
  }
  const float* image(const Convolution& it, const BandPart& part) const {
    return x +
           (part.image * it.channels + part.group * it.group_channels()) * it.window.image_size();
  }
};

void convolve_pointwise(const RunCall& call, const Convolution& it, const Operands& operands) {
  const int64_t stops = it.window.stop_count();
  std::vector<int64_t> rows(it.inner());
  for (int64_t k = 0; k < it.inner(); ++k) rows[k] = k * stops;
  const auto parts = band_parts(it, stops, kPointwiseColumns, kColumnUnit, call.pool.size());
  for_each_part(call, it, parts, [&](const BandPart& part) {
    ProductF32 product = operands.product(it, part, part.map, part.map_end);
    product.columns = part.rows;
    product.b = operands.image(it, part) + part.first;
    product.b_row = rows.data();
    product.y = operands.y +
                (part.image * it.maps + part.group * it.group_maps() + part.map) * stops +
                part.first;
    product.y_stride = stops;
    kernels::active().product_f32(product);
  });
}

void convolve_float_bands(const RunCall& call, const Convolution& it, const Operands& operands) {
  const int64_t plane = it.window.image_size(), width = it.window.image[2];
  convolve_bands<float>(
      call, it, it.group_channels(), operands.y,
      [&](const BandPart& part, const PaddedBand& band, int64_t channel, float* out) {
        const float* image = operands.image(it, part) + channel * plane;
        band.fill(part.first, part.rows, 0.f, out, [&](int64_t h) { return image + h * width; });
      },
      [&](const BandPart& part, int64_t map, int64_t end, const float* b,
          const std::vector<int64_t>& b_rows, int64_t columns, float* y, int64_t y_stride) {
        ProductF32 product = operands.product(it, part, map, end);
        product.columns = columns;
        product.b = b;
        product.b_row = b_rows.data();
        product.y = y;
        product.y_stride = y_stride;
        kernels::active().product_f32(product);
      });
}

// Whatever has no faster way: onto a bias, and the activation over all of it.
void convolve_plainly(const RunCall& call, const Convolution& it, const Operands& operands) {
  const int64_t stops = it.window.stop_count(), planes = it.batch * it.maps;
  for (int64_t i = 0; i < planes; ++i) {
    std::fill_n(operands.y + i * stops, stops,
                operands.bias != nullptr ? operands.bias[i % it.maps] : 0.f);
  }
  convolve(call, it, operands.x, operands.weight, operands.y);
  if (operands.activation.kind == kernels::ActivationKind::kNone) return;
  call.parallel(planes, std::max<int64_t>(1, (1 << 14) / stops), [&](int64_t begin, int64_t end) {
    float* y = operands.y + begin * stops;
    kernels::active().activate(operands.activation, y, (end - begin) * stops, y);
  });
}

}  // namespace

void convolve_f32(const RunCall& call, const Convolution& it, const float* x, const float* weight,
                  const float* bias, const Activation& activation, float* y) {
  if (call.output(0).elements() == 0) return;
  const Operands operands{x, weight, bias, activation, y};
  const bool few = it.groups == 1 && it.window.stop_count() < kFewStops;
  if (!few && is_pointwise(it.window))
    convolve_pointwise(call, it, operands);
  else if (!few && it.inner() > 0 && fits_bands(it, it.group_channels()))
    convolve_float_bands(call, it, operands);
  else
    convolve_plainly(call, it, operands);
}

}  // namespace packlight::runtime
