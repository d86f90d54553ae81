#include "runtime/network/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "base/fail.h"
#include "base/interrupt.h"
#include "runtime/network/fuse.h"

namespace packlight::runtime {
namespace {

constexpr size_t kLine = 64;

bool is_control(const io::NetworkNode& node) {
  return node.domain.empty() && (node.op == "If" || node.op == "Loop");
}

bool truth(const io::NetworkNode& node, const Tensor& tensor) {
  if (tensor.dtype != codec::DType::kBool || tensor.elements() != 1 || tensor.packed != nullptr) {
    fail(ErrorCode::kInvalidArgument, "{}: the condition is {} of {}, not one BOOL", node.label(),
         to_string(tensor.dims), codec::info(tensor.dtype).name);
  }
  return *tensor.as<uint8_t>() != 0;
}

// A tensor with bytes of its own: what a loop carries from one iteration to the next.
struct OwnTensor {
  Tensor shape;
  std::vector<std::byte> bytes;
  Tensor view() const {
    Tensor tensor = shape;
    tensor.data = const_cast<std::byte*>(bytes.data());
    return tensor;
  }
};

OwnTensor own(const io::NetworkNode& node, const Tensor& from) {
  if (from.packed != nullptr)
    fail(ErrorCode::kUnsupported, "{}: it carries a packed weight", node.label());
  OwnTensor tensor{from, std::vector<std::byte>(from.data, from.data + from.bytes())};
  tensor.bytes.reserve(1);  // an empty tensor has an address, too
  return tensor;
}

std::unique_ptr<std::byte[]> memory_for(const Tensor& tensor) {
  return std::make_unique_for_overwrite<std::byte[]>(std::max<uint64_t>(tensor.bytes(), 1));
}

// One of what a loop that never ran collects none of: dimensions that only a run tells are 0.
Tensor nothing(const io::NetworkNode& node, const io::NetworkValue& declared) {
  if (declared.constant && !declared.constant->is_packed())
    return constant_tensor(*declared.constant);
  if (!declared.dtype || !declared.shape) {
    fail(ErrorCode::kUnsupported,
         "{}: the loop never ran, and nothing says of what type and shape the empty output '{}' is",
         node.label(), declared.name);
  }
  Tensor tensor;
  tensor.dtype = *declared.dtype;
  for (const io::NetworkDim& dim : *declared.shape)
    tensor.dims.push_back(std::max<int64_t>(0, dim.value));
  return tensor;
}

// What a loop collects of one output, iteration after iteration.
struct Scan {
  OwnTensor all;
  bool any = false;

  void add(const io::NetworkNode& node, const Tensor& one) {
    if (any && (one.dims != all.shape.dims || one.dtype != all.shape.dtype)) {
      fail(ErrorCode::kInvalidArgument, "{}: a scanned output changes from {} of {} to {} of {}",
           node.label(), to_string(all.shape.dims), codec::info(all.shape.dtype).name,
           to_string(one.dims), codec::info(one.dtype).name);
    }
    all.shape = one;
    any = true;
    all.bytes.insert(all.bytes.end(), one.data, one.data + one.bytes());
  }

