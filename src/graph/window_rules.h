#pragma once

#include <optional>

#include "graph/operator_rules.h"
#include "operators/window.h"

// What the rules of convolution and pooling share.
namespace packlight::graph {

using operators::Window;
using operators::WindowAxis;

// The window of a node, whose kernel's sizes are given; nothing while one is unknown. Errors:
// Corrupt for attributes that break a rule.
std::optional<Window> known_window(const InferContext& context, const Shape& kernel);

// Errors: Corrupt for a size beyond kMaxWindowInput.
void check_window_input(const InferContext& context, int64_t size);

// `x` [batch, channels, spatial...] with its spatial sizes as the window leaves them: numbers, a
// symbol where the window keeps the size, else unknown. Errors: Corrupt where it does not fit.
Shape windowed_shape(const InferContext& context, const Shape& x, const Shape& kernel);

// Sets output 0 of a convolution: X is input 0, W [outputs, channels / groups, kernel...] is
// input `weight_input`. Conv, ConvInteger and QLinearConv are this.
void infer_convolution(InferContext& context, ElementType type, size_t weight_input);

}  // namespace packlight::graph
