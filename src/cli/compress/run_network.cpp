#include <ATen/ATen.h>
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "import/sources.h"
#include "io/npy.h"

namespace packlight::cli {
namespace {

namespace fs = std::filesystem;

at::Tensor read_array(const std::string& path) {
  const io::TensorRecord record = io::read_npy(path);
  auto* data = const_cast<std::byte*>(record.bytes.data());
  const at::ScalarType type = import::scalar_type_of(record.dtype);
  return record.bytes.empty() ? at::empty(record.shape, type) : at::from_blob(data, record.shape, type).clone();
}

std::unordered_map<std::string, at::Tensor> read_inputs(const graph::Graph& graph, const std::vector<std::string>& texts) {
  std::unordered_map<std::string, at::Tensor> inputs;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos && graph.inputs.size() != 1) {
      fail(ErrorCode::kInvalidArgument, "[run] --input '{}': '{}' has {} inputs; write NAME=FILE.npy", text, graph.name, graph.inputs.size());
    }
    const std::string name = equals == std::string::npos ? graph.value(graph.inputs[0]).name : text.substr(0, equals);
    const at::Tensor array = read_array(equals == std::string::npos ? text : text.substr(equals + 1));
    const auto id = graph.find(name);
    if (id && graph.value(*id).type != graph::ElementType::kUndefined && graph::to_scalar_type(graph.value(*id).type) != array.scalar_type()) {
      fail(ErrorCode::kInvalidArgument, "[run] --input '{}' holds {}, the network's input '{}' takes {}", text,
           graph::element_type_name(graph::from_scalar_type(array.scalar_type())), name, graph::element_type_name(graph.value(*id).type));
    }
    inputs[name] = array;
  }
  return inputs;
}

void write_array(const fs::path& path, const at::Tensor& given) {
  const at::Tensor tensor = given.contiguous();
  io::write_npy(path, import::dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
                {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()});
}

// A value name may hold what a file name cannot.
std::string file_name(std::string name) {
  for (char& c : name) {
    if (c == '/' || c == '\\' || c == '\0') c = '_';
  }
  return name + ".npy";
}

}  // namespace

void run_network(const std::string& model, const std::vector<std::string>& inputs, const std::string& output, bool json) {
  if (inputs.empty()) fail(ErrorCode::kInvalidArgument, "[run] '{}' is a network: give it its inputs (--input FILE.npy)", model);
  exec::initialise(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const import::OnnxNetwork network = load_network(model);
  const graph::Graph& graph = network.graph;
  const auto arrays = read_inputs(graph, inputs);
  exec::Executor executor(graph);
  const auto start = std::chrono::steady_clock::now();
  const auto outputs = executor.run(arrays);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const bool one_file = fs::path(output).extension() == ".npy";
  if (one_file && graph.outputs.size() != 1) {
    fail(ErrorCode::kInvalidArgument, "[run] -o '{}': the network has {} outputs; name a folder", output, graph.outputs.size());
  }
  if (!output.empty() && !one_file) fs::create_directories(output);
  Json report = {{"seconds", seconds}, {"outputs", Json::array()}};
  for (const graph::ValueId id : graph.outputs) {
    const std::string& name = graph.value(id).name;
    const at::Tensor& tensor = outputs.at(name);
    const fs::path path = output.empty() ? fs::path() : one_file ? fs::path(output) : fs::path(output) / file_name(name);
    if (!path.empty()) write_array(path, tensor);
    report["outputs"].push_back({{"name", name}, {"shape", tensor.sizes().vec()}, {"file", path.string()}});
    if (json) continue;
    fmt::print("{}: [{}]{}\n", name, fmt::join(tensor.sizes().begin(), tensor.sizes().end(), ", "), path.empty() ? "" : " -> " + path.string());
    const at::Tensor flat = tensor.reshape({-1}).to(at::kDouble);
    for (int64_t i = 0; i < std::min<int64_t>(flat.numel(), path.empty() ? 16 : 0); ++i) fmt::print("  {:g}\n", flat[i].item<double>());
  }
  if (json) fmt::print("{}\n", report.dump(2));
}

}  // namespace packlight::cli
