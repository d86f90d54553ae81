#include <algorithm>
#include <cmath>

#include "runtime/network/broadcast.h"
#include "runtime/network/operands.h"

namespace packlight::runtime {
namespace {

using codec::DType;
using Dims = std::vector<int64_t>;

void check_floats(const OperatorCall& call) {
  for (size_t i = 0; i < call.input_count(); ++i) {
    if (call.has(i) && (call.input(i).dtype != DType::kF32 || call.input(i).packed != nullptr))
      call.refuse("input {} is {}, not F32", i, codec::info(call.input(i).dtype).name);
  }
}

void check_rank(const OperatorCall& call, size_t least) {
  if (call.input(0).dims.size() < least)
    call.refuse("input {} has less than {} axes", to_string(call.input(0).dims), least);
}

void check_vector(const OperatorCall& call, size_t input, int64_t size) {
  if (call.input(input).dims != Dims{size})
    call.refuse("input {} {} is no vector of {} elements", input, to_string(call.input(input).dims),
                size);
}

// fn(item) for `count` items of `elements` each, in parallel.
template <class Fn>
void for_each_item(const RunCall& call, int64_t count, int64_t elements, const Fn& fn) {
  call.parallel(count, grain_of(elements), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fn(i);
  });
}

struct Statistics {
  double mean = 0, variance = 0;
};
Statistics statistics(const float* x, int64_t count) {
  Statistics result;
  if (count == 0) return result;
  for (int64_t i = 0; i < count; ++i) result.mean += x[i];
  result.mean /= static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i)
    result.variance += (x[i] - result.mean) * (x[i] - result.mean);
  result.variance /= static_cast<double>(count);
  return result;
}

// y = x * factor + addend
void scale_row(const float* x, int64_t count, float factor, float addend, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * factor + addend;
}

// y = (x - mean) / deviation * scale + bias
void normalise(const float* x, int64_t count, const Statistics& of, double epsilon, float scale,
               float bias, float* y) {
  const double factor = scale / std::sqrt(of.variance + epsilon);
  scale_row(x, count, static_cast<float>(factor), static_cast<float>(bias - of.mean * factor), y);
}

// [batch, channels, ...] with channels one where x is a vector.
struct Planes {
  int64_t batch, channels, size;
};
Planes planes_of(const Tensor& x) {
  const int64_t channels = x.rank() > 1 ? x.dims[1] : 1;
  return {x.dims[0], channels,
          product(std::span(x.dims).subspan(std::min<size_t>(2, x.dims.size())))};
}

bool batch_normalization_shape(const ShapeCall& call) {
  check_floats(call);
  check_rank(call, 1);
  const int64_t channels = planes_of(call.input(0)).channels;
  for (size_t i = 1; i < 5; ++i) check_vector(call, i, channels);
  call.set(0, DType::kF32, call.input(0).dims);
  call.set(1, DType::kF32, {channels});
  call.set(2, DType::kF32, {channels});
  return true;
}

// Of one channel over the whole batch.
Statistics channel_statistics(const Planes& it, const float* x, int64_t channel) {
  Statistics all;
  const auto count = static_cast<double>(it.batch * it.size);
  const auto sum = [&](const auto& term) {
    double total = 0;
    for (int64_t b = 0; b < it.batch; ++b) {
      const float* plane = x + (b * it.channels + channel) * it.size;
      for (int64_t i = 0; i < it.size; ++i) total += term(plane[i]);
    }
    return total / count;
  };
  all.mean = sum([](double v) { return v; });
  all.variance = sum([&](double v) { return (v - all.mean) * (v - all.mean); });
  return all;
}

