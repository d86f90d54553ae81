// Weights as initializers: dense ones in their dtype, encoded matrices in the form asked for.
#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "codec/half.h"
#include "codec/tile.h"
#include "deploy/onnx_scope.h"
#include "deploy/weight_view.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

using codec::DType;

// Below it the Cast that a 16-bit weight needs takes more bytes than it saves.
constexpr size_t kWorthACast = 512;
constexpr int64_t kSmallestBlock = 16, kLargestBlock = 256;  // of MatMulNBits

// Two codes a byte, the first in the low half.
std::vector<uint8_t> pairs(std::span<const uint8_t> codes) {
  std::vector<uint8_t> out((codes.size() + 1) / 2, 0);
  for (size_t i = 0; i < codes.size(); ++i)
    out[i / 2] |= static_cast<uint8_t>((codes[i] & 15) << (i % 2 * 4));
  return out;
}

// Codes of 8 bits that are written as 4: the others would be cut off.
void check_4bit(const at::Tensor& codes, const std::string& name) {
  const int low = codes.scalar_type() == at::kChar ? -8 : 0, high = low + 15;
  const at::Tensor wide = codes.to(at::kInt);
  if (at::logical_or(wide.lt(low), wide.gt(high)).any().item<bool>()) {
    fail(ErrorCode::kInvalidArgument,
         "[export.onnx] tensor '{}': codes from {} to {}, which is not within the 4 bits [{}, {}] "
         "that its DequantizeLinear says",
         name, wide.min().item<int>(), wide.max().item<int>(), low, high);
  }
}

// MatMulNBits keeps codes unsigned, around 2^(bits - 1) when symmetric.
uint8_t unsigned_code(const codec::QuantizedMatrix& m, int64_t index) {
  return static_cast<uint8_t>(m.codes[index] + (m.symmetric() ? 1 << (m.bits - 1) : 0));
}

// The largest power of two that divides every boundary between groups, so that a block has one
// scale; nothing when it is too small.
std::optional<int64_t> block_size_of(const codec::EncodedTensor& tensor) {
  const bool whole_row = tensor.group_size >= tensor.cols;  // no boundaries
  const auto least = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(tensor.cols)));
  const int64_t block =
      whole_row ? std::max(kSmallestBlock, least) : tensor.group_size & -tensor.group_size;
  if (block < kSmallestBlock) return std::nullopt;
  return std::min(block, kLargestBlock);
}

std::vector<float> f32_scales(const codec::QuantizedMatrix& m) {
  std::vector<float> scales;
  scales.reserve(m.scales.size());
  for (const uint16_t scale : m.scales) scales.push_back(codec::f16_to_f32(scale));
  return scales;
}

// A matrix as MatMulNBits takes it: [rows, blocks, bytes of a block], the last block of a row
// filled up.
struct Blocks {
  std::vector<uint8_t> codes, zero_points;
  std::vector<float> scales;
  int64_t count = 0, bytes = 0;
};

Blocks make_blocks(const codec::QuantizedMatrix& m, int64_t block_size) {
  Blocks out;
  out.count = (m.cols + block_size - 1) / block_size;
  out.bytes = block_size * m.bits / 8;
  const std::vector<float> scales = f32_scales(m);
  std::vector<uint8_t> row, zeros;
  for (int64_t r = 0; r < m.rows; ++r) {
    row.assign(out.count * block_size, m.symmetric() ? 1 << (m.bits - 1) : 0);
    for (int64_t c = 0; c < m.cols; ++c) row[c] = unsigned_code(m, r * m.cols + c);
    zeros.clear();
    for (int64_t b = 0; b < out.count; ++b) {
      const int64_t group = r * m.groups_per_row() + b * block_size / m.group_size;
      out.scales.push_back(scales[group]);
      if (!m.symmetric()) zeros.push_back(m.zeros[group]);
    }
    if (m.bits == 4) {
      row = pairs(row);
      zeros = pairs(zeros);
    }
    out.codes.insert(out.codes.end(), row.begin(), row.end());
    out.zero_points.insert(out.zero_points.end(), zeros.begin(), zeros.end());
  }
  return out;
}

bool is_packed_tile(const codec::EncodedTensor& tensor) {
  const bool tile =
      tensor.dtype == DType::kTileInt4 || (tensor.dtype == DType::kTileInt8 && tensor.symmetric());
  return tile && tensor.rotary_interleaved_heads == 0;
}