  // declared: the value of the body that is collected, for a loop that never ran.
  Tensor stacked(const io::NetworkNode& node, int64_t iterations,
                 const io::NetworkValue& declared) const {
    Tensor tensor = any ? all.view() : nothing(node, declared);
    tensor.dims.insert(tensor.dims.begin(), iterations);
    return tensor;
  }
};

}  // namespace

void check_operators(const io::Network& network) {
  for (const io::NetworkNode& node : network.nodes) {
    const bool known = is_control(node) || find_operator(node.op, node.domain) != nullptr;
    if (!known || node.domain == kFusedDomain) {
      fail(ErrorCode::kUnsupported, "{}: operator '{}{}{}' is not implemented", node.label(),
           node.domain, node.domain.empty() ? "" : ".", node.op);
    }
    for (const auto& [name, value] : node.attributes) {
      const auto* subgraph = std::get_if<std::shared_ptr<const io::Network>>(&value);
      if (subgraph != nullptr && *subgraph != nullptr) check_operators(**subgraph);
    }
  }
}

namespace {

std::shared_ptr<const io::Network> checked(std::shared_ptr<const io::Network> network) {
  check_operators(*network);
  return network;
}

}  // namespace

Engine::Engine(std::shared_ptr<const io::Network> network, std::shared_ptr<base::ThreadPool> pool)
    : Engine(fuse(checked(std::move(network))), std::move(pool)) {}

Engine::Engine(FusedNetwork fused, std::shared_ptr<base::ThreadPool> pool)
    : network_(std::move(fused.network)),
      prepared_bytes_(fused.prepared_bytes),
      pool_(std::move(pool)),
      arena_(nullptr, [](std::byte* p) { std::free(p); }) {
  for (const io::NetworkNode& node : network_->nodes)
    operators_.push_back(is_control(node) ? nullptr : find_operator(node.op, node.domain));
  dynamic_.resize(network_->values.size());
}

void Engine::check_inputs(std::span<const Tensor> inputs) const {
  if (inputs.size() != network_->inputs.size()) {
    fail(ErrorCode::kInvalidArgument, "[runtime] network '{}' takes {} inputs, not {}",
         network_->name, network_->inputs.size(), inputs.size());
  }
  std::map<std::string, int64_t> symbols;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const io::NetworkValue& value = network_->values[network_->inputs[i]];
    const Tensor& given = inputs[i];
    if (value.dtype && *value.dtype != given.dtype) {
      fail(ErrorCode::kInvalidArgument, "[runtime] input '{}' is {}, not {}", value.name,
           codec::info(*value.dtype).name, codec::info(given.dtype).name);
    }
    const std::string wrong = check_dims(given.dims);
    if (!wrong.empty()) {
      fail(ErrorCode::kInvalidArgument, "[runtime] input '{}' has shape {}: {}", value.name,
           to_string(given.dims), wrong);
    }
    if (!value.shape) continue;
    bool fits = value.shape->size() == given.dims.size();
    for (size_t d = 0; fits && d < given.dims.size(); ++d) {
      const io::NetworkDim& dim = (*value.shape)[d];
      fits = given.dims[d] >= 0 && (dim.value < 0 || dim.value == given.dims[d]);
      if (fits && !dim.symbol.empty())
        fits = symbols.emplace(dim.symbol, given.dims[d]).first->second == given.dims[d];
    }
    if (!fits) {
      std::string wanted;
      for (const io::NetworkDim& dim : *value.shape)
        wanted += (wanted.empty() ? "" : ", ") + (dim.value >= 0       ? std::to_string(dim.value)
                                                  : dim.symbol.empty() ? "?"
                                                                       : dim.symbol);
      fail(ErrorCode::kInvalidArgument, "[runtime] input '{}' has shape {}, the network takes [{}]",
           value.name, to_string(given.dims), wanted);
    }
  }
}

bool Engine::planned_for(std::span<const Tensor> inputs) const {
  if (plan_.slots.empty() || plan_.input_dims.size() != inputs.size()) return false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& planned = plan_.slots[network_->inputs[i]].tensor;
    if (plan_.input_dims[i] != inputs[i].dims || planned.dtype != inputs[i].dtype ||
        planned.packed != inputs[i].packed)
      return false;
  }
  return true;
}

void Engine::prepare(std::span<const Tensor> inputs) {
  plan_ = {};  // what fails below must leave no plan behind
  Plan plan = make_plan(*network_, operators_, inputs, *pool_);
  if (plan.arena_bytes > arena_size_) {
    arena_.reset();
    arena_size_ = 0;
    arena_.reset(static_cast<std::byte*>(std::aligned_alloc(kLine, plan.arena_bytes)));
    if (!arena_) {
      fail(ErrorCode::kOutOfMemory,
           "[runtime] network '{}' needs {} bytes for inputs of these shapes", network_->name,
           plan.arena_bytes);
    }
    arena_size_ = plan.arena_bytes;
  }
  plan_ = std::move(plan);
  for (Plan::Slot& slot : plan_.slots) {
    if (slot.place == Plan::Place::kArena) slot.tensor.data = arena_.get() + slot.offset;
  }
}

void Engine::plan(std::span<const Tensor> inputs) {
  check_inputs(inputs);
  if (!planned_for(inputs)) prepare(inputs);
}

