#include "io/compressed_tensors.h"

#include <fmt/format.h>
#include <cstring>

#include "base/fail.h"
#include "codec/half.h"
#include "codec/tile.h"

namespace packlight::io {
namespace {

using codec::DType;

constexpr int64_t kWordBits = 32;
constexpr int64_t kSizeLimit = int64_t{1} << 31;  // rows and columns; products then fit 63 bits

template <class T>
T element(const TensorRecord& record, int64_t index) {
  T value;
  std::memcpy(&value, record.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

float scale_at(const TensorRecord& record, int64_t index) {
  switch (record.dtype) {
    case DType::kF16:
      return codec::f16_to_f32(element<uint16_t>(record, index));
    case DType::kBF16:
      return codec::bf16_to_f32(element<uint16_t>(record, index));
    default:
      return element<float>(record, index);
  }
}

std::string shape_text(const TensorRecord& record) {
  return fmt::format("[{}]", fmt::join(record.shape, ", "));
}

// One module's parts, checked against each other, and its codes and zero points as unsigned fields.
class Module {
 public:
  Module(const CompressedScheme& scheme, std::string_view name) : scheme_(scheme), name_(name) {}

  void read_codes(const TensorRecord& codes, const TensorRecord* shape) {
    require(codes.shape.size() == 2, codes, "must have two dimensions");
    rows_ = codes.shape[0];
    cols_ = codes.shape[1];
    const bool packed = shape != nullptr;
    if (packed) {
      const bool wide = shape->dtype == DType::kI64;
      require((wide || shape->dtype == DType::kI32) && shape->elements() == 2, *shape,
              "must be two integers");
      rows_ = wide ? element<int64_t>(*shape, 0) : element<int32_t>(*shape, 0);
      cols_ = wide ? element<int64_t>(*shape, 1) : element<int32_t>(*shape, 1);
    }
    require(rows_ > 0 && cols_ > 0 && rows_ < kSizeLimit && cols_ < kSizeLimit,
            packed ? *shape : codes, "is no size of a matrix");
    if (packed) {
      require(codes.dtype == DType::kI32, codes, "must be I32");
      require(codes.shape[0] == rows_ && codes.shape[1] == words(cols_), codes,
              "contradicts weight_shape");
    } else {
      require(codes.dtype == DType::kI8 && scheme_.bits == 8, codes, "must hold INT8 codes");
    }
    fields_.resize(rows_ * cols_);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        fields_[r * cols_ + c] = packed ? packed_field(codes, r * codes.shape[1], 1, c)
                                        : signed_field(codes, r * cols_ + c);
      }
    }
  }

  void read_scales(const TensorRecord& scales) {
    const DType type = scales.dtype;
    require(type == DType::kF16 || type == DType::kBF16 || type == DType::kF32, scales,
            "must be F16, BF16 or F32");
    group_ = scheme_.group_size == 0 ? cols_ : std::min(scheme_.group_size, cols_);
    groups_ = (cols_ + group_ - 1) / group_;
    const bool one_for_all = scheme_.group_size == 0 && scales.elements() == 1;
    require(one_for_all || scales.elements() == rows_ * groups_, scales,
            "does not fit rows and groups");
    scales_.resize(rows_ * groups_);
    for (int64_t i = 0; i < rows_ * groups_; ++i)
      scales_[i] = scale_at(scales, one_for_all ? 0 : i);
  }

  // Absent: symmetric, every zero point in the middle of the range.
  void read_zeros(const TensorRecord* zeros) {
    if (zeros == nullptr) return;
    zeros_.resize(rows_ * groups_);
    const bool packed = zeros->dtype == DType::kI32;
    if (packed) {
      require(
          zeros->shape.size() == 2 && zeros->shape[0] == words(rows_) && zeros->shape[1] == groups_,
          *zeros, "does not fit rows and groups");
    } else {
      require(zeros->dtype == DType::kI8, *zeros, "must be I8, or I32 words");
      require(zeros->elements() == rows_ * groups_, *zeros, "does not fit rows and groups");
    }
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t at = r * groups_ + g;
        zeros_[at] = packed ? packed_field(*zeros, g, groups_, r) : signed_field(*zeros, at);
      }
    }
  }

  codec::EncodedTensor tensor() const {
    codec::QuantizedMatrix m{rows_, cols_, scheme_.bits, group_, {}, {}, {}};
    if (!as_matrix(m)) return dense();
    return codec::pack(m);
  }

 private:
  void require(bool good, const TensorRecord& record, std::string_view rule) const {
    if (good) return;
    fail(ErrorCode::kCorrupt, "[hf] module '{}': tensor '{}' {} {} {}", name_, record.name,
         codec::info(record.dtype).name, shape_text(record), rule);
  }

