#pragma once

#include <fmt/format.h>

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "base/thread_pool.h"
#include "io/network.h"
#include "kernels/kernels.h"
#include "runtime/network/tensor.h"

namespace packlight::runtime {

// One node about to be planned or run: its inputs in order (null where absent) and its outputs.
class OperatorCall {
 public:
  OperatorCall(const io::NetworkNode& node, std::span<const Tensor* const> inputs,
               std::span<Tensor> outputs)
      : node(node), inputs_(inputs), outputs_(outputs) {}

  const io::NetworkNode& node;

  size_t input_count() const { return inputs_.size(); }
  size_t output_count() const { return outputs_.size(); }
  bool has(size_t input) const { return input < inputs_.size() && inputs_[input] != nullptr; }
  // Errors: InvalidArgument when it is absent.
  const Tensor& input(size_t index) const;
  Tensor& output(size_t index) const { return outputs_[index]; }
  // Whether somebody wants this output. One that nobody wants has no memory.
  bool wants(size_t output) const {
    return output < outputs_.size() && node.outputs[output] != io::kNoValue;
  }

  // Throws InvalidArgument: "[runtime] node 'x' (Op): <rule>".
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) const {
    fail(ErrorCode::kInvalidArgument, "{}: {}", node.label(),
         fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  std::span<const Tensor* const> inputs_;
  std::span<Tensor> outputs_;
};

// Planning: what comes out for inputs of these types and shapes.
class ShapeCall : public OperatorCall {
 public:
  ShapeCall(const io::NetworkNode& node, std::span<const Tensor* const> inputs,
            std::span<Tensor> outputs)
      : OperatorCall(node, inputs, outputs), set_(outputs.size()) {}

  // Sets type and shape of an output. Errors: InvalidArgument for dims that check_dims() refuses.
  void set(size_t output, codec::DType dtype, std::vector<int64_t> dims) const;
  bool has_set(size_t output) const { return set_[output]; }
  // The integers of an input, or nothing while its contents are not computed yet.
  std::optional<std::vector<int64_t>> integers(size_t input) const;

 private:
  mutable std::vector<bool> set_;  // by output
};

// Running: outputs have their memory, of the shape that planning gave.
class RunCall : public OperatorCall {
 public:
  using RunSubgraph =
      std::function<std::vector<Tensor>(const io::Network&, std::span<const Tensor>)>;
  RunCall(const io::NetworkNode& node, std::span<const Tensor* const> inputs,
          std::span<Tensor> outputs, base::ThreadPool& pool)
      : OperatorCall(node, inputs, outputs), pool(pool) {}

  base::ThreadPool& pool;

  // fn(begin, end) over [0, count), in parallel where there are at least `grain` items for each
  // thread.
  template <class Fn>
  void parallel(int64_t count, int64_t grain, const Fn& fn) const {
    if (count <= 0) return;
    if (pool.size() == 1 || count < 2 * grain) return fn(int64_t{0}, count);
    pool.run([&](int worker) {
      const int64_t begin = count * worker / pool.size(), end = count * (worker + 1) / pool.size();
      if (begin < end) fn(begin, end);
    });
  }
};

// What the runtime knows of one ONNX operator.
struct Operator {
  std::string_view op;
  // Sets every output's type and shape. Returns false when it needs the contents of an input that
  // are not there yet (the engine asks again when they are). Errors: InvalidArgument (refuse()).
  bool (*shape)(const ShapeCall&);
  void (*run)(const RunCall&);
  // Output 0 has input 0's bytes under another shape: nothing is copied, run is null.
  bool is_view = false;
  // Output 0 may be written over input 0 (or 1) of equal type and shape: every element depends on
  // the same element only.
  bool in_place = false;
  std::string_view domain = "";  // ai.onnx
  // It reads its inputs' shapes only, so it is done while planning.
  bool shapes_only = false;
  // Its inputs may be packed weights; of any other operator the engine refuses them.
  bool takes_packed = false;
};

// op.shape() with what holds for every operator: false when the contents of an input are needed
// first, else every output that somebody wants is set. Errors: InvalidArgument naming the node.
bool infer(const Operator& op, const io::NetworkNode& node, std::span<const Tensor* const> inputs,
           std::span<Tensor> outputs);
// op.run(), errors with the node's name.
void run(const Operator& op, const RunCall& call);

// Every operator that is implemented, family by family. The engine runs If and Loop itself: they
// are not among them; nor are those that only fuse() makes.
std::vector<const Operator*> all_operators();
// nullptr for an operator that is not implemented.
const Operator* find_operator(std::string_view op, std::string_view domain);

// One table per family, in the file of that name.
std::span<const Operator> activation_operators();
std::span<const Operator> attention_operators();
std::span<const Operator> cast_operators();
std::span<const Operator> convolution_operators();
std::span<const Operator> creation_operators();
std::span<const Operator> elementwise_operators();
std::span<const Operator> fused_operators();
std::span<const Operator> index_operators();
std::span<const Operator> logic_operators();
std::span<const Operator> matrix_operators();
std::span<const Operator> movement_operators();
std::span<const Operator> normalization_operators();
std::span<const Operator> order_operators();
std::span<const Operator> pooling_operators();
std::span<const Operator> quantized_operators();
std::span<const Operator> recurrent_operators();
std::span<const Operator> reduction_operators();
std::span<const Operator> resampling_operators();
std::span<const Operator> softmax_operators();

// "", or why these are no dimensions of a tensor: a negative one, or more than 2^40 elements (a
// dimension of zero does not hide the others').
std::string check_dims(std::span<const int64_t> dims);

// Helpers that operators share.
// The shape that a and b broadcast to (numpy's rules).
std::vector<int64_t> broadcast(const OperatorCall& call, std::span<const int64_t> a,
                               std::span<const int64_t> b);
// axis in [-rank, rank) -> [0, rank).
int64_t normalised_axis(const OperatorCall& call, int64_t axis, int64_t rank);

}  // namespace packlight::runtime
