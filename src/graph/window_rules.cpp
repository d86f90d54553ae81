#include "graph/window_rules.h"

namespace packlight::graph {

std::optional<Window> known_window(const InferContext& context, const Shape& kernel) {
  std::vector<int64_t> sizes;
  for (const Dim& dim : kernel) {
    if (!dim.known()) return std::nullopt;
    sizes.push_back(dim.value);
  }
  return context.checked(
      [&] { return operators::read_window(operators::window_attributes(context.node()), sizes); });
}

void check_window_input(const InferContext& context, int64_t size) {
  if (size > operators::kMaxWindowInput)
    context.contradiction("a spatial axis of {} elements is beyond {}", size,
                          operators::kMaxWindowInput);
}

Shape windowed_shape(const InferContext& context, const Shape& x, const Shape& kernel) {
  const auto window = known_window(context, kernel);
  Shape out(x.size());
  out[0] = x[0];
  out[1] = x[1];
  for (size_t i = 0; window && i < window->size(); ++i) {
    const WindowAxis& axis = (*window)[i];
    const Dim& size = x[i + 2];
    if (!size.known()) {
      if (axis.keeps_size()) out[i + 2] = size;
      continue;
    }
    check_window_input(context, size.value);
    const operators::WindowStops stops = window_stops(axis, size.value);
    if (stops.count < 1) {
      context.contradiction("a window of {} does not fit axis {} of input {}", axis.extent(), i + 2,
                            to_string(x));
    }
    out[i + 2] = stops.count;
  }
  return out;
}

}  // namespace packlight::graph
