#pragma once

#include "runtime/network/operator.h"

// Convolutions and matrix products of codes.
namespace packlight::runtime {

bool matmul_integer_shape(const ShapeCall& call);
void matmul_integer(const RunCall& call);
bool qlinear_matmul_shape(const ShapeCall& call);
void qlinear_matmul(const RunCall& call);
bool conv_integer_shape(const ShapeCall& call);
void conv_integer(const RunCall& call);
bool qlinear_conv_shape(const ShapeCall& call);
void qlinear_conv(const RunCall& call);
// com.microsoft's
bool matmul_nbits_shape(const ShapeCall& call);
void matmul_nbits(const RunCall& call);

}  // namespace packlight::runtime
