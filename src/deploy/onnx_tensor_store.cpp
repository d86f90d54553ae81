#include "deploy/onnx_tensor_store.h"

namespace packlight::deploy {
namespace {

// Small tensors (axes, shapes, scalars) stay in the message, where shape inference looks for them.
constexpr size_t kSmallBytes = 1024;
// Readers map the data file: pages for what is worth a page, lines of a cache for the rest.
constexpr size_t kPage = 4096, kLine = 64, kWorthAPage = 16 * kPage;

void add_entry(onnx::TensorProto& tensor, const char* key, std::string value) {
  auto* entry = tensor.add_external_data();
  entry->set_key(key);
  entry->set_value(std::move(value));
}

}  // namespace

void OnnxTensorStore::add(onnx::GraphProto& graph, const std::string& name, int data_type,
                          const std::vector<int64_t>& dims, std::span<const std::byte> bytes) {
  onnx::TensorProto& tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(data_type);
  for (const int64_t dim : dims) tensor.add_dims(dim);
  if (data_ == nullptr || bytes.size() < kSmallBytes) {
    tensor.set_raw_data(bytes.data(), bytes.size());
    return;
  }
  const size_t alignment = bytes.size() >= kWorthAPage ? kPage : kLine;
  data_->write_zeros((alignment - data_->size_bytes() % alignment) % alignment);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  add_entry(tensor, "location", location_);
  add_entry(tensor, "offset", std::to_string(data_->size_bytes()));
  add_entry(tensor, "length", std::to_string(bytes.size()));
  data_->write(bytes);
}

}  // namespace packlight::deploy
