#include "runtime/network/matmul_shape.h"

namespace packlight::runtime {

int64_t MatMulShape::batches() const {
  int64_t count = 1;
  for (const int64_t dim : batch) count *= dim;
  return count;
}

std::vector<int64_t> MatMulShape::matrices_of(const std::vector<int64_t>& factor) const {
  const size_t own = factor.size() > 2 ? factor.size() - 2 : 0;
  std::vector<int64_t> matrices(batches());
  for (size_t i = 0; i < matrices.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t stride = 1;
    for (size_t back = 1; back <= own; ++back) {  // from the last batch dimension on
      const int64_t dim = factor[own - back], of_batch = batch[batch.size() - back];
      if (dim != 1) matrices[i] += rest % of_batch * stride;
      rest /= of_batch;
      stride *= dim;
    }
  }
  return matrices;
}

MatMulShape matmul_shape(const OperatorCall& call, const std::vector<int64_t>& a,
                         const std::vector<int64_t>& b) {
  if (a.empty() || b.empty()) call.refuse("a factor is a scalar");
  MatMulShape shape;
  shape.m = a.size() > 1 ? a[a.size() - 2] : 1;
  shape.k = a.back();
  shape.n = b.size() > 1 ? b.back() : 1;
  if ((b.size() > 1 ? b[b.size() - 2] : b[0]) != shape.k)
    call.refuse("shapes {} and {}: inner dimensions differ", to_string(a), to_string(b));
  const std::span<const int64_t> left(a.data(), a.size() > 2 ? a.size() - 2 : 0),
      right(b.data(), b.size() > 2 ? b.size() - 2 : 0);
  shape.batch = broadcast(call, left, right);
  shape.output = shape.batch;
  if (a.size() > 1) shape.output.push_back(shape.m);
  if (b.size() > 1) shape.output.push_back(shape.n);
  return shape;
}

}  // namespace packlight::runtime
