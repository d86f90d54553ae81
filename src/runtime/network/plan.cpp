#include "runtime/network/plan.h"

#include <algorithm>
#include <numeric>

namespace packlight::runtime {
namespace {

// What is computed while planning: shape arithmetic and small constants, not the network's work.
constexpr int64_t kMostComputedElements = 4096;
constexpr uint64_t kLine = 64;

uint64_t whole_lines(uint64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

class Planner {
 public:
  Planner(const io::Network& network, const std::vector<const Operator*>& operators,
          base::ThreadPool& pool)
      : network_(network), operators_(operators), pool_(pool) {}

  Plan run(std::span<const Tensor> inputs) {
    plan_.slots.resize(network_.values.size());
    plan_.steps.resize(network_.nodes.size(), Plan::Step::kRun);
    for (size_t i = 0; i < plan_.slots.size(); ++i) plan_.slots[i].root = static_cast<int32_t>(i);
    add_constants();
    for (size_t i = 0; i < inputs.size(); ++i) {
      Plan::Slot& slot = plan_.slots[network_.inputs[i]];
      slot.tensor = inputs[i];
      slot.tensor.data = nullptr;  // another run brings other contents
      slot.shape_known = true;
      plan_.input_dims.push_back(inputs[i].dims);
    }
    for (size_t i = 0; i < network_.nodes.size(); ++i) plan_node(i);
    find_last_uses();
    share_memory();
    place();
    return std::move(plan_);
  }

 private:
  void add_constants() {
    for (size_t i = 0; i < network_.values.size(); ++i) {
      if (!network_.values[i].constant) continue;
      plan_.slots[i].tensor = constant_tensor(*network_.values[i].constant);
      plan_.slots[i].shape_known = true;
    }
  }

  void plan_node(size_t index) {
    const io::NetworkNode& node = network_.nodes[index];
    const Operator* op = operators_[index];
    std::vector<const Tensor*> inputs;
    bool shapes_known = op != nullptr, contents_known = true;
    for (const int32_t id : node.inputs) {
      inputs.push_back(id == io::kNoValue ? nullptr : &plan_.slots[id].tensor);
      if (id == io::kNoValue) continue;
      shapes_known &= plan_.slots[id].shape_known;
      contents_known &= plan_.slots[id].shape_known && plan_.slots[id].tensor.has_data();
    }
    std::vector<Tensor> outputs(node.outputs.size());
    // An operator writes its first output without asking; that of no name gets memory as it runs.
    const bool first_wanted = !node.outputs.empty() && node.outputs[0] != io::kNoValue;
    if (!shapes_known || !first_wanted || !infer(*op, node, inputs, outputs)) {
      plan_.steps[index] = Plan::Step::kDynamic;
      for (const int32_t id : node.outputs) {
        if (id != io::kNoValue) plan_.slots[id].place = Plan::Place::kDynamic;
      }
      return;
    }
    const bool compute = (contents_known || op->shapes_only) && is_small(outputs);
    if (compute && !op->is_view) compute_now(node, *op, inputs, outputs);
    if (compute || op->is_view) plan_.steps[index] = Plan::Step::kDone;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (node.outputs[i] == io::kNoValue) continue;
      Plan::Slot& slot = plan_.slots[node.outputs[i]];
      slot.tensor = std::move(outputs[i]);
      slot.shape_known = true;
      slot.place = compute ? Plan::Place::kOutside : Plan::Place::kArena;
      if (op->is_view && i == 0) become_view(slot, node.inputs[0]);
    }
  }

  void become_view(Plan::Slot& slot, int32_t source) {
    const Plan::Slot& original = plan_.slots[source];
    slot.root = original.root;
    slot.place = original.place;
    slot.tensor.data = original.tensor.data;
    slot.tensor.packed = original.tensor.packed;
  }

  static bool is_small(const std::vector<Tensor>& outputs) {
    return std::all_of(outputs.begin(), outputs.end(),
                       [](const Tensor& t) { return t.elements() <= kMostComputedElements; });
  }

  void compute_now(const io::NetworkNode& node, const Operator& op,
                   std::span<const Tensor* const> inputs, std::vector<Tensor>& outputs) {
    for (Tensor& output : outputs) {
      plan_.computed.push_back(
          std::make_unique<std::byte[]>(std::max<uint64_t>(output.bytes(), 1)));
      output.data = plan_.computed.back().get();
    }
    runtime::run(op, RunCall(node, inputs, outputs, pool_));
  }

  Plan::Slot& root_of(int32_t id) { return plan_.slots[plan_.slots[id].root]; }

  void find_last_uses() {
    const auto end = static_cast<int32_t>(network_.nodes.size());
    for (int32_t i = 0; i < end; ++i) {
      if (plan_.steps[i] == Plan::Step::kDone) continue;
      for (const int32_t id : network_.nodes[i].inputs) {
        if (id != io::kNoValue) root_of(id).last_use = i;
      }
      for (const int32_t id : network_.nodes[i].outputs) {  // written even when nobody reads it
        if (id != io::kNoValue) root_of(id).last_use = std::max(root_of(id).last_use, i);
      }
    }
    for (const int32_t id : network_.outputs) root_of(id).last_use = end;
  }

  // Lets an element-wise node write over an input that nobody needs afterwards.
  void share_memory() {
    for (size_t i = 0; i < network_.nodes.size(); ++i) {
      if (plan_.steps[i] != Plan::Step::kRun || !operators_[i]->in_place) continue;
      const io::NetworkNode& node = network_.nodes[i];
      if (node.outputs[0] == io::kNoValue) continue;
      Plan::Slot& output = plan_.slots[node.outputs[0]];
      for (size_t k = 0; k < std::min<size_t>(2, node.inputs.size()); ++k) {
        if (node.inputs[k] == io::kNoValue) continue;
        const int32_t root = plan_.slots[node.inputs[k]].root;
        Plan::Slot& input = plan_.slots[root];
        if (input.place != Plan::Place::kArena || input.last_use != static_cast<int32_t>(i) ||
            plan_.slots[node.inputs[k]].tensor.dims != output.tensor.dims ||
            input.tensor.dtype != output.tensor.dtype)
          continue;
        input.last_use = output.last_use;
        redirect(node.outputs[0], root);
        break;
      }
    }
  }

  void redirect(int32_t from, int32_t to) {
    for (Plan::Slot& slot : plan_.slots) {
      if (slot.root == from) slot.root = to;
    }
  }

  // Largest first, each at the lowest offset that no value alive at the same time takes.
  void place() {
    std::vector<int32_t> made(plan_.slots.size(), 0);
    for (size_t i = 0; i < network_.nodes.size(); ++i) {
      for (const int32_t id : network_.nodes[i].outputs) {
        if (id != io::kNoValue) made[id] = static_cast<int32_t>(i);
      }
    }
    std::vector<int32_t> order;
    for (size_t i = 0; i < plan_.slots.size(); ++i) {
      const Plan::Slot& slot = plan_.slots[i];
      if (slot.place == Plan::Place::kArena && slot.root == static_cast<int32_t>(i))
        order.push_back(static_cast<int32_t>(i));
    }
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return plan_.slots[a].tensor.bytes() > plan_.slots[b].tensor.bytes();
    });
    std::vector<int32_t> placed;  // by offset
    for (const int32_t id : order) {
      Plan::Slot& slot = plan_.slots[id];
      const uint64_t size = whole_lines(slot.tensor.bytes());
      uint64_t offset = 0;
      for (const int32_t other_id : placed) {
        const Plan::Slot& other = plan_.slots[other_id];
        const bool alive_together = made[id] <= other.last_use && made[other_id] <= slot.last_use;
        if (!alive_together) continue;
        if (offset + size <= other.offset) break;
        offset = std::max(offset, other.offset + whole_lines(other.tensor.bytes()));
      }
      slot.offset = offset;
      plan_.arena_bytes = std::max(plan_.arena_bytes, offset + size);
      placed.insert(std::upper_bound(placed.begin(), placed.end(), id,
                                     [&](int32_t a, int32_t b) {
                                       return plan_.slots[a].offset < plan_.slots[b].offset;
                                     }),
                    id);
    }
    for (Plan::Slot& slot : plan_.slots) {
      if (slot.place == Plan::Place::kArena) slot.offset = plan_.slots[slot.root].offset;
    }
  }

  const io::Network& network_;
  const std::vector<const Operator*>& operators_;
  base::ThreadPool& pool_;
  Plan plan_;
};

}  // namespace

Tensor constant_tensor(const io::NetworkConstant& constant) {
  Tensor tensor;
  tensor.dtype = constant.record.dtype;
  tensor.dims = constant.record.shape;
  if (constant.is_packed()) {
    tensor.packed = &constant.packed;
  } else {
    tensor.data =
        const_cast<std::byte*>(constant.record.bytes.data());  // nothing writes to a constant
  }
  return tensor;
}

Plan make_plan(const io::Network& network, const std::vector<const Operator*>& operators,
               std::span<const Tensor> inputs, base::ThreadPool& pool) {
  return Planner(network, operators, pool).run(inputs);
}

}  // namespace packlight::runtime
