#include <memory>

#include "base/fail.h"
#include "bindings/call.h"
#include "io/network_package.h"
#include "runtime/network/engine.h"

namespace {

using packlight::ErrorCode;
using packlight::fail;
using packlight::bindings::call;
using packlight::bindings::expect_given;
using packlight::codec::DType;
namespace io = packlight::io;
namespace runtime = packlight::runtime;

constexpr std::pair<packlight_type, DType> kTypes[] = {
    {PACKLIGHT_F64, DType::kF64},   {PACKLIGHT_F32, DType::kF32}, {PACKLIGHT_F16, DType::kF16},
    {PACKLIGHT_BF16, DType::kBF16}, {PACKLIGHT_I64, DType::kI64}, {PACKLIGHT_I32, DType::kI32},
    {PACKLIGHT_I16, DType::kI16},   {PACKLIGHT_I8, DType::kI8},   {PACKLIGHT_U8, DType::kU8},
    {PACKLIGHT_BOOL, DType::kBool}};

packlight_type type_of(std::optional<DType> dtype) {
  for (const auto& [type, other] : kTypes) {
    if (dtype == other) return type;
  }
  return PACKLIGHT_TYPE_UNKNOWN;
}

// A shape as C sees it: a scalar's is known, so it is not NULL.
const int64_t* dimensions(const std::vector<int64_t>& shape) {
  static constexpr int64_t kNoDimension = 0;
  return shape.empty() ? &kNoDimension : shape.data();
}

// What the network says of a value.
struct Declared {
  std::string name;
  packlight_type type = PACKLIGHT_TYPE_UNKNOWN;
  std::optional<std::vector<int64_t>> shape;  // -1 where a dimension varies

  explicit Declared(const io::NetworkValue& value) : name(value.name) {
    type = type_of(value.constant ? value.constant->record.dtype : value.dtype);
    if (!value.shape) return;
    shape.emplace();
    for (const io::NetworkDim& dim : *value.shape) shape->push_back(dim.value);
  }

  packlight_tensor tensor() const {
    packlight_tensor tensor = {};
    tensor.name = name.c_str();
    tensor.type = type;
    if (shape) {
      tensor.rank = shape->size();
      tensor.shape = dimensions(*shape);
    }
    return tensor;
  }
};

}  // namespace

struct packlight_network {
  io::NetworkPackage package;
  runtime::Engine engine;
  std::vector<Declared> inputs, outputs;
  std::vector<runtime::Tensor> values;  // of the inputs
  std::vector<bool> set;
  bool ran = false;

  packlight_network(const char* path, int threads)
      : package(io::NetworkPackage::open(path)),
        engine(package.network(), std::make_shared<packlight::base::ThreadPool>(threads)) {
    const io::Network& network = *package.network();
    for (const int32_t id : network.outputs) outputs.emplace_back(network.values[id]);
    for (const int32_t id : network.inputs) {
      const io::NetworkValue& value = network.values[id];
      inputs.emplace_back(value);
      set.push_back(value.constant.has_value());
      values.push_back(value.constant ? runtime::constant_tensor(*value.constant)
                                      : runtime::Tensor());
    }
  }
};

namespace {

size_t checked_index(size_t index, size_t count, const char* function) {
  if (index < count) return index;
  fail(ErrorCode::kInvalidArgument, "[c] {}: index {}, but there are {}", function, index, count);
}

runtime::Tensor tensor_of(const std::string& name, packlight_type type, size_t rank,
                          const int64_t* shape, const void* data, size_t size_bytes) {
  constexpr const char* kFunction = "packlight_network_set_input";
  constexpr size_t kMostDimensions = 64;
  runtime::Tensor tensor;
  bool known = false;
  for (const auto& [one, dtype] : kTypes) {
    if (one == type) tensor.dtype = dtype, known = true;
  }
  if (!known || rank > kMostDimensions) {
    fail(ErrorCode::kInvalidArgument, "[c] {}: input '{}': type {}, {} dimensions", kFunction, name,
         type, rank);
  }
  if (rank > 0) expect_given(shape, kFunction, "shape");
  tensor.dims.assign(shape, shape + rank);
  uint64_t needed = 0;
  try {
    needed = io::tensor_bytes(tensor.dtype, tensor.dims, name, kFunction);
  } catch (const packlight::Error& e) {
    fail(ErrorCode::kInvalidArgument, "[c] {}", e.what());
  }
  if (needed != size_bytes) {
    fail(ErrorCode::kInvalidArgument, "[c] {}: input '{}': {} bytes, type and shape need {}",
         kFunction, name, size_bytes, needed);
  }
  if (size_bytes > 0) expect_given(data, kFunction, "data");
  if (reinterpret_cast<uintptr_t>(data) % packlight::codec::info(tensor.dtype).block_bytes != 0)
    fail(ErrorCode::kInvalidArgument, "[c] {}: input '{}': data is not aligned for its type",
         kFunction, name);
  tensor.data = static_cast<std::byte*>(const_cast<void*>(data));  // an engine only reads inputs
  return tensor;
}

}  // namespace

