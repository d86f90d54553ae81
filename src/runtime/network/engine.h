#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "io/network.h"
#include "runtime/network/fuse.h"
#include "runtime/network/plan.h"

namespace packlight::runtime {

// Errors: Unsupported naming the first node, those of subgraphs included, whose operator is not
// implemented, or is one that only fuse() makes.
void check_operators(const io::Network& network);

// Runs a network on the CPU. Memory besides the network's constants is one arena, planned for the
// shapes of the inputs; other shapes make another plan (the last one is kept). Not thread-safe;
// engines may share a network.
class Engine {
 public:
  // Errors: Unsupported naming the nodes whose operators are not implemented.
  Engine(std::shared_ptr<const io::Network> network, std::shared_ptr<base::ThreadPool> pool);

  // What is run: nodes that one kernel computes at once are one (fuse.h). Values, inputs and
  // outputs have the numbers that they have in the network given.
  const io::Network& network() const { return *network_; }

  // inputs: one for each of network().inputs, in order, with data. Outputs stay valid until the
  // next run; those that are inputs in another shape lie in the memory of these. Errors:
  // InvalidArgument for a type or shape that contradicts the network's, or that an operator
  // refuses; OutOfMemory; Unsupported where an output is a packed weight.
  void run(std::span<const Tensor> inputs);
  // Of the last run, which must have succeeded: InvalidArgument where there is none.
  const Tensor& output(size_t index) const;

  // Whether the memory is that of an output which the next run writes over or gives back: of any
  // but those that lie in an input or a constant.
  bool makes(const std::byte* data) const;

  // Plans for inputs of these types and shapes, as a run does; their data is not looked at. Errors:
  // as run().
  void plan(std::span<const Tensor> inputs);

  // From now on every run adds the time of each node, with its subgraphs, to (*seconds)[node];
  // null: no longer. The vector must hold an element for each of network().nodes.
  void profile(std::vector<double>* seconds) { node_seconds_ = seconds; }

  // Bytes of the arena for the last shapes.
  uint64_t arena_bytes() const { return plan_.arena_bytes; }
  // Bytes of weights that the kernels want in another order than the network has them. Subgraphs
  // have theirs apart.
  uint64_t prepared_bytes() const { return prepared_bytes_; }

 private:
  Engine(FusedNetwork fused, std::shared_ptr<base::ThreadPool> pool);
  void check_inputs(std::span<const Tensor> inputs) const;
  bool planned_for(std::span<const Tensor> inputs) const;
  void prepare(std::span<const Tensor> inputs);
  void expect_dense(int32_t value) const;
  void run_node(size_t index);
  void run_dynamic(size_t index, std::span<const Tensor* const> inputs);
  void run_if(const io::NetworkNode& node, std::span<const Tensor* const> inputs);
  void run_loop(const io::NetworkNode& node, std::span<const Tensor* const> inputs);
  // Takes memory of its own for a value whose shape is known only now.
  Tensor& allocate(int32_t value, codec::DType dtype, std::vector<int64_t> dims);
  void copy_to(int32_t value, const Tensor& source);
  Engine& subengine(const io::NetworkNode& node, const char* attribute);

  std::shared_ptr<const io::Network> network_;
  uint64_t prepared_bytes_ = 0;
  std::shared_ptr<base::ThreadPool> pool_;
  std::vector<const Operator*> operators_;  // by node; null for If and Loop
  Plan plan_;
  std::vector<double>* node_seconds_ = nullptr;
  std::unique_ptr<std::byte[], void (*)(std::byte*)> arena_;
  uint64_t arena_size_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> dynamic_;  // by value
  std::map<const io::Network*, std::unique_ptr<Engine>> subengines_;
};

}  // namespace packlight::runtime