// The weight whose codes a linear node can multiply by; nothing otherwise.
graph::ValueId packed_weight(const graph::Graph& graph, const graph::Node& node) {
  const auto linear = graph::linear_weight(graph, node);
  if (!linear || !linear->transposed || node.input_quant != graph::ActivationQuant::kNone)
    return graph::kNone;
  const auto* tensor = std::get_if<codec::EncodedTensor>(&*graph.value(linear->value).weight);
  if (tensor == nullptr || !is_packed_tile(*tensor)) return graph::kNone;
  const auto& x = graph.value(node.inputs[0]).shape;
  if (node.integer("transA", 0) != 0 || (x && x->size() < 2)) return graph::kNone;
  return linear->value;
}

template <class T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

const void* address(const graph::Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight)) return tensor->data_ptr();
  return std::get<codec::EncodedTensor>(weight).data.data();
}

bool same_weight(const graph::Weight& a, const graph::Weight& b) {
  if (a.index() != b.index() || address(a) != address(b)) return false;
  if (const auto* left = std::get_if<at::Tensor>(&a)) {
    const auto& right = std::get<at::Tensor>(b);
    return left->scalar_type() == right.scalar_type() && left->sizes() == right.sizes() &&
           left->strides() == right.strides();
  }
  const auto &left = std::get<codec::EncodedTensor>(a), &right = std::get<codec::EncodedTensor>(b);
  return left.dtype == right.dtype && left.rows == right.rows && left.cols == right.cols &&
         left.scales.data() == right.scales.data() && left.zeros.data() == right.zeros.data() &&
         left.rotary_interleaved_heads == right.rotary_interleaved_heads;
}

}  // namespace

bool OnnxScope::packs(const graph::Node& node) const {
  return model_.options.weights == OnnxWeights::kNBits &&
         packed_weight(graph_, node) != graph::kNone;
}

// Which transposes nobody needs once linear nodes multiply by packed codes.
void OnnxScope::plan_packed() {
  if (model_.options.weights != OnnxWeights::kNBits) return;
  std::unordered_set<graph::ValueId> wanted(graph_.outputs.begin(), graph_.outputs.end());
  std::unordered_set<graph::ValueId> factors;
  for (const graph::Node& node : graph_.nodes()) {
    const bool packed = packs(node);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      (packed && i == 1 ? factors : wanted).insert(node.inputs[i]);
  }
  for (const graph::ValueId id : factors) {
    const graph::NodeId producer = graph_.value(id).producer;
    if (producer >= 0 && wanted.count(id) == 0) unneeded_.insert(producer);
  }
}

// Codes and zero points that only DequantizeLinear nodes of at most 4 bits take.
void OnnxScope::plan_4bit() {
  std::unordered_set<graph::ValueId> wide(graph_.outputs.begin(), graph_.outputs.end());
  wide.insert(graph_.inputs.begin(), graph_.inputs.end());
  const auto parts = [](const graph::Node& node) {
    std::vector<graph::ValueId> ids = {node.inputs[0]};
    if (node.inputs.size() > 2 && node.inputs[2] != graph::kNone) ids.push_back(node.inputs[2]);
    return ids;
  };
  std::vector<const graph::Node*> narrow;
  for (const graph::Node& node : graph_.nodes()) {
    const bool candidate = is_narrow(node) && node.integer("bits", 8) <= 4;
    if (candidate) narrow.push_back(&node);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (!candidate || i == 1) wide.insert(node.inputs[i]);
  }
  for (bool changed = true; changed;) {  // a zero point has the type of its codes
    changed = false;
    for (const graph::Node* node : narrow) {
      const auto ids = parts(*node);
      const bool all = std::all_of(ids.begin(), ids.end(), [&](graph::ValueId id) {
        return wide.count(id) == 0 && graph_.value(id).weight &&
               std::holds_alternative<at::Tensor>(*graph_.value(id).weight);
      });
      for (const graph::ValueId id : ids) changed = (!all && wide.insert(id).second) || changed;
    }
  }
  for (const graph::Node* node : narrow) {
    for (const graph::ValueId id : parts(*node))
      if (wide.count(id) == 0) four_bit_.insert(id);
  }
}