// Outputs 1 and 2 are the running statistics: mixed with the batch's in training, else as they
// were.
void batch_normalization(const RunCall& call) {
  const Planes it = planes_of(call.input(0));
  const double epsilon = call.node.number("epsilon", 1e-5),
               momentum = call.node.number("momentum", 0.9);
  const bool training = call.node.integer("training_mode", 0) != 0;
  const float *x = call.input(0).as<float>(), *scale = call.input(1).as<float>(),
              *bias = call.input(2).as<float>(), *mean = call.input(3).as<float>(),
              *variance = call.input(4).as<float>();
  if (training && it.batch * it.size == 0) call.refuse("statistics of an empty batch");
  for_each_item(call, it.channels, it.batch * it.size, [&](int64_t c) {
    const Statistics given{mean[c], variance[c]};
    const Statistics used = training ? channel_statistics(it, x, c) : given;
    for (int64_t b = 0; b < it.batch; ++b) {
      const int64_t at = (b * it.channels + c) * it.size;
      normalise(x + at, it.size, used, epsilon, scale[c], bias[c], call.output(0).as<float>() + at);
    }
    const double kept = training ? momentum : 1;
    if (call.wants(1))
      call.output(1).as<float>()[c] =
          static_cast<float>(given.mean * kept + used.mean * (1 - kept));
    if (call.wants(2))
      call.output(2).as<float>()[c] =
          static_cast<float>(given.variance * kept + used.variance * (1 - kept));
  });
}

bool instance_normalization_shape(const ShapeCall& call) {
  check_floats(call);
  check_rank(call, 3);
  check_vector(call, 1, call.input(0).dims[1]);
  check_vector(call, 2, call.input(0).dims[1]);
  call.set(0, DType::kF32, call.input(0).dims);
  return true;
}

// Each group of `group` channels by its own statistics; a scale and a bias for `per_scale`
// channels.
void normalise_groups(const RunCall& call, int64_t group, int64_t per_scale) {
  const Planes it = planes_of(call.input(0));
  const double epsilon = call.node.number("epsilon", 1e-5);
  const float *x = call.input(0).as<float>(), *scale = call.input(1).as<float>(),
              *bias = call.input(2).as<float>();
  float* y = call.output(0).as<float>();
  const int64_t groups = group == 0 ? 0 : it.channels / group, count = group * it.size;
  for_each_item(call, it.batch * groups, count, [&](int64_t i) {
    const Statistics of = statistics(x + i * count, count);
    for (int64_t c = 0; c < group; ++c) {
      const int64_t at = i * count + c * it.size, factor = (i % groups * group + c) / per_scale;
      normalise(x + at, it.size, of, epsilon, scale[factor], bias[factor], y + at);
    }
  });
}

void instance_normalization(const RunCall& call) { normalise_groups(call, 1, 1); }

bool group_normalization_shape(const ShapeCall& call) {
  check_floats(call);
  check_rank(call, 2);
  const int64_t channels = call.input(0).dims[1], groups = call.node.integer("num_groups", 0);
  if (groups < 1 || channels % groups != 0)
    call.refuse("num_groups {} does not divide {} channels", groups, channels);
  const bool by_group = call.node.integer("scale_by_group", 0) != 0;
  check_vector(call, 1, by_group ? groups : channels);
  check_vector(call, 2, by_group ? groups : channels);
  call.set(0, DType::kF32, call.input(0).dims);
  return true;
}

// scale_by_group (ours, for models of opset 18): scale and bias [groups].
void group_normalization(const RunCall& call) {
  const int64_t group = call.input(0).dims[1] / call.node.integer("num_groups", 0);
  normalise_groups(call, group, call.node.integer("scale_by_group", 0) != 0 ? group : 1);
}

size_t axis_of(const OperatorCall& call, int64_t fallback) {
  return normalised_axis(call, call.node.integer("axis", fallback), call.input(0).rank());
}

// X, and a scale and a bias that broadcast to it.
bool rms_normalization_shape(const ShapeCall& call) {
  check_floats(call);
  const Dims& dims = call.input(0).dims;
  axis_of(call, -1);
  for (size_t i = 1; i < 3; ++i) {
    if (call.has(i) && broadcast(call, dims, call.input(i).dims) != dims)
      call.refuse("input {} {} does not broadcast to {}", i, to_string(call.input(i).dims),
                  to_string(dims));
  }
  call.input(1);
  call.set(0, DType::kF32, dims);
  return true;
}

bool layer_normalization_shape(const ShapeCall& call) {
  rms_normalization_shape(call);
  Dims reduced = call.input(0).dims;
  const size_t axis = axis_of(call, -1);
  std::fill(reduced.begin() + static_cast<std::ptrdiff_t>(axis), reduced.end(), 1);
  call.set(1, DType::kF32, reduced);
  call.set(2, DType::kF32, std::move(reduced));
  return true;
}