void Engine::run(std::span<const Tensor> inputs) {
  plan(inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int32_t id = network_->inputs[i];
    if (!inputs[i].has_data()) {
      fail(ErrorCode::kInvalidArgument, "[runtime] input '{}' has no data",
           network_->values[id].name);
    }
    for (Plan::Slot& slot : plan_.slots) {
      if (slot.root == id) slot.tensor.data = inputs[i].data;  // the input and its views
    }
  }
  for (size_t i = 0; i < network_->nodes.size(); ++i) {
    if (node_seconds_ == nullptr) {
      run_node(i);
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    run_node(i);
    (*node_seconds_)[i] +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  for (const int32_t id : network_->outputs) expect_dense(id);
}

const Tensor& Engine::output(size_t index) const {
  if (plan_.slots.empty()) {
    fail(ErrorCode::kInvalidArgument, "[runtime] output {} of network '{}': no run has made it",
         index, network_->name);
  }
  return plan_.slots[network_->outputs[index]].tensor;
}

bool Engine::makes(const std::byte* data) const {
  const std::vector<int32_t>& given = network_->inputs;
  return !plan_.slots.empty() &&
         std::any_of(network_->outputs.begin(), network_->outputs.end(), [&](int32_t id) {
           const Plan::Slot& slot = plan_.slots[id];
           const bool kept = network_->values[slot.root].constant ||
                             std::find(given.begin(), given.end(), slot.root) != given.end();
           const auto from = reinterpret_cast<uintptr_t>(slot.tensor.data),
                      at = reinterpret_cast<uintptr_t>(data);
           return !kept && at >= from && at - from < slot.tensor.bytes();
         });
}

// What leaves a network has elements.
void Engine::expect_dense(int32_t value) const {
  if (plan_.slots[value].tensor.packed == nullptr) return;
  fail(ErrorCode::kUnsupported, "[runtime] output '{}' of network '{}' is a packed weight",
       network_->values[value].name, network_->name);
}

void Engine::run_node(size_t index) {
  if (plan_.steps[index] == Plan::Step::kDone) return;
  const io::NetworkNode& node = network_->nodes[index];
  std::vector<const Tensor*> inputs;
  inputs.reserve(node.inputs.size());
  for (const int32_t id : node.inputs)
    inputs.push_back(id == io::kNoValue ? nullptr : &plan_.slots[id].tensor);
  if (plan_.steps[index] == Plan::Step::kDynamic) {
    run_dynamic(index, inputs);
  } else {
    std::vector<Tensor> outputs(node.outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (node.outputs[i] != io::kNoValue) outputs[i] = plan_.slots[node.outputs[i]].tensor;
    }
    runtime::run(*operators_[index], RunCall(node, inputs, outputs, *pool_));
  }
  for (const int32_t id : node.inputs) {  // memory taken on the way goes as soon as it may
    if (id != io::kNoValue && dynamic_[id] &&
        plan_.slots[id].last_use == static_cast<int32_t>(index))
      dynamic_[id].reset();
  }
}

Tensor& Engine::allocate(int32_t value, codec::DType dtype, std::vector<int64_t> dims) {
  Tensor& tensor = plan_.slots[value].tensor;
  tensor.dtype = dtype;
  tensor.dims = std::move(dims);
  tensor.packed = nullptr;
  dynamic_[value] = memory_for(tensor);
  tensor.data = dynamic_[value].get();
  return tensor;
}

void Engine::copy_to(int32_t value, const Tensor& source) {
  if (value == io::kNoValue) return;
  if (source.packed != nullptr) {  // the network holds it: it stays where it is
    plan_.slots[value].tensor = source;
    return;
  }
  Tensor& tensor = allocate(value, source.dtype, source.dims);
  if (source.bytes() > 0) std::memcpy(tensor.data, source.data, source.bytes());
}

void Engine::run_dynamic(size_t index, std::span<const Tensor* const> inputs) {
  base::check_interrupt();
  const io::NetworkNode& node = network_->nodes[index];
  const Operator* op = operators_[index];
  if (op == nullptr) return node.op == "If" ? run_if(node, inputs) : run_loop(node, inputs);
  std::vector<Tensor> outputs(node.outputs.size());
  if (!infer(*op, node, inputs, outputs))
    fail(ErrorCode::kInternal, "{}: no shape although its inputs are there", node.label());
  if (op->is_view)
    return copy_to(node.outputs[0], [&] {
      Tensor view = outputs[0];
      view.data = inputs[0]->data;
      view.packed = inputs[0]->packed;
      return view;
    }());
  std::vector<std::unique_ptr<std::byte[]>> unwanted;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (node.outputs[i] != io::kNoValue) {
      outputs[i] = allocate(node.outputs[i], outputs[i].dtype, outputs[i].dims);
    } else {
      unwanted.push_back(memory_for(outputs[i]));
      outputs[i].data = unwanted.back().get();
    }
  }
  runtime::run(*op, RunCall(node, inputs, outputs, *pool_));
}

Engine& Engine::subengine(const io::NetworkNode& node, const char* attribute) {
  const auto* network = node.attributes.get<std::shared_ptr<const io::Network>>(
      attribute, node.label(), "a subgraph");
  if (network == nullptr || *network == nullptr)
    fail(ErrorCode::kCorrupt, "{}: attribute '{}' holds no subgraph", node.label(), attribute);
  auto& engine = subengines_[network->get()];
  if (!engine) engine = std::make_unique<Engine>(*network, pool_);
  return *engine;
}

void Engine::run_if(const io::NetworkNode& node, std::span<const Tensor* const> inputs) {
  if (inputs[0] == nullptr) fail(ErrorCode::kCorrupt, "{}: no condition", node.label());
  Engine& branch = subengine(node, truth(node, *inputs[0]) ? "then_branch" : "else_branch");
  std::vector<Tensor> captured;
  for (size_t i = inputs.size() - node.captures; i < inputs.size(); ++i)
    captured.push_back(*inputs[i]);
  branch.run(captured);
  for (size_t i = 0; i < node.outputs.size(); ++i) copy_to(node.outputs[i], branch.output(i));
}

void Engine::run_loop(const io::NetworkNode& node, std::span<const Tensor* const> inputs) {
  Engine& body = subengine(node, "body");
  const size_t captures = node.captures, carried = inputs.size() - 2 - captures;
  const size_t scanned = body.network().outputs.size() - 1 - carried;
  if (inputs[0] != nullptr && (inputs[0]->elements() != 1 || inputs[0]->packed != nullptr)) {
    fail(ErrorCode::kInvalidArgument, "{}: the trip count is one number, not {}", node.label(),
         to_string(inputs[0]->dims));
  }
  const int64_t trips = inputs[0] != nullptr ? integers_of(*inputs[0]).at(0) : INT64_MAX;
  uint8_t go_on = inputs[1] == nullptr || truth(node, *inputs[1]);
  std::vector<OwnTensor> values;
  for (size_t i = 0; i < carried; ++i) values.push_back(own(node, *inputs[2 + i]));
  std::vector<Scan> scans(scanned);
  int64_t iteration = 0;
  for (; iteration < trips && go_on != 0; ++iteration) {
    base::check_interrupt();
    std::vector<Tensor> arguments(2);
    arguments[0] = {codec::DType::kI64, {}, reinterpret_cast<std::byte*>(&iteration), nullptr};
    arguments[1] = {codec::DType::kBool, {}, reinterpret_cast<std::byte*>(&go_on), nullptr};
    for (const OwnTensor& value : values) arguments.push_back(value.view());
    for (size_t i = inputs.size() - captures; i < inputs.size(); ++i)
      arguments.push_back(*inputs[i]);
    body.run(arguments);
    go_on = truth(node, body.output(0));
    for (size_t s = 0; s < scanned; ++s) scans[s].add(node, body.output(1 + carried + s));
    // An output may be a view of a value carried in: all are copied before any of those goes.
    std::vector<OwnTensor> next;
    for (size_t i = 0; i < carried; ++i) next.push_back(own(node, body.output(1 + i)));
    values = std::move(next);
  }
  for (size_t i = 0; i < carried && i < node.outputs.size(); ++i)
    copy_to(node.outputs[i], values[i].view());
  for (size_t s = 0; s < scanned && carried + s < node.outputs.size(); ++s) {
    const int32_t made = body.network().outputs[1 + carried + s];
    copy_to(node.outputs[carried + s],
            scans[s].stacked(node, iteration, body.network().values[made]));
  }
}

}  // namespace packlight::runtime