void OnnxScope::write_packed_linear(const graph::Node& node) {
  const graph::ValueId id = packed_weight(graph_, node);
  const auto shape = graph::weight_shape(*graph_.value(id).weight);
  const Packed& packed = write_packed(id);
  OnnxNode out;
  out.name = node.name;
  out.op = "MatMulNBits";
  out.domain = "com.microsoft";
  out.inputs = {use(node.inputs[0]), packed.codes, packed.scales, packed.zero_points};
  out.attributes = {{"N", shape[0]},
                    {"K", shape[1]},
                    {"bits", int64_t{packed.bits}},
                    {"block_size", packed.block_size}};
  const double alpha = node.op == "Gemm" ? node.number("alpha", 1) : 1;
  const double beta = node.op == "Gemm" ? node.number("beta", 1) : 1;
  const bool added = node.inputs.size() > 2 && node.inputs[2] != graph::kNone;
  const std::string last = names_[node.outputs.at(0)];
  const auto then = [&](const char* op, const std::string& x, const std::string& y, bool final) {
    OnnxNode next;
    next.op = op;
    next.name = fresh(node.name + "/" + op);
    next.inputs = {x, y};
    next.outputs = {final ? last : fresh(node.name + "/" + op + ".out")};
    const std::string made = next.outputs[0];
    emit(std::move(next));
    return made;
  };
  const bool scaled = alpha != 1;
  std::string made = scaled || added ? fresh(node.name + "/MatMulNBits.out") : last;
  out.outputs = {made};
  emit_as_is(std::move(out));
  if (scaled) made = then("Mul", made, number(alpha), !added);
  if (!added) return;
  std::string bias = use(node.inputs[2]);
  if (beta != 1) bias = then("Mul", bias, number(beta), false);
  then("Add", made, bias, true);
}

const OnnxScope::Packed& OnnxScope::write_packed(graph::ValueId id) {
  if (const auto it = packed_.find(id); it != packed_.end()) return it->second;
  const graph::Value& value = graph_.value(id);
  const auto& tensor = std::get<codec::EncodedTensor>(*value.weight);
  const auto block_size = block_size_of(tensor);
  if (!block_size) {
    fail(ErrorCode::kUnsupported,
         "[export.onnx] tensor '{}': MatMulNBits has blocks of {} to {} columns (a power of two), "
         "which do not fit groups of {}; 'qdq' and 'dequantize' would do",
         value.name, kSmallestBlock, kLargestBlock, tensor.group_size);
  }
  const codec::QuantizedMatrix matrix = codec::unpack(tensor);
  const Blocks blocks = make_blocks(matrix, *block_size);
  Packed& packed = packed_[id];
  packed.bits = matrix.bits;
  packed.block_size = *block_size;
  packed.codes = fresh(names_[id] + ".codes");
  packed.scales = fresh(names_[id] + ".scales");
  model_.store.add(proto_, packed.codes, onnx::TensorProto::UINT8,
                   {matrix.rows, blocks.count, blocks.bytes}, bytes(blocks.codes));
  model_.store.add(proto_, packed.scales, onnx::TensorProto::FLOAT,
                   {static_cast<int64_t>(blocks.scales.size())}, bytes(blocks.scales));
  if (!matrix.symmetric()) {
    packed.zero_points = fresh(names_[id] + ".zero_points");
    model_.store.add(proto_, packed.zero_points, onnx::TensorProto::UINT8,
                     {static_cast<int64_t>(blocks.zero_points.size())}, bytes(blocks.zero_points));
  }
  return packed;
}

std::string OnnxScope::use(graph::ValueId id) {
  const graph::Value& value = graph_.value(id);
  if (!value.weight) return names_[id];
  const auto it = written_.find(id);
  if (it != written_.end()) return it->second;
  const auto outside = same_weight_outside(*value.weight);
  const std::string name = outside ? *outside : write_weight(id);
  if (name != names_[id]) constants_[name] = facts(names_[id]);
  return written_[id] = name;
}

// A weight that a subgraph shares with a graph around it is written there.
std::optional<std::string> OnnxScope::same_weight_outside(const graph::Weight& weight) {
  if (outer_ == nullptr) return std::nullopt;
  for (graph::ValueId id = 0; id < static_cast<graph::ValueId>(outer_->names_.size()); ++id) {
    const auto& other = outer_->graph_.value(id).weight;
    if (other && same_weight(weight, *other)) return outer_->use(id);
  }
  return outer_->same_weight_outside(weight);
}

