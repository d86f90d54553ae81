#include "import/onnx.h"

#include "base/fail.h"
#include "graph/weight.h"
#include "import/onnx_builder.h"
#include "onnx_file/model.h"

namespace packlight::import {
namespace {

OnnxContext read_context(const onnx_file::Model& model, std::vector<std::string>& notices) {
  OnnxContext context{model, notices, {}, {}, 0};
  for (const auto& opset : model.proto().opset_import()) {
    context.opsets[opset.domain() == "ai.onnx" ? "" : opset.domain()] = opset.version();
  }
  check_opset(context, fmt::format("'{}'", model.path().string()));
  for (const auto& function : model.proto().functions()) {
    const std::string domain = function.domain() == "ai.onnx" ? "" : function.domain();
    if (!context.functions.emplace(std::pair(domain, function.name()), &function).second) {
      fail(ErrorCode::kUnsupported,
           "[onnx] '{}': two functions are named '{}.{}' (overloads are not supported)",
           model.path().string(), domain, function.name());
    }
  }
  return context;
}

// What the file says of its outputs, where inference knows less: symbols of dimensions, types.
void merge_declared_outputs(const onnx::GraphProto& proto, OnnxNetwork& network) {
  for (int i = 0; i < proto.output_size(); ++i) {
    graph::Value& value = network.graph.value(network.graph.outputs[i]);
    const auto& type = proto.output(i).type().tensor_type();
    if (!type.has_shape()) continue;
    graph::Shape declared;
    for (const auto& dim : type.shape().dim()) {
      declared.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? graph::Dim(dim.dim_value())
                         : dim.has_dim_param() && dim.dim_param() != "?"
                             ? graph::Dim(dim.dim_param())
                             : graph::Dim());
    }
    if (!value.shape) {
      value.shape = declared;
    } else if (value.shape->size() != declared.size()) {
      network.notices.push_back(fmt::format("output '{}' is declared {}, but is {}", value.name,
                                            graph::to_string(declared),
                                            graph::to_string(*value.shape)));
    }
  }
}

std::map<std::string, std::string> metadata_of(const onnx_file::Model& model) {
  std::map<std::string, std::string> metadata;
  for (const auto& entry : model.proto().metadata_props()) metadata[entry.key()] = entry.value();
  return metadata;
}

}  // namespace

std::map<std::string, std::string> read_onnx_metadata(const std::filesystem::path& path) {
  return metadata_of(onnx_file::Model::read(path));
}

OnnxNetwork load_onnx(const std::filesystem::path& path) {
  return load_onnx(onnx_file::Model::read(path));
}

OnnxNetwork load_onnx(const onnx_file::Model& model) {
  OnnxNetwork network;
  network.path = model.path();
  OnnxContext context = read_context(model, network.notices);
  network.opset = context.opsets.at("");
  network.metadata = metadata_of(model);
  OnnxBuilder builder(context, nullptr);
  builder.build(model.proto().graph());
  network.graph = builder.finish();
  graph::verify(network.graph);
  merge_declared_outputs(model.proto().graph(), network);
  return network;
}

}  // namespace packlight::import