// y = y * scale + bias, both broadcast to it.
void scale_and_shift(const RunCall& call) {
  const Tensor& out = call.output(0);
  if (out.elements() == 0) return;
  const float zero = 0;
  Tensor none;  // a scalar
  none.data = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(&zero));
  const Tensor* operands[] = {&call.input(1), call.has(2) ? &call.input(2) : &none};
  const BroadcastWalk walk = broadcast_walk(out.dims, operands);
  const float *scale = operands[0]->as<float>(), *bias = operands[1]->as<float>();
  const int64_t scale_step = walk.strides[0].back(), bias_step = walk.strides[1].back();
  call.parallel(out.elements(), 16384, [&](int64_t begin, int64_t end) {
    for_each_run(walk, begin, end, [&](int64_t at, const int64_t* offsets, int64_t n) {
      float* y = out.as<float>() + at;
      const float *a = scale + offsets[0], *b = bias + offsets[1];
      for (int64_t i = 0; i < n; ++i) y[i] = y[i] * a[i * scale_step] + b[i * bias_step];
    });
  });
}

// fn(row, its elements, where they go) for the rows that the axes from `axis` on are.
template <class Fn>
void for_each_row(const RunCall& call, size_t axis, const Fn& fn) {
  const Dims& dims = call.input(0).dims;
  const int64_t rows = product(std::span(dims).first(axis)),
                size = product(std::span(dims).subspan(axis));
  for_each_item(call, rows, size, [&](int64_t row) {
    fn(row, call.input(0).as<float>() + row * size, size, call.output(0).as<float>() + row * size);
  });
}

void layer_normalization(const RunCall& call) {
  const double epsilon = call.node.number("epsilon", 1e-5);
  for_each_row(call, axis_of(call, -1), [&](int64_t row, const float* x, int64_t n, float* y) {
    const Statistics of = statistics(x, n);
    const double inverse = 1 / std::sqrt(of.variance + epsilon);
    const auto mean = static_cast<float>(of.mean), factor = static_cast<float>(inverse);
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor;
    if (call.wants(1)) call.output(1).as<float>()[row] = mean;
    if (call.wants(2)) call.output(2).as<float>()[row] = factor;
  });
  scale_and_shift(call);
}

void rms_normalization(const RunCall& call) {
  const double epsilon = call.node.number("epsilon", 1e-5);
  for_each_row(call, axis_of(call, -1), [&](int64_t, const float* x, int64_t n, float* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
    const double mean = n == 0 ? 0 : sum / static_cast<double>(n);
    scale_row(x, n, static_cast<float>(1 / std::sqrt(mean + epsilon)), 0, y);
  });
  scale_and_shift(call);
}

bool lp_normalization_shape(const ShapeCall& call) {
  check_floats(call);
  const int64_t p = call.node.integer("p", 2);
  if (p != 1 && p != 2) call.refuse("p is {}, neither 1 nor 2", p);
  axis_of(call, -1);
  call.set(0, DType::kF32, call.input(0).dims);
  return true;
}

// Zero where the norm is.
void lp_normalization(const RunCall& call) {
  const Dims& dims = call.input(0).dims;
  const size_t axis = axis_of(call, -1);
  const bool squares = call.node.integer("p", 2) == 2;
  const int64_t outer = product(std::span(dims).first(axis)), count = dims[axis],
                inner = product(std::span(dims).subspan(axis + 1));
  for_each_item(call, outer * inner, count, [&](int64_t item) {
    const int64_t at = item / inner * count * inner + item % inner;
    const float* x = call.input(0).as<float>() + at;
    float* y = call.output(0).as<float>() + at;
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double value = x[i * inner];
      sum += squares ? value * value : std::abs(value);
    }
    const double norm = squares ? std::sqrt(sum) : sum;
    for (int64_t i = 0; i < count; ++i)
      y[i * inner] = norm == 0 ? x[i * inner] : static_cast<float>(x[i * inner] / norm);
  });
}

bool lrn_shape(const ShapeCall& call) {
  check_floats(call);
  check_rank(call, 2);
  const int64_t size = call.node.integer("size", 0);
  if (size < 1 || size > (int64_t{1} << 30)) call.refuse("size is {}", size);
  call.set(0, DType::kF32, call.input(0).dims);
  return true;
}

