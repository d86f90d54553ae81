#include "runtime/network/einsum.h"

#include <algorithm>
#include <array>
#include <string>

#include "operators/einsum.h"
#include "runtime/network/float_input.h"
#include "runtime/network/matrix_product.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

// Every dimension of the equation has a label: a letter, or a number below 'A' for one that an
// ellipsis stands for, counted from the last.
using Label = unsigned char;
constexpr size_t kLabels = 128;
constexpr char kEllipsis = operators::EinsumEquation::kEllipsis;

struct Equation {
  std::vector<std::vector<Label>> terms;  // a label for each dimension of an operand
  std::vector<Label> output;
  std::array<int64_t, kLabels> sizes{};  // of a label's dimension; 0 where it does not occur

  bool in_output(Label label) const {
    return std::find(output.begin(), output.end(), label) != output.end();
  }
};

// A term's labels, where its ellipsis stands for `hidden` dimensions.
std::vector<Label> labels_of(const std::string& term, size_t hidden) {
  std::vector<Label> labels;
  for (const char c : term) {
    if (c != kEllipsis) {
      labels.push_back(static_cast<Label>(c));
      continue;
    }
    for (size_t i = hidden; i-- > 0;) labels.push_back(static_cast<Label>(i));
  }
  return labels;
}

void note_sizes(const OperatorCall& call, Equation& equation, const Tensor& operand) {
  const std::vector<Label>& labels = equation.terms.back();
  for (size_t d = 0; d < labels.size(); ++d) {
    int64_t& size = equation.sizes[labels[d]];
    const int64_t here = operand.dims[d];
    if (size == -1 || size == 1) {
      size = here;
    } else if (here != size && here != 1) {
      call.refuse("a dimension of the equation is {} and, in {}, {}", size, to_string(operand.dims),
                  here);
    }
  }
}

// Every size is a dimension's; what an equation walks through is the product of all.
void check_sizes(const OperatorCall& call, const Equation& equation) {
  int64_t product = 1;
  for (const int64_t size : equation.sizes) {
    if (size > 1 && __builtin_mul_overflow(product, size, &product))
      call.refuse("the equation's dimensions are too many terms");
  }
}

Equation parse(const OperatorCall& call) {
  const auto parsed = operators::parse_einsum(call.node.text("equation", ""), call.input_count());
  const std::vector<std::string>& terms = parsed.terms;
  Equation equation;
  equation.sizes.fill(-1);
  size_t most_hidden = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Tensor& operand = call.input(i);
    const bool has_ellipsis = terms[i].find(kEllipsis) != std::string::npos;
    const size_t named = terms[i].size() - (has_ellipsis ? 1 : 0), rank = operand.dims.size();
    if (has_ellipsis ? rank < named : rank != named)
      call.refuse("term '{}' does not fit {}", terms[i], to_string(operand.dims));
    const size_t hidden = rank - named;
    if (hidden >= kEllipsis) call.refuse("an operand of rank {}", rank);
    most_hidden = std::max(most_hidden, hidden);
    equation.terms.push_back(labels_of(terms[i], hidden));
    note_sizes(call, equation, operand);
  }
  check_sizes(call, equation);
  equation.output = labels_of(parsed.output, most_hidden);
  return equation;
}

// How far each of `labels` steps in an operand: 0 where it does not occur or repeats, the sum of
// the strides where it occurs twice (a diagonal).
std::vector<int64_t> strides_of(const std::vector<Label>& term, const std::vector<int64_t>& dims,
                                const std::vector<Label>& labels) {
  std::vector<int64_t> strides(labels.size(), 0);
  int64_t stride = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    const auto at = std::find(labels.begin(), labels.end(), term[d]);
    if (at != labels.end() && dims[d] != 1) strides[at - labels.begin()] += stride;
    stride *= dims[d];
  }
  return strides;
}

std::vector<int64_t> sizes_of(const Equation& equation, const std::vector<Label>& labels) {
  std::vector<int64_t> sizes;
  for (const Label label : labels) sizes.push_back(equation.sizes[label]);
  return sizes;
}

