#include "import/import.h"

#include <ATen/ATen.h>

#include "base/fail.h"
#include "graph/weight.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

graph::ElementType dense_type(codec::DType dtype) {
  switch (dtype) {
    case codec::DType::kF64:
      return graph::ElementType::kF64;
    case codec::DType::kF32:
      return graph::ElementType::kF32;
    case codec::DType::kF16:
      return graph::ElementType::kF16;
    case codec::DType::kBF16:
      return graph::ElementType::kBF16;
    default:
      return graph::ElementType::kUndefined;
  }
}

}  // namespace

at::ScalarType scalar_type_of(codec::DType dtype) {
  switch (dtype) {
    case codec::DType::kF64:
      return at::kDouble;
    case codec::DType::kF32:
      return at::kFloat;
    case codec::DType::kF16:
      return at::kHalf;
    case codec::DType::kBF16:
      return at::kBFloat16;
    case codec::DType::kI64:
      return at::kLong;
    case codec::DType::kI32:
      return at::kInt;
    case codec::DType::kI16:
      return at::kShort;
    case codec::DType::kI8:
      return at::kChar;
    case codec::DType::kU8:
      return at::kByte;
    case codec::DType::kBool:
      return at::kBool;
    default:
      fail(ErrorCode::kUnsupported, "[import] elements of type {} have no tensor type",
           codec::info(dtype).name);
  }
}

codec::DType dtype_of(at::ScalarType type) {
  for (const codec::DType dtype :
       {codec::DType::kF64, codec::DType::kF32, codec::DType::kF16, codec::DType::kBF16, codec::DType::kI64, codec::DType::kI32,
        codec::DType::kI16, codec::DType::kI8, codec::DType::kU8, codec::DType::kBool}) {
    if (scalar_type_of(dtype) == type) return dtype;
  }
  fail(ErrorCode::kUnsupported, "[import] tensors of {} cannot be stored", c10::toString(type));
}

at::Tensor tensor_view(const io::TensorRecord& record) {
  // LibTorch has no read-only tensors; nothing writes to a weight in place (the map would fault).
  auto* data = const_cast<std::byte*>(record.bytes.data());
  static std::byte nothing[8];
  if (record.bytes.empty()) data = nothing;
  return at::from_blob(
      data, record.shape, [owner = record.owner](void*) {}, scalar_type_of(record.dtype));
}

graph::Weight as_weight(const std::filesystem::path& path, const io::TensorRecord& record) {
  if (codec::is_ggml_block(record.dtype)) return record.encoded();
  const graph::ElementType type = dense_type(record.dtype);
  if (type == graph::ElementType::kUndefined) {
    fail(ErrorCode::kUnsupported,
         "[import] '{}': tensor '{}' is stored as {}, which is no type for weights", path.string(),
         record.name, codec::info(record.dtype).name);
  }
  return tensor_view(record);
}

void mark_int8_inputs(graph::Graph& graph,
                      const std::function<bool(std::string_view tensor)>& wanted) {
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(graph.nodes().size()); ++id) {
    const auto weight = graph::linear_weight(graph, graph.node(id));
    if (!weight || !wanted(graph.value(weight->value).name)) continue;
    graph.node(id).input_quant = graph::ActivationQuant::kInt8PerToken32;
  }
}

namespace {

LanguageModel load(const std::filesystem::path& path) {
  switch (io::detect_model_kind(path)) {
    case io::ModelKind::kGguf:
      return load_gguf(path);
    case io::ModelKind::kHfFolder:
      return load_hf_folder(path);
    case io::ModelKind::kPackage:
      return load_package(path);
    case io::ModelKind::kNetworkPackage:
    case io::ModelKind::kOnnx:
      break;
  }
  fail(ErrorCode::kUnsupported,
       "[import] '{}' is a network, not a language model: those are GGUF files, Hugging Face "
       "folders and their packages",
       path.string());
}

}  // namespace

LanguageModel load_language_model(const std::filesystem::path& path) {
  LanguageModel model = load(path);
  model.graph.origin = path.string();
  return model;
}

}  // namespace packlight::import