  int64_t words(int64_t elements) const {
    return (elements * scheme_.bits + kWordBits - 1) / kWordBits;
  }
  int middle() const { return 1 << (scheme_.bits - 1); }

  // Field `index` of a line of words that starts at `start` and goes on every `stride` words.
  uint8_t packed_field(const TensorRecord& record, int64_t start, int64_t stride,
                       int64_t index) const {
    const int64_t bit = index * scheme_.bits;
    const auto word = element<uint32_t>(record, start + bit / kWordBits * stride);
    return static_cast<uint8_t>((word >> (bit % kWordBits)) & ((1u << scheme_.bits) - 1));
  }
  uint8_t signed_field(const TensorRecord& record, int64_t index) const {
    const int value = element<int8_t>(record, index);
    require(value >= -middle() && value < middle(), record, "has a value out of range");
    return static_cast<uint8_t>(value + middle());
  }

  bool as_matrix(codec::QuantizedMatrix& m) const {
    const bool symmetric = zeros_.empty();
    if (group_ != cols_ && group_ % codec::kColumnAlign != 0) return false;
    if (scheme_.bits == 8 && !symmetric) return false;
    for (const float scale : scales_) {
      m.scales.push_back(codec::f32_to_f16(scale));
      if (codec::f16_to_f32(m.scales.back()) != scale) return false;
    }
    m.codes.resize(fields_.size());
    for (size_t i = 0; i < fields_.size(); ++i) {
      const int code = symmetric ? fields_[i] - middle() : fields_[i];
      if (code == -128) return false;
      m.codes[i] = static_cast<int8_t>(code);
    }
    m.zeros = zeros_;
    return true;
  }

  codec::EncodedTensor dense() const {
    auto values = std::make_shared<std::vector<float>>(fields_.size());
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        const int64_t g = r * groups_ + c / group_;
        const int zero = zeros_.empty() ? middle() : zeros_[g];
        (*values)[r * cols_ + c] = static_cast<float>(fields_[r * cols_ + c] - zero) * scales_[g];
      }
    }
    codec::EncodedTensor tensor;
    tensor.dtype = DType::kF32;
    tensor.rows = rows_;
    tensor.cols = cols_;
    tensor.data = std::as_bytes(std::span(*values));
    tensor.owner = values;
    return tensor;
  }

  const CompressedScheme& scheme_;
  std::string_view name_;
  int64_t rows_ = 0, cols_ = 0, group_ = 0, groups_ = 0;
  std::vector<uint8_t> fields_, zeros_;
  std::vector<float> scales_;
};

}  // namespace

const TensorRecord* CompressedTensors::part(std::string_view module,
                                            std::string_view suffix) const {
  return folder_.find(fmt::format("{}.{}", module, suffix));
}

bool CompressedTensors::contains(std::string_view module) const {
  return part(module, "weight_packed") != nullptr ||
         (part(module, "weight") != nullptr && part(module, "weight_scale") != nullptr);
}

std::vector<std::string> CompressedTensors::tensor_names(std::string_view module) const {
  std::vector<std::string> names;
  for (const char* suffix :
       {"weight_packed", "weight", "weight_scale", "weight_shape", "weight_zero_point"}) {
    if (const TensorRecord* record = part(module, suffix)) names.push_back(record->name);
  }
  return names;
}

codec::EncodedTensor CompressedTensors::weight(std::string_view module) const {
  const CompressedScheme& form = scheme(module);
  if (part(module, "weight_g_idx") != nullptr) {
    fail(ErrorCode::kUnsupported,
         "[hf] module '{}': columns in activation order (weight_g_idx) are not read", module);
  }
  const TensorRecord* packed = part(module, "weight_packed");
  const TensorRecord* codes = packed != nullptr ? packed : part(module, "weight");
  const TensorRecord* shape = packed != nullptr ? part(module, "weight_shape") : nullptr;
  const TensorRecord* scales = part(module, "weight_scale");
  const TensorRecord* zeros = part(module, "weight_zero_point");
  const auto lacks = [&](const char* suffix) {
    fail(ErrorCode::kCorrupt, "[hf] module '{}': tensor '{}.{}' is missing", module, module,
         suffix);
  };
  if (codes == nullptr) lacks("weight_packed");
  if (packed != nullptr && shape == nullptr) lacks("weight_shape");
  if (scales == nullptr) lacks("weight_scale");
  if (zeros == nullptr && !form.symmetric) lacks("weight_zero_point");
  Module parts(form, module);
  parts.read_codes(*codes, shape);
  parts.read_scales(*scales);
  parts.read_zeros(zeros);
  return parts.tensor();
}

}  // namespace packlight::io
