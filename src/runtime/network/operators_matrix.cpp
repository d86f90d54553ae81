#include <algorithm>
#include <cmath>

#include "runtime/network/broadcast.h"
#include "runtime/network/einsum.h"
#include "runtime/network/elementwise.h"
#include "runtime/network/float_input.h"
#include "runtime/network/matmul_shape.h"
#include "runtime/network/matrix_product.h"
#include "runtime/network/operator.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

void check_types(const ShapeCall& call) {
  const codec::DType a = element_type(call.input(0)), b = element_type(call.input(1));
  if (a != b) call.refuse("factors of {} and {}", codec::info(a).name, codec::info(b).name);
}

// A factor's elements; only matrices of floats may be packed.
template <class T>
const T* factor(const RunCall& call, size_t input, std::vector<float>& buffer) {
  if constexpr (std::is_same_v<T, float>)
    return float_input(call, input, buffer);
  else
    return call.input(input).as<T>();
}

bool matmul_output(const ShapeCall& call) {
  check_types(call);
  call.set(0, element_type(call.input(0)),
           matmul_shape(call, call.input(0).dims, call.input(1).dims).output);
  return true;
}

// All batches of A are one matrix where B has none: they are one product then, whose B is packed
// once.
void join_batches(MatMulShape& shape, const std::vector<int64_t>& a,
                  const std::vector<int64_t>& b) {
  if (b.size() > 2 || a.size() <= 2) return;
  shape.m *= shape.batches();
  shape.batch.clear();
}

template <class T>
void matmul_of(const RunCall& call) {
  const std::vector<int64_t>&a_dims = call.input(0).dims, &b_dims = call.input(1).dims;
  MatMulShape shape = matmul_shape(call, a_dims, b_dims);
  if (call.output(0).elements() == 0) return;
  std::vector<int64_t> a_matrices{0}, b_matrices{0};
  join_batches(shape, a_dims, b_dims);
  if (!shape.batch.empty()) {
    a_matrices = shape.matrices_of(a_dims);
    b_matrices = shape.matrices_of(b_dims);
  }
  std::vector<float> a_buffer, b_buffer;
  const T *a = factor<T>(call, 0, a_buffer), *b = factor<T>(call, 1, b_buffer);
  T* c = call.output(0).as<T>();
  std::fill_n(c, call.output(0).elements(), T{});
  const int64_t m = shape.m, n = shape.n, k = shape.k;
  std::vector<MatrixProduct<T>> products;
  for (size_t i = 0; i < a_matrices.size(); ++i) {
    products.push_back({m,
                        n,
                        k,
                        {a + a_matrices[i] * m * k, k, 1},
                        {b + b_matrices[i] * k * n, n, 1},
                        c + static_cast<int64_t>(i) * m * n,
                        n});
  }
  multiply_all<T>(call, products);
}

void matmul(const RunCall& call) {
  for_number_type(call, element_type(call.input(0)),
                  [&](auto zero) { matmul_of<decltype(zero)>(call); });
}

// What Gemm multiplies, as the transpositions leave it.
struct Gemm {
  int64_t m, n, k;
  bool trans_a, trans_b;
};

Gemm gemm_of(const OperatorCall& call) {
  const std::vector<int64_t>&a = call.input(0).dims, &b = call.input(1).dims;
  if (a.size() != 2 || b.size() != 2)
    call.refuse("factors {} and {} must have rank 2", to_string(a), to_string(b));
  Gemm it{};
  it.trans_a = call.node.integer("transA", 0) != 0;
  it.trans_b = call.node.integer("transB", 0) != 0;
  it.m = a[it.trans_a ? 1 : 0];
  it.k = a[it.trans_a ? 0 : 1];
  it.n = b[it.trans_b ? 0 : 1];
  if (b[it.trans_b ? 1 : 0] != it.k)
    call.refuse("shapes {} and {}: inner dimensions differ", to_string(a), to_string(b));
  return it;
}

bool gemm_shape(const ShapeCall& call) {
  check_types(call);
  const Gemm it = gemm_of(call);
  const std::vector<int64_t> out{it.m, it.n};
  if (call.has(2)) {
    const Tensor& addend = call.input(2);
    if (element_type(addend) != element_type(call.input(0)))
      call.refuse("the addend is {}", codec::info(addend.dtype).name);
    if (broadcast(call, out, addend.dims) != out)
      call.refuse("the addend {} does not broadcast to {}", to_string(addend.dims), to_string(out));
  }
  call.set(0, element_type(call.input(0)), out);
  return true;
}

// A factor that elements of type T can be multiplied by.
template <class T>
T scalar(const RunCall& call, const char* attribute) {
  const double value = call.node.number(attribute, 1);
  if constexpr (!std::is_same_v<T, float>) {
    if (value != std::nearbyint(value) || std::abs(value) > 0x1p53)
      call.refuse("{} {} of integer matrices", attribute, value);
    return static_cast<T>(static_cast<int64_t>(value));
  } else {
    return static_cast<T>(value);
  }
}

// beta times the addend, or zeros.
template <class T>
void start_gemm(const RunCall& call) {
  const Tensor& out = call.output(0);
  T* c = out.as<T>();
  if (!call.has(2)) {
    std::fill_n(c, out.elements(), T{});
    return;
  }
  std::vector<float> buffer;
  const T *addend = factor<T>(call, 2, buffer), beta = scalar<T>(call, "beta");
  const Tensor* operands[] = {&call.input(2)};
  const BroadcastWalk walk = broadcast_walk(out.dims, operands);
  if (out.elements() == 0) return;
  for_each_run(walk, 0, out.elements(), [&](int64_t at, const int64_t* offsets, int64_t n) {
    const int64_t step = walk.strides[0].back();
    for (int64_t i = 0; i < n; ++i)
      c[at + i] = static_cast<T>(static_cast<Wrapping<T>>(beta) *
                                 static_cast<Wrapping<T>>(addend[offsets[0] + i * step]));
  });
}

template <class T>
void gemm_of_type(const RunCall& call) {
  const Gemm it = gemm_of(call);
  start_gemm<T>(call);
  std::vector<float> a_buffer, b_buffer;
  MatrixProduct<T> product{it.m, it.n, it.k};
  product.a = {factor<T>(call, 0, a_buffer), it.trans_a ? 1 : it.k, it.trans_a ? it.m : 1};
  product.b = {factor<T>(call, 1, b_buffer), it.trans_b ? 1 : it.n, it.trans_b ? it.k : 1};
  product.c = call.output(0).as<T>();
  product.c_stride = it.n;
  product.alpha = scalar<T>(call, "alpha");
  multiply_parallel(call, product);
}

void gemm(const RunCall& call) {
  for_number_type(call, element_type(call.input(0)),
                  [&](auto zero) { gemm_of_type<decltype(zero)>(call); });
}

constexpr Operator kOperators[] = {
    {.op = "MatMul", .shape = matmul_output, .run = matmul, .takes_packed = true},
    {.op = "Gemm", .shape = gemm_shape, .run = gemm, .takes_packed = true},
    {.op = "Einsum", .shape = einsum_shape, .run = einsum, .takes_packed = true},
};

}  // namespace

std::span<const Operator> matrix_operators() { return kOperators; }

}  // namespace packlight::runtime