int64_t product_of(const std::vector<int64_t>& sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

// Calls visit(offset of each of the walks) for every index of `sizes`, the last one fastest.
template <class Visit>
void for_each_index(const std::vector<int64_t>& sizes,
                    const std::vector<std::vector<int64_t>>& walks, std::vector<int64_t> offsets,
                    const Visit& visit) {
  std::vector<int64_t> index(sizes.size(), 0);
  for (int64_t left = product_of(sizes); left > 0; --left) {
    visit(offsets);
    for (size_t d = sizes.size(); d-- > 0;) {
      const bool carries = ++index[d] == sizes[d];
      for (size_t k = 0; k < walks.size(); ++k)
        offsets[k] += walks[k][d] * (carries ? 1 - sizes[d] : 1);
      if (!carries) break;
      index[d] = 0;
    }
  }
}

// Every output as a sum over all that it does not name.
template <class T>
void sum_plainly(const RunCall& call, const Equation& equation) {
  using Sum = std::conditional_t<std::is_same_v<T, float>, double, uint64_t>;
  std::vector<Label> summed;
  for (size_t label = 0; label < kLabels; ++label) {
    if (equation.sizes[label] >= 0 && !equation.in_output(static_cast<Label>(label)))
      summed.push_back(static_cast<Label>(label));
  }
  const std::vector<int64_t> outer = sizes_of(equation, equation.output),
                             inner = sizes_of(equation, summed);
  std::vector<std::vector<int64_t>> outer_walks, inner_walks;
  std::vector<const T*> data;
  for (size_t k = 0; k < equation.terms.size(); ++k) {
    const std::vector<int64_t>& dims = call.input(k).dims;
    outer_walks.push_back(strides_of(equation.terms[k], dims, equation.output));
    inner_walks.push_back(strides_of(equation.terms[k], dims, summed));
    data.push_back(call.input(k).as<T>());
  }
  T* out = call.output(0).as<T>();
  for_each_index(outer, outer_walks, std::vector<int64_t>(data.size(), 0), [&](const auto& start) {
    Sum sum = 0;
    for_each_index(inner, inner_walks, start, [&](const auto& offsets) {
      Sum product = 1;
      for (size_t k = 0; k < data.size(); ++k) product *= static_cast<Sum>(data[k][offsets[k]]);
      sum += product;
    });
    *out++ = static_cast<T>(sum);
  });
}

// The labels of a product of two operands as a batch of matrix products.
struct Roles {
  std::vector<Label> batch, rows, columns, inner;
  bool possible = true;  // no label is summed in one operand alone
};

Roles roles_of(const Equation& equation) {
  Roles roles;
  const auto has = [&](size_t term, Label label) {
    const std::vector<Label>& labels = equation.terms[term];
    return std::find(labels.begin(), labels.end(), label) != labels.end();
  };
  for (size_t i = 0; i < kLabels; ++i) {
    const auto label = static_cast<Label>(i);
    if (equation.sizes[i] < 0) continue;
    const bool left = has(0, label), right = has(1, label), out = equation.in_output(label);
    if (left && right)
      (out ? roles.batch : roles.inner).push_back(label);
    else
      (left ? roles.rows : roles.columns).push_back(label);
    roles.possible = roles.possible && (out || (left && right));
  }
  return roles;
}

std::vector<Label> joined(std::initializer_list<const std::vector<Label>*> parts) {
  std::vector<Label> all;
  for (const std::vector<Label>* part : parts) all.insert(all.end(), part->begin(), part->end());
  return all;
}

// An operand's elements in the order of `labels`.
std::vector<float> permuted(const Equation& equation, const RunCall& call, size_t operand,
                            const std::vector<Label>& labels) {
  const std::vector<int64_t> sizes = sizes_of(equation, labels);
  std::vector<float> out, decoded;
  out.reserve(product_of(sizes));
  const float* data = float_input(call, operand, decoded);
  for_each_index(sizes, {strides_of(equation.terms[operand], call.input(operand).dims, labels)},
                 {0}, [&](const auto& offsets) { out.push_back(data[offsets[0]]); });
  return out;
}

void multiply_matrices(const RunCall& call, const Equation& equation, const Roles& roles) {
  const std::vector<float> a = permuted(equation, call, 0,
                                        joined({&roles.batch, &roles.rows, &roles.inner})),
                           b = permuted(equation, call, 1,
                                        joined({&roles.batch, &roles.inner, &roles.columns}));
  const int64_t batch = product_of(sizes_of(equation, roles.batch)),
                m = product_of(sizes_of(equation, roles.rows)),
                n = product_of(sizes_of(equation, roles.columns)),
                k = product_of(sizes_of(equation, roles.inner));
  std::vector<float> c(call.output(0).elements(), 0.f);
  std::vector<MatrixProduct<float>> products;
  for (int64_t i = 0; i < batch; ++i) {
    products.push_back({m,
                        n,
                        k,
                        {a.data() + i * m * k, k, 1},
                        {b.data() + i * k * n, n, 1},
                        c.data() + i * m * n,
                        n});
  }
  multiply_all<float>(call, products);
  const std::vector<Label> order = joined({&roles.batch, &roles.rows, &roles.columns});
  float* out = call.output(0).as<float>();
  for_each_index(sizes_of(equation, equation.output),
                 {strides_of(order, sizes_of(equation, order), equation.output)}, {0},
                 [&](const auto& offsets) { *out++ = c[offsets[0]]; });
}

}  // namespace

bool einsum_shape(const ShapeCall& call) {
  for (size_t i = 1; i < call.input_count(); ++i) {
    if (element_type(call.input(i)) != element_type(call.input(0)))
      call.refuse("the operands' types differ");
  }
  const Equation equation = parse(call);
  call.set(0, element_type(call.input(0)), sizes_of(equation, equation.output));
  return true;
}

void einsum(const RunCall& call) {
  const Equation equation = parse(call);
  if (call.input_count() == 2 && element_type(call.input(0)) == codec::DType::kF32) {
    const Roles roles = roles_of(equation);
    if (roles.possible) return multiply_matrices(call, equation, roles);
  }
  for (size_t i = 0; i < call.input_count(); ++i) {
    if (call.input(i).packed != nullptr) call.refuse("operand {} is packed", i);
  }
  for_number_type(call, call.input(0).dtype,
                  [&](auto zero) { sum_plainly<decltype(zero)>(call, equation); });
}

}  // namespace packlight::runtime