extern "C" {

packlight_status packlight_network_open(const char* path, int threads,
                                        packlight_network** network) {
  return call([&] {
    expect_given(path, "packlight_network_open", "path");
    expect_given(network, "packlight_network_open", "network");
    if (threads < 0)
      fail(ErrorCode::kInvalidArgument, "[c] packlight_network_open: {} threads", threads);
    *network = new packlight_network(path, threads);
  });
}

void packlight_network_close(packlight_network* network) { delete network; }

size_t packlight_network_input_count(const packlight_network* network) {
  return network == nullptr ? 0 : network->inputs.size();
}

size_t packlight_network_output_count(const packlight_network* network) {
  return network == nullptr ? 0 : network->outputs.size();
}

packlight_status packlight_network_input(const packlight_network* network, size_t index,
                                         packlight_tensor* input) {
  constexpr const char* kFunction = "packlight_network_input";
  return call([&] {
    expect_given(network, kFunction, "network");
    expect_given(input, kFunction, "input");
    *input = network->inputs[checked_index(index, network->inputs.size(), kFunction)].tensor();
  });
}

packlight_status packlight_network_set_input(packlight_network* network, size_t index,
                                             packlight_type type, size_t rank, const int64_t* shape,
                                             const void* data, size_t size_bytes) {
  constexpr const char* kFunction = "packlight_network_set_input";
  return call([&] {
    expect_given(network, kFunction, "network");
    checked_index(index, network->inputs.size(), kFunction);
    const std::string& name = network->inputs[index].name;
    runtime::Tensor tensor = tensor_of(name, type, rank, shape, data, size_bytes);
    if (network->engine.makes(tensor.data)) {
      fail(
          ErrorCode::kInvalidArgument,
          "[c] {}: input '{}': data is of an output, which the next run writes over: copy it first",
          kFunction, name);
    }
    network->values[index] = std::move(tensor);
    network->set[index] = true;
    network->ran = false;
  });
}

packlight_status packlight_network_run(packlight_network* network) {
  constexpr const char* kFunction = "packlight_network_run";
  return call([&] {
    expect_given(network, kFunction, "network");
    for (size_t i = 0; i < network->set.size(); ++i) {
      if (!network->set[i])
        fail(ErrorCode::kInvalidArgument, "[c] {}: input '{}' is not set", kFunction,
             network->inputs[i].name);
    }
    network->ran = false;
    network->engine.run(network->values);
    network->ran = true;
  });
}

packlight_status packlight_network_output(const packlight_network* network, size_t index,
                                          packlight_tensor* output) {
  constexpr const char* kFunction = "packlight_network_output";
  return call([&] {
    expect_given(network, kFunction, "network");
    expect_given(output, kFunction, "output");
    checked_index(index, network->outputs.size(), kFunction);
    packlight_tensor tensor = network->outputs[index].tensor();
    if (network->ran) {
      const runtime::Tensor& made = network->engine.output(index);
      tensor.type = type_of(made.dtype);
      tensor.rank = made.dims.size();
      tensor.shape = dimensions(made.dims);
      tensor.data = made.data;
      tensor.size_bytes = made.bytes();
    }
    *output = tensor;
  });
}

uint64_t packlight_network_arena_bytes(const packlight_network* network) {
  return network == nullptr ? 0 : network->engine.arena_bytes();
}

}  // extern "C"
