#include "runtime/network/int8_products.h"

#include "runtime/network/convolution_bands.h"

namespace packlight::runtime {
namespace {

using kernels::CodeRange;
using kernels::ProductInt8;
using Quad = uint32_t;

Quad zero_quad(const CodeRange& range) { return stored_code(range.zero) * 0x01010101u; }

// Codes of four channels (fewer where the group has no more), pixels of a row one after the other.
void quantize_row(const float* x, int64_t channel_stride, int64_t channels, int64_t pixels,
                  const CodeRange& range, Quad* out) {
  kernels::active().quantize_quads(x, channel_stride, std::min<int64_t>(4, channels), pixels, range,
                                   reinterpret_cast<uint8_t*>(out));
}

struct Int8Convolution {
  const Convolution& it;
  const float* x;
  CodeRange range;
  Int8Weights weights;
  kernels::Activation activation;
  float* y;

  // Those of four channels of the part's image.
  CodeRange range_of(int64_t quad) const {
    CodeRange part = range;
    if (part.factors != nullptr) part.factors += 4 * quad;
    return part;
  }
  int64_t channel_quads() const { return quads_of(it.channels); }
  int64_t quads() const { return channel_quads() * it.window.kernel_size(); }
  // Channels 4 * quad and on of the part's image.
  const float* image(const BandPart& part, int64_t quad) const {
    return x + (part.image * it.channels + 4 * quad) * it.window.image_size();
  }
  ProductInt8 product(int64_t map, int64_t end) const {
    ProductInt8 product;
    product.rows = end - map;
    product.quads = quads();
    product.a_stride = 4 * quads();
    product.a = weights.quads + map * product.a_stride;
    product.start = weights.start + map;
    product.scale = weights.scale + map;
    product.bias = weights.bias != nullptr ? weights.bias + map : nullptr;
    product.activation = activation;
    return product;
  }
};

void convolve_pointwise(const RunCall& call, const Int8Convolution& conv) {
  const Convolution& it = conv.it;
  const int64_t stops = it.window.stop_count(), quads = conv.quads(),
                length = std::max(kColumnUnit, kBandElements / quads / kColumnUnit * kColumnUnit);
  for_each_part(call, it, band_parts(it, stops, length, kColumnUnit, call.pool.size()),
                [&](const BandPart& part) {
                  thread_local std::vector<Quad> b;
                  thread_local std::vector<int64_t> b_quads;
                  b.resize(std::max<size_t>(b.size(), quads * part.rows));
                  b_quads.clear();
                  for (int64_t q = 0; q < quads; ++q) {
                    b_quads.push_back(q * part.rows);
                    quantize_row(conv.image(part, q) + part.first, stops, it.channels - 4 * q,
                                 part.rows, conv.range_of(q), b.data() + q * part.rows);
                  }
                  ProductInt8 product = conv.product(part.map, part.map_end);
                  product.columns = part.rows;
                  product.b = reinterpret_cast<const uint8_t*>(b.data());
                  product.b_quad = b_quads.data();
                  product.y = conv.y + (part.image * it.maps + part.map) * stops + part.first;
                  product.y_stride = stops;
                  kernels::active().product_int8(product);
                });
}

void convolve_bands_of_codes(const RunCall& call, const Int8Convolution& conv) {
  const Convolution& it = conv.it;
  const int64_t plane = it.window.image_size(), width = it.window.image[2];
  convolve_bands<Quad>(
      call, it, conv.channel_quads(), conv.y,
      [&](const BandPart& part, const PaddedBand& band, int64_t quad, Quad* out) {
        thread_local std::vector<Quad> row;
        row.resize(std::max<size_t>(row.size(), width));
        const float* image = conv.image(part, quad);
        band.fill(part.first, part.rows, zero_quad(conv.range), out, [&](int64_t h) {
          quantize_row(image + h * width, plane, it.channels - 4 * quad, width, conv.range_of(quad),
                       row.data());
          return row.data();
        });
      },
      [&](const BandPart&, int64_t map, int64_t end, const Quad* b,
          const std::vector<int64_t>& b_quads, int64_t columns, float* y, int64_t y_stride) {
        ProductInt8 product = conv.product(map, end);
        product.columns = columns;
        product.b = reinterpret_cast<const uint8_t*>(b);
        product.b_quad = b_quads.data();
        product.y = y;
        product.y_stride = y_stride;
        kernels::active().product_int8(product);
      });
}

}  // namespace

void convolve_int8(const RunCall& call, const Convolution& it, const float* x,
                   const CodeRange& range, const Int8Weights& weights,
                   const kernels::Activation& activation, float* y) {
  const Int8Convolution conv{it, x, range, weights, activation, y};
  if (is_pointwise(it.window))
    convolve_pointwise(call, conv);
  else
    convolve_bands_of_codes(call, conv);
}

void multiply_int8(const RunCall& call, int64_t rows, int64_t columns, int64_t inner,
                   const float* a, const CodeRange& range, const Int8Weights& weights,
                   const kernels::Activation& activation, float* y) {
  const int64_t quads = quads_of(inner);
  std::vector<int64_t> b_quads(quads);
  for (int64_t k = 0; k < quads; ++k) b_quads[k] = k * columns;
  std::vector<uint8_t> codes(rows * 4 * quads, stored_code(range.zero));
  for (int64_t r = 0; r < rows; ++r)
    kernels::active().quantize_codes(a + r * inner, inner, range, codes.data() + r * 4 * quads);
  const bool by_rows = rows >= kMapUnit * call.pool.size();
  const int64_t unit = by_rows ? kMapUnit : kColumnUnit, size = by_rows ? rows : columns,
                units = (size + unit - 1) / unit;
  const double work = static_cast<double>(rows) * static_cast<double>(columns) *
                      static_cast<double>(inner) / static_cast<double>(std::max<int64_t>(1, units));
  const auto grain = static_cast<int64_t>(kWorkOfThread / std::max(work, 1.0));
  call.parallel(units, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * unit, last = std::min(size, end * unit),
                  row = by_rows ? first : 0, column = by_rows ? 0 : first;
    ProductInt8 product;
    product.rows = by_rows ? last - first : rows;
    product.columns = by_rows ? columns : last - first;
    product.quads = quads;
    product.a = codes.data() + row * 4 * quads;
    product.a_stride = 4 * quads;
    product.b = weights.quads + 4 * column;
    product.b_quad = b_quads.data();
    product.weights_in_b = true;
    product.start = weights.start + column;
    product.scale = weights.scale + column;
    product.bias = weights.bias != nullptr ? weights.bias + column : nullptr;
    product.y = y + row * columns + column;
    product.y_stride = columns;
    product.activation = activation;
    kernels::active().product_int8(product);
  });
}

}  // namespace packlight::runtime
