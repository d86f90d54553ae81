#include <numeric>

#include "graph/operator_rules.h"
#include "operators/resize.h"

namespace packlight::graph {
namespace {

// The given axes, each once; all when none are given.
std::vector<int64_t> chosen_axes(const InferContext& context, std::vector<int64_t> axes,
                                 size_t rank) {
  if (axes.empty()) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
    return axes;
  }
  std::vector<bool> seen(rank, false);
  for (int64_t& axis : axes) {
    axis = normalised_axis(context, axis, static_cast<int64_t>(rank));
    if (seen[axis]) context.contradiction("axis {} is given twice", axis);
    seen[axis] = true;
  }
  return axes;
}

void check_length(const InferContext& context, const char* name, size_t length, size_t wanted) {
  if (length != wanted) context.contradiction("{} has {} entries, not {}", name, length, wanted);
}

void resize_by_scales(const InferContext& context, const std::vector<int64_t>& axes,
                      const std::vector<double>& scales, Shape& out) {
  check_length(context, "scales", scales.size(), axes.size());
  const bool crops =
      context.node().text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  const auto roi = context.numbers(1);
  if (crops && roi) check_length(context, "roi", roi->size(), 2 * axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& dim = out[axes[i]];
    if (!(scales[i] > 0)) context.contradiction("scale {} is not positive", scales[i]);
    if (crops && !roi) {
      dim = Dim();
      continue;
    }
    const double part = crops ? (*roi)[axes.size() + i] - (*roi)[i] : 1;
    if (!dim.known()) {
      if (scales[i] != 1 || part != 1) dim = Dim();
      continue;
    }
    const auto size = operators::scaled_size(dim.value, part, scales[i]);
    if (!size)
      context.contradiction("axis {} of {} by {} has no size", axes[i], dim.value, scales[i]);
    dim = *size;
  }
}

void resize_to_sizes(const InferContext& context, const std::vector<int64_t>& axes,
                     const InferContext::Elements& sizes, Shape& out) {
  check_length(context, "sizes", sizes.size(), axes.size());
  const std::string policy = context.node().text("keep_aspect_ratio_policy", "stretch");
  std::vector<std::pair<int64_t, int64_t>> wanted;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i].number && *sizes[i].number < 0)
      context.contradiction("size {} is negative", *sizes[i].number);
    if (sizes[i].number && out[axes[i]].value > 0)
      wanted.emplace_back(*sizes[i].number, out[axes[i]].value);
  }
  const double scale = operators::kept_aspect_scale(wanted, policy == "not_larger");
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& dim = out[axes[i]];
    if (policy == "stretch") {
      dim = sizes[i].dim();
    } else {
      dim =
          wanted.size() == axes.size()
              ? Dim(context.checked([&] { return operators::kept_aspect_size(scale, dim.value); }))
              : Dim();
    }
  }
}

// X, roi, scales, sizes: one of the last two; an empty one counts as absent.
void infer_resize(InferContext& context) {
  const auto& x = context.shape(0);
  if (!x) return context.set(0, context.type(0), std::nullopt);
  const auto given = [&](size_t input) {
    const auto& shape = context.shape(input);
    return context.has(input) && !(shape && shape->size() == 1 && (*shape)[0].value == 0);
  };
  if (given(2) == given(3)) context.contradiction("one of scales and sizes must be given");
  const std::vector<int64_t> axes =
      chosen_axes(context, context.node().integers("axes"), x->size());
  Shape out = *x;
  const auto scales = context.numbers(2);
  const auto sizes = context.contents(3);
  if (given(2) && scales) {
    resize_by_scales(context, axes, *scales, out);
  } else if (given(3) && sizes) {
    resize_to_sizes(context, axes, *sizes, out);
  } else {
    for (const int64_t axis : axes) out[axis] = Dim();
  }
  context.set(0, context.type(0), std::move(out));
}

// data, pads [begins, ends], value, axes
void infer_pad(InferContext& context) {
  const auto& x = context.shape(0);
  if (!x) return context.set(0, context.type(0), std::nullopt);
  const auto pads = context.integers(1);
  const auto given = context.integers(3);
  if (!pads || (context.has(3) && !given)) return context.set(0, context.type(0), Shape(x->size()));
  const auto axes = given && given->empty()
                        ? std::vector<int64_t>{}
                        : chosen_axes(context, given.value_or(std::vector<int64_t>{}), x->size());
  check_length(context, "pads", pads->size(), 2 * axes.size());
  Shape out = *x;
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& dim = out[axes[i]];
    const int64_t begin = (*pads)[i], end = (*pads)[axes.size() + i];
    if (begin == 0 && end == 0) continue;
    int64_t sum = 0, size = 0;
    if (__builtin_add_overflow(begin, end, &sum) ||
        __builtin_add_overflow(sum, dim.known() ? dim.value : 0, &size))
      context.contradiction("pads {} and {} overflow", begin, end);
    if (!dim.known()) {
      if (sum != 0) dim = Dim();
      continue;
    }
    if (size < 0)
      context.contradiction("pads {} and {} leave nothing of axis {} of {}", begin, end, axes[i],
                            to_string(*x));
    dim = size;
  }
  context.set(0, context.type(0), std::move(out));
}

// [batch, channels, height, width], blocks of blocksize * blocksize.
struct Blocks {
  const Shape& x;
  int64_t size;
};

std::optional<Blocks> blocks_of(InferContext& context) {
  const int64_t size = context.node().integer("blocksize", 0);
  if (size < 1 || size > 1 << 20) context.contradiction("blocksize is {}", size);
  const auto& x = context.shape(0);
  if (!x) {
    context.set(0, context.type(0), std::nullopt);
    return std::nullopt;
  }
  if (x->size() != 4) context.contradiction("input {} must have rank 4", to_string(*x));
  return Blocks{*x, size};
}

Dim multiplied(const InferContext& context, const Dim& dim, int64_t factor) {
  int64_t product = 0;
  if (!dim.known()) return factor == 1 ? dim : Dim();
  if (__builtin_mul_overflow(dim.value, factor, &product))
    context.contradiction("{} times {} overflows", dim.value, factor);
  return product;
}

Dim divided(const InferContext& context, const Dim& dim, int64_t factor) {
  if (!dim.known()) return factor == 1 ? dim : Dim();
  if (dim.value % factor != 0) context.contradiction("{} does not divide {}", factor, dim.value);
  return dim.value / factor;
}

void infer_depth_to_space(InferContext& context) {
  const auto it = blocks_of(context);
  if (!it) return;
  context.set(
      0, context.type(0),
      Shape{it->x[0], divided(context, it->x[1], it->size * it->size),
            multiplied(context, it->x[2], it->size), multiplied(context, it->x[3], it->size)});
}

void infer_space_to_depth(InferContext& context) {
  const auto it = blocks_of(context);
  if (!it) return;
  context.set(0, context.type(0),
              Shape{it->x[0], multiplied(context, it->x[1], it->size * it->size),
                    divided(context, it->x[2], it->size), divided(context, it->x[3], it->size)});
}

constexpr OperatorRule kRules[] = {
    {"Resize", 1, 4, 1, 1, infer_resize},
    {"Pad", 2, 4, 1, 1, infer_pad},
    {"DepthToSpace", 1, 1, 1, 1, infer_depth_to_space},
    {"SpaceToDepth", 1, 1, 1, 1, infer_space_to_depth},
};

}  // namespace

std::span<const OperatorRule> resampling_rules() { return kRules; }

}  // namespace packlight::graph
