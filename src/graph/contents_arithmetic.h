#pragma once

#include "graph/operator_rules.h"

namespace packlight::graph {

// Arithmetic on what small integer values hold (InferContext::contents), as the shape computations
// of real models do it: Shape -> Gather -> Mul -> Concat -> Reshape. Elements that are numbers are
// computed; the symbol of a dimension stays where the operator does not change it (n * 1) and
// decides what it can (n is never -1). What would overflow or divide by zero is unknown. Values of
// higher rank, of floats or of many elements say nothing.

// Add, Sub, Mul, Div, Mod, Min, Max, Equal, Less, Greater of any number of inputs.
void arithmetic_contents(InferContext& context);
void where_contents(InferContext& context);
// From one integer type (or BOOL) to another.
void cast_contents(InferContext& context, ElementType to);
// ReduceSum, ReduceProd, ReduceMax, ReduceMin over all elements.
void reduction_contents(InferContext& context);

}  // namespace packlight::graph
