#pragma once

#include "runtime/network/operator.h"

namespace packlight::runtime {

// An index into `size` elements, negative ones from the back -> [0, size). Errors: InvalidArgument.
int64_t checked_index(const OperatorCall& call, int64_t index, int64_t size);

// The index of the ND operators (`length` numbers from `at` on) into dimensions of these sizes, as
// a place in row-major order.
int64_t checked_place(const OperatorCall& call, const int64_t* at, std::span<const int64_t> sizes);

// The dimensions, after `batch` of them, that an index of the ND operators points into.
std::span<const int64_t> indexed_dims(const OperatorCall& call, int64_t batch);

bool scatter_elements_shape(const ShapeCall& call);
void scatter_elements(const RunCall& call);
bool scatter_nd_shape(const ShapeCall& call);
void scatter_nd(const RunCall& call);

}  // namespace packlight::runtime
