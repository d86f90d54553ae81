#include <fmt/format.h>

#include <map>

#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "graph/cost.h"
#include "graph/weight.h"
#include "import/sources.h"
#include "io/hf_folder.h"
#include "io/network_package.h"
#include "runtime/network/engine.h"

namespace packlight::cli {
namespace {

Json optional_json(const std::optional<int64_t>& number) { return number ? Json(*number) : Json(); }

struct WeightSum {
  int64_t parameters = 0, bytes = 0;
};

WeightSum weights_of(const graph::Graph& graph, const graph::Node& node) {
  WeightSum sum;
  for (const graph::ValueId id : node.inputs) {
    if (id == graph::kNone || !graph.value(id).weight) continue;
    sum.parameters += graph::element_count(graph.value(id)).value_or(0);
    sum.bytes += static_cast<int64_t>(graph::weight_bytes(*graph.value(id).weight));
  }
  return sum;
}

Json layers_of(const graph::Graph& graph) {
  Json layers = Json::array();
  for (const graph::Node& node : graph.nodes()) {
    const WeightSum weights = weights_of(graph, node);
    const graph::ValueId out = node.outputs.empty() ? graph::kNone : node.outputs[0];
    layers.push_back({{"name", node.name},
                      {"op", node.op},
                      {"output", out != graph::kNone && graph.value(out).shape
                                     ? Json(graph::to_string(*graph.value(out).shape))
                                     : Json()},
                      {"parameters", weights.parameters},
                      {"weight_bytes", weights.bytes},
                      {"macs", optional_json(graph::multiply_accumulates(graph, node))}});
  }
  return layers;
}

Json values_of(const graph::Graph& graph, const std::vector<graph::ValueId>& ids) {
  Json out = Json::array();
  for (const graph::ValueId id : ids) {
    const graph::Value& value = graph.value(id);
    out.push_back({{"name", value.name},
                   {"type", graph::element_type_name(value.type)},
                   {"shape", value.shape ? graph::to_string(*value.shape) : "[...]"}});
  }
  return out;
}

// What the package keeps besides the network, and the memory that the runtime plans for inputs of
// these shapes: null while some are not known.
Json package_json(const std::string& path, const graph::Graph& graph) {
  const io::NetworkPackage package = io::NetworkPackage::open(path);
  Json json = {{"format_version", package.metadata().format_version},
               {"size_bytes", package.size_bytes()},
               {"recipe", package.metadata().recipe},
               {"preprocess", package.metadata().preprocess},
               {"arena_bytes", Json()},
               {"prepared_bytes", Json()}};
  std::vector<runtime::Tensor> inputs;
  for (const graph::ValueId id : graph.inputs) {
    const graph::Value& value = graph.value(id);
    if (!value.shape || value.type == graph::ElementType::kUndefined) return json;
    runtime::Tensor input;
    input.dtype = import::dtype_of(graph::to_scalar_type(value.type));
    for (const graph::Dim& dim : *value.shape) {
      if (!dim.known()) return json;
      input.dims.push_back(dim.value);
    }
    inputs.push_back(std::move(input));
  }
  runtime::Engine engine(package.network(), std::make_shared<base::ThreadPool>(1));
  engine.plan(inputs);
  json["arena_bytes"] = engine.arena_bytes();
  json["prepared_bytes"] = engine.prepared_bytes();
  return json;
}

std::string number_text(const Json& number) { return number.is_null() ? "unknown" : number.dump(); }

}  // namespace

Json inspect_network(const std::string& path, const std::vector<std::string>& input_shapes) {
  import::OnnxNetwork network = load_network(path);
  if (!input_shapes.empty())
    graph::bind_input_shapes(network.graph, parse_input_shapes(input_shapes, network.graph));
  const graph::Graph& graph = network.graph;
  Json out;
  const io::ModelKind kind = io::detect_model_kind(path);
  out["kind"] = io::model_kind_name(kind);
  out["opset"] = network.opset;
  out["inputs"] = values_of(graph, graph.inputs);
  out["outputs"] = values_of(graph, graph.outputs);
  const graph::GraphCost cost = graph::total_cost(graph);
  out["parameters"] = cost.parameters;
  out["weight_bytes"] = cost.bytes;
  std::map<std::string, int64_t> operators;
  for (const graph::Node& node : graph.nodes()) ++operators[node.op];
  out["macs"] = optional_json(cost.macs);
  out["peak_activation_bytes"] = optional_json(graph::peak_activation_bytes(graph));
  out["operators"] = operators;
  if (kind == io::ModelKind::kNetworkPackage) out["package"] = package_json(path, graph);
  out["metadata"] = Json::object();
  for (const auto& [key, value] : network.metadata)
    out["metadata"][key] = value.size() > 200 ? fmt::format("({} bytes)", value.size()) : value;
  out["layers"] = layers_of(graph);
  return out;
}

void print_network(const std::string& path, const Json& m) {
  fmt::print("{}: {}, opset {}\n", path, m["kind"].get<std::string>(), m["opset"].dump());
  for (const char* side : {"inputs", "outputs"}) {
    for (const Json& value : m[side])
      fmt::print("{:<14} {}: {} {}\n", side, value["name"].get<std::string>(),
                 value["type"].get<std::string>(), value["shape"].get<std::string>());
  }
  fmt::print("weights        {} parameters, {:.1f} MB\n", m["parameters"].dump(),
             m["weight_bytes"].get<double>() / 1e6);
  const bool known = !m["macs"].is_null();
  fmt::print("work           {} multiply-accumulates{}\n", number_text(m["macs"]),
             known ? "" : " (--input-shape fixes sizes that vary)");
  fmt::print("activations    {} bytes at most at once\n", number_text(m["peak_activation_bytes"]));
  if (m.contains("package")) {
    const Json& package = m["package"];
    fmt::print("memory plan    {} bytes{}\n", number_text(package["arena_bytes"]),
               package["arena_bytes"].is_null() ? " (--input-shape fixes sizes that vary)" : "");
    fmt::print("prepared       {} bytes of weights in another order\n",
               number_text(package["prepared_bytes"]));
    fmt::print("package        format {}, {:.1f} MB, recipe {}, preprocessing {}\n",
               package["format_version"].dump(), package["size_bytes"].get<double>() / 1e6,
               package["recipe"].dump(), package["preprocess"].dump());
  }
  fmt::print("operators      ");
  for (const auto& [op, count] : m["operators"].items()) fmt::print("{} {}  ", op, count.dump());
  fmt::print("\n\n{:<40} {:<22} {:<26} {:>11} {:>11} {:>13}\n", "layer", "operator", "output",
             "parameters", "bytes", "MACs");
  for (const Json& layer : m["layers"]) {
    if (layer["parameters"] == 0 && layer["macs"] == 0) continue;
    fmt::print("{:<40} {:<22} {:<26} {:>11} {:>11} {:>13}\n", layer["name"].get<std::string>(),
               layer["op"].get<std::string>(),
               layer["output"].is_null() ? "?" : layer["output"].get<std::string>(),
               layer["parameters"].dump(), layer["weight_bytes"].dump(),
               number_text(layer["macs"]));
  }
}

}  // namespace packlight::cli
