#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "io/network.h"
#include "runtime/network/operator.h"
#include "runtime/network/tensor.h"

namespace packlight::runtime {

// How a network runs for inputs of given shapes: every value's shape, its place in one arena, and
// what was computed already (shape arithmetic on constants and shapes).
struct Plan {
  enum class Place : uint8_t {
    kOutside,  // constant, network input, or computed while planning: data is set for good
    kArena,    // at `offset` in the arena
    kDynamic,  // shape depends on contents: memory is taken when the node runs
  };
  struct Slot {
    Tensor tensor;
    Place place = Place::kOutside;
    bool shape_known = false;
    uint64_t offset = 0;
    int32_t root = -1;  // the value whose bytes this one shares (itself, mostly)
    int32_t last_use =
        -1;  // node after which the bytes are not needed; one past the last node for outputs
  };
  enum class Step : uint8_t { kRun, kDone, kDynamic };  // kDone: computed while planning, or a view

  std::vector<std::vector<int64_t>> input_dims;
  std::vector<Slot> slots;  // by value
  std::vector<Step> steps;  // by node
  uint64_t arena_bytes = 0;
  std::vector<std::unique_ptr<std::byte[]>> computed;  // bytes of values computed while planning
};

// Errors: InvalidArgument where an operator refuses the shapes.
Plan make_plan(const io::Network& network, const std::vector<const Operator*>& operators,
               std::span<const Tensor> inputs, base::ThreadPool& pool);

// A constant as a tensor: a view of its bytes.
Tensor constant_tensor(const io::NetworkConstant& constant);

}  // namespace packlight::runtime