bool OnnxScope::is_boundary(graph::ValueId id) const {
  const auto holds = [id](const std::vector<graph::ValueId>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return holds(graph_.outputs) || holds(graph_.inputs);
}

std::string OnnxScope::write_weight(graph::ValueId id) {
  const graph::Value& value = graph_.value(id);
  if (four_bit_.count(id) != 0) {
    const at::Tensor tensor = std::get<at::Tensor>(*value.weight).contiguous();
    check_4bit(tensor, value.name);
    const auto* codes = static_cast<const uint8_t*>(tensor.data_ptr());
    model_.store.add(proto_, names_[id],
                     tensor.scalar_type() == at::kChar ? kOnnxInt4 : kOnnxUint4,
                     tensor.sizes().vec(),
                     bytes(pairs({codes, static_cast<size_t>(tensor.numel())})));
    return names_[id];
  }
  if (const auto* tensor = std::get_if<codec::EncodedTensor>(&*value.weight))
    return write_encoded(id, *tensor);
  // An output, or a default of an input, is what it is called, and F32.
  return write_dense(names_[id], std::get<at::Tensor>(*value.weight), is_boundary(id));
}

std::string OnnxScope::write_dense(const std::string& name, const at::Tensor& tensor, bool as_f32) {
  const bool half = tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
  const bool cast = half && !as_f32 && tensor.nbytes() >= kWorthACast;
  const bool wide = at::isFloatingType(tensor.scalar_type()) && !cast;
  const at::Tensor dense = (wide ? tensor.detach().to(at::kFloat) : tensor.detach()).contiguous();
  model_.store.add(
      proto_, name,
      static_cast<int>(graph::to_onnx_type(graph::from_scalar_type(dense.scalar_type()))),
      dense.sizes().vec(), {static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()});
  return cast ? cast_to_f32(name) : name;
}

std::string OnnxScope::cast_to_f32(const std::string& name) {
  OnnxNode node;
  node.op = "Cast";
  node.name = name + "/Cast";
  node.inputs = {name};
  node.outputs = {fresh(name + ".f32")};
  node.attributes["to"] = int64_t{onnx::TensorProto::FLOAT};
  const std::string made = node.outputs[0];
  emit_first_ = true;
  emit_as_is(std::move(node));
  emit_first_ = false;
  return made;
}

std::string OnnxScope::write_encoded(graph::ValueId id, const codec::EncodedTensor& tensor) {
  const std::string& name = names_[id];
  if (is_packed_tile(tensor) && !is_boundary(id)) {
    if (model_.options.weights == OnnxWeights::kQdq) return write_dequantized(name, tensor);
    if (model_.options.weights == OnnxWeights::kNBits) {
      model_.report.notices.push_back(fmt::format(
          "tensor '{}' is not only multiplied by, as MatMulNBits does: written as F32", name));
    }
  }
  const std::vector<int64_t> dims = {tensor.rows, tensor.cols};
  if (tensor.dtype == DType::kTileF16 && !is_boundary(id)) {
    model_.store.add(proto_, name, onnx::TensorProto::FLOAT16, dims, f16_tile_rows(tensor));
    return cast_to_f32(name);
  }
  const bool half = tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16;
  if (half && tensor.rotary_interleaved_heads == 0 && !is_boundary(id)) {
    model_.store.add(
        proto_, name,
        tensor.dtype == DType::kF16 ? onnx::TensorProto::FLOAT16 : onnx::TensorProto::BFLOAT16,
        dims, tensor.data);
    return cast_to_f32(name);
  }
  const codec::EncodedTensor decoded = to_f32(tensor, name);
  model_.store.add(proto_, name, onnx::TensorProto::FLOAT, dims, decoded.data);
  return name;
}

// Codes, scales and zero points of a DequantizeLinear: by row, or (opset 21) by blocks of columns.
std::string OnnxScope::write_dequantized(const std::string& name,
                                         const codec::EncodedTensor& tensor) {
  const codec::QuantizedMatrix m = codec::unpack(tensor);
  const bool by_row = m.groups_per_row() == 1;
  std::vector<uint8_t> codes(m.codes.size());
  std::transform(m.codes.begin(), m.codes.end(), codes.begin(),
                 [](int8_t code) { return static_cast<uint8_t>(code); });
  int type = onnx::TensorProto::INT8;
  if (m.bits == 4) {
    codes = pairs(codes);
    type = m.symmetric() ? kOnnxInt4 : kOnnxUint4;
  }
  model_.store.add(proto_, name, type, {m.rows, m.cols}, bytes(codes));
  std::vector<int64_t> dims = {m.rows};
  if (!by_row) dims.push_back(m.groups_per_row());
  OnnxNode node;
  node.op = "DequantizeLinear";
  node.name = name + "/DequantizeLinear";
  node.inputs = {name, fresh(name + ".scales")};
  model_.store.add(proto_, node.inputs[1], onnx::TensorProto::FLOAT, dims, bytes(f32_scales(m)));
  if (!m.symmetric()) {
    node.inputs.push_back(fresh(name + ".zero_points"));
    model_.store.add(proto_, node.inputs[2], type, dims, bytes(pairs(m.zeros)));
  }
  node.outputs = {fresh(name + ".f32")};
  node.attributes["axis"] = int64_t{by_row ? 0 : 1};
  if (!by_row) node.attributes["block_size"] = m.group_size;
  const std::string made = node.outputs[0];
  emit_first_ = true;
  emit_as_is(std::move(node));
  emit_first_ = false;
  return made;
}

}  // namespace packlight::deploy
