#include "cli/network_session.h"

#include <algorithm>

#include "base/fail.h"
#include "runtime/sampler.h"

namespace packlight::cli {
namespace {

std::vector<int64_t> dims_of(const io::NetworkValue& value,
                             const std::map<std::string, std::vector<int64_t>>& shapes) {
  const auto given = shapes.find(value.name);
  if (given != shapes.end()) return given->second;
  std::vector<int64_t> dims;
  bool known = value.shape.has_value();
  if (known) {
    for (const io::NetworkDim& dim : *value.shape) {
      known &= dim.value >= 0 || dims.empty();
      dims.push_back(dim.value >= 0 ? dim.value : 1);
    }
  }
  if (!known) {
    fail(ErrorCode::kInvalidArgument,
         "[cli] the shape of input '{}' varies: fix it (--input-shape {}=...)", value.name,
         value.name);
  }
  return dims;
}

}  // namespace

NetworkSession::NetworkSession(const std::string& path, int threads)
    : package_(io::NetworkPackage::open(path)),
      pool_(std::make_shared<base::ThreadPool>(threads)),
      engine_(package_.network(), pool_) {}

void NetworkSession::set_inputs(const std::vector<io::TensorRecord>& records) {
  inputs_.clear();
  owners_.clear();
  for (const int32_t id : network().inputs) {
    const io::NetworkValue& value = network().values[id];
    const auto given = std::ranges::find(records, value.name, &io::TensorRecord::name);
    if (given == records.end() && !value.constant) {
      fail(ErrorCode::kInvalidArgument, "[cli] input '{}' of '{}' is not given (--input {}=...)",
           value.name, package_.path().string(), value.name);
    }
    const io::TensorRecord& record = given != records.end() ? *given : value.constant->record;
    inputs_.push_back({record.dtype, record.shape,
                       const_cast<std::byte*>(record.bytes.data()),  // an engine only reads inputs
                       nullptr});
    owners_.push_back(record.owner);
  }
}

void NetworkSession::set_random_inputs(const std::map<std::string, std::vector<int64_t>>& shapes) {
  runtime::Random random(1);
  std::vector<io::TensorRecord> records;
  for (const int32_t id : network().inputs) {
    const io::NetworkValue& value = network().values[id];
    if (value.constant) continue;
    io::TensorRecord record;
    record.name = value.name;
    record.dtype = value.dtype.value_or(codec::DType::kF32);
    record.shape = dims_of(value, shapes);
    const uint64_t size =
        io::tensor_bytes(record.dtype, record.shape, value.name, package_.path().string());
    auto bytes = std::make_shared<std::vector<std::byte>>(size);
    record.bytes = *bytes;
    if (record.dtype == codec::DType::kF32) {
      auto* values = reinterpret_cast<float*>(bytes->data());
      for (uint64_t i = 0; i < size / sizeof(float); ++i)
        values[i] = static_cast<float>(random.next() >> 40) * 0x1p-23f - 1;
    }
    record.owner = std::move(bytes);
    records.push_back(std::move(record));
  }
  set_inputs(records);
}

std::vector<io::TensorRecord> NetworkSession::outputs() const {
  std::vector<io::TensorRecord> records;
  for (size_t i = 0; i < network().outputs.size(); ++i) {
    const runtime::Tensor& tensor = engine_.output(i);
    records.push_back({network().values[network().outputs[i]].name,
                       tensor.dtype,
                       tensor.dims,
                       {tensor.data, tensor.bytes()},
                       nullptr});
  }
  return records;
}

std::map<std::string, std::vector<int64_t>> NetworkSession::input_shapes() const {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (size_t i = 0; i < inputs_.size(); ++i)
    shapes[network().values[network().inputs[i]].name] = inputs_[i].dims;
  return shapes;
}

}  // namespace packlight::cli