// y = x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ^ beta
void local_response_normalization(const RunCall& call) {
  const Planes it = planes_of(call.input(0));
  const int64_t size = call.node.integer("size", 0);
  const auto factor =
                 static_cast<float>(call.node.number("alpha", 1e-4) / static_cast<double>(size)),
             beta = static_cast<float>(call.node.number("beta", 0.75)),
             bias = static_cast<float>(call.node.number("bias", 1));
  for_each_item(call, it.batch * it.channels, it.size, [&](int64_t item) {
    const int64_t channel = item % it.channels;
    const int64_t low = std::max<int64_t>(0, channel - (size - 1) / 2),
                  high = std::min(it.channels, channel + size / 2 + 1);
    const float* x = call.input(0).as<float>() + item * it.size;
    float* y = call.output(0).as<float>() + item * it.size;
    std::fill_n(y, it.size, 0.f);
    for (int64_t c = low; c < high; ++c) {
      const float* other = x + (c - channel) * it.size;
      for (int64_t i = 0; i < it.size; ++i) y[i] += other[i] * other[i];
    }
    for (int64_t i = 0; i < it.size; ++i) y[i] = x[i] / std::pow(bias + factor * y[i], beta);
  });
}

Dims mean_variance_axes(const OperatorCall& call) {
  Dims axes = call.node.integers("axes");
  if (axes.empty()) axes = {0, 2, 3};
  for (int64_t& axis : axes) axis = normalised_axis(call, axis, call.input(0).rank());
  return axes;
}

bool mean_variance_shape(const ShapeCall& call) {
  check_floats(call);
  mean_variance_axes(call);
  call.set(0, DType::kF32, call.input(0).dims);
  return true;
}

// (x - mean) / deviation, where ONNX adds its constant to the deviation.
void mean_variance_normalization(const RunCall& call) {
  constexpr double kEpsilon = 1e-9;  // the specification's
  const Tensor &in = call.input(0), &out = call.output(0);
  if (in.elements() == 0) return;
  Tensor kept;  // the shape of the statistics
  kept.dims = in.dims;
  for (const int64_t axis : mean_variance_axes(call)) kept.dims[axis] = 1;
  const Tensor* operands[] = {&kept};
  const BroadcastWalk walk = broadcast_walk(in.dims, operands);
  const int64_t step = walk.strides[0].back();
  const auto count = static_cast<double>(in.elements() / kept.elements());
  std::vector<double> means(kept.elements(), 0), deviations(kept.elements(), 0);
  const float* x = in.as<float>();
  const auto for_each = [&](const auto& fn) {
    for_each_run(walk, 0, in.elements(), [&](int64_t at, const int64_t* offsets, int64_t n) {
      for (int64_t i = 0; i < n; ++i) fn(at + i, offsets[0] + i * step);
    });
  };
  for_each([&](int64_t i, int64_t of) { means[of] += x[i]; });
  for (double& mean : means) mean /= count;
  for_each(
      [&](int64_t i, int64_t of) { deviations[of] += (x[i] - means[of]) * (x[i] - means[of]); });
  for (double& deviation : deviations) deviation = std::sqrt(deviation / count) + kEpsilon;
  for_each([&](int64_t i, int64_t of) {
    out.as<float>()[i] = static_cast<float>((x[i] - means[of]) / deviations[of]);
  });
}

constexpr Operator kOperators[] = {
    {"BatchNormalization", batch_normalization_shape, batch_normalization},
    {"InstanceNormalization", instance_normalization_shape, instance_normalization},
    {"GroupNormalization", group_normalization_shape, group_normalization},
    {"LayerNormalization", layer_normalization_shape, layer_normalization},
    {"RMSNormalization", rms_normalization_shape, rms_normalization},
    {"LpNormalization", lp_normalization_shape, lp_normalization},
    {"LRN", lrn_shape, local_response_normalization},
    {"MeanVarianceNormalization", mean_variance_shape, mean_variance_normalization},
};

}  // namespace

std::span<const Operator> normalization_operators() { return kOperators; }

}  // namespace packlight::runtime
