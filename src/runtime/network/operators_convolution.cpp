#include <algorithm>

#include "runtime/network/convolution.h"
#include "runtime/network/float_input.h"
#include "runtime/network/fuse.h"
#include "runtime/network/fused_activation.h"
#include "runtime/network/matrix_product.h"
#include "runtime/network/operator.h"

namespace packlight::runtime {
namespace {

// Elements of one thread's columns of a transposed convolution.
constexpr int64_t kColumnElements = 1 << 17;

void check_floats(const OperatorCall& call) {
  for (size_t i = 0; i < call.input_count(); ++i) {
    if (call.has(i) && element_type(call.input(i)) != codec::DType::kF32)
      call.refuse("input {} is {}, not F32", i, codec::info(call.input(i).dtype).name);
  }
}

void check_bias(const OperatorCall& call, int64_t maps) {
  if (call.has(2) && call.input(2).dims != std::vector<int64_t>{maps})
    call.refuse("bias {} is not [{}]", to_string(call.input(2).dims), maps);
}

// The output before anything is added: each map's bias, or zero.
void start_maps(const RunCall& call, int64_t maps, int64_t plane) {
  std::vector<float> buffer;
  const float* bias = call.has(2) ? float_input(call, 2, buffer) : nullptr;
  float* y = call.output(0).as<float>();
  const int64_t planes = plane == 0 ? 0 : call.output(0).elements() / plane;
  for (int64_t i = 0; i < planes; ++i)
    std::fill_n(y + i * plane, plane, bias != nullptr ? bias[i % maps] : 0.f);
}

bool conv_shape(const ShapeCall& call) {
  check_floats(call);
  const Convolution it = convolution_of(call, call.input(0), call.input(1));
  check_bias(call, it.maps);
  call.set(0, codec::DType::kF32, it.window.dims(it.batch, it.maps, it.window.stops));
  return true;
}

void conv(const RunCall& call) {
  const Convolution it = convolution_of(call, call.input(0), call.input(1));
  std::vector<float> x_buffer, w_buffer, bias_buffer;
  const float *x = float_input(call, 0, x_buffer), *weight = float_input(call, 1, w_buffer),
              *bias = call.has(2) ? float_input(call, 2, bias_buffer) : nullptr;
  convolve_f32(call, it, x, weight, bias, fused_activation(call.node), call.output(0).as<float>());
}

// X [batch, channels, spatial...] under W [channels, maps / groups, kernel...].
Convolution transposed_of(const OperatorCall& call) {
  const Tensor &x = call.input(0), &weight = call.input(1);
  if (x.rank() < 3 || weight.rank() != x.rank())
    call.refuse("input {} and weight {} must have one rank, >= 3", to_string(x.dims),
                to_string(weight.dims));
  Convolution it;
  it.groups = call.node.integer("group", 1);
  it.batch = x.dims[0];
  it.channels = x.dims[1];
  if (it.groups < 1 || it.channels % it.groups != 0 || weight.dims[0] != it.channels)
    call.refuse("input {} and weight {} in {} groups do not fit", to_string(x.dims),
                to_string(weight.dims), it.groups);
  if (it.groups > std::max<int64_t>(1, it.channels))  // zero channels are divided by anything
    call.refuse("{} groups of {} channels", it.groups, it.channels);
  if (__builtin_mul_overflow(weight.dims[1], it.groups, &it.maps))
    call.refuse("{} maps in {} groups overflow", weight.dims[1], it.groups);
  it.window = transposed_window(call, x, std::span(weight.dims).subspan(2));
  return it;
}

bool conv_transpose_shape(const ShapeCall& call) {
  check_floats(call);
  const Convolution it = transposed_of(call);
  check_bias(call, it.maps);
  call.set(0, codec::DType::kF32, it.window.dims(it.batch, it.maps, it.window.image));
  return true;
}

// Maps [first, first + count) of a group of an image: the product of their weights (transposed)
// with the input is what each input element adds under each tap.
void add_transposed(const Convolution& it, const float* x, const float* weight, int64_t first,
                    int64_t count, std::vector<float>& columns, float* y) {
  const Window& window = it.window;
  const int64_t taps = window.kernel_size(), stops = window.stop_count(),
                tile = std::max<int64_t>(16, kColumnElements / (count * taps));
  for (int64_t begin = 0; begin < stops; begin += tile) {
    const int64_t end = std::min(stops, begin + tile), width = end - begin;
    columns.assign(count * taps * width, 0.f);
    MatrixProduct<float> product{count * taps, width, it.group_channels()};
    product.a = {weight + first * taps, 1, it.group_maps() * taps};
    product.b = {x + begin, stops, 1};
    product.c = columns.data();
    product.c_stride = width;
    multiply(product);
    add_columns_to_image(window, columns.data(), count, begin, end, y);
  }
}

void conv_transpose(const RunCall& call) {
  const Convolution it = transposed_of(call);
  const Window& window = it.window;
  start_maps(call, it.maps, window.image_size());
  std::vector<float> x_buffer, w_buffer;
  const float *x = float_input(call, 0, x_buffer), *weight = float_input(call, 1, w_buffer);
  float* y = call.output(0).as<float>();
  const int64_t maps = it.group_maps(), taps = window.kernel_size();
  if (call.output(0).elements() == 0) return;
  // A few maps at a time, so that a product has enough rows and every thread something to do.
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(maps, maps * taps / 64)),
                step = (maps + parts - 1) / parts, steps = (maps + step - 1) / step;
  call.parallel(it.batch * it.groups * steps, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> columns;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % steps * step, image_group = i / steps,
                    group = image_group % it.groups;
      add_transposed(it, x + image_group * it.group_channels() * window.stop_count(),
                     weight + group * it.group_channels() * maps * taps, first,
                     std::min(step, maps - first), columns,
                     y + (image_group * maps + first) * window.image_size());
    }
  });
}

constexpr Operator kOperators[] = {
    {.op = "Conv", .shape = conv_shape, .run = conv, .takes_packed = true},
    {.op = "Conv", .shape = conv_shape, .run = conv, .domain = kFusedDomain, .takes_packed = true},
    {.op = "ConvTranspose",
     .shape = conv_transpose_shape,
     .run = conv_transpose,
     .takes_packed = true},
};

}  // namespace

std::span<const Operator> convolution_operators() { return kOperators; }

}  // namespace packlight::runtime
