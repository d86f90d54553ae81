#include "deploy/compressed_tensors.h"

#include <cstring>
#include <numeric>

#include "base/fail.h"

namespace packlight::deploy {
namespace {

using codec::DType;

constexpr int kWordBits = 32;
constexpr int64_t kActivationGroup = 32;  // columns that share a scale of INT8 activations at run time

int64_t words(int64_t elements, int bits) { return (elements * bits + kWordBits - 1) / kWordBits; }

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// Unsigned fields of 4 or 8 bits side by side in 32-bit words; neither straddles a word.
class Packer {
 public:
  Packer(int64_t lines, int64_t elements, int bits)
      : words_per_line_(words(elements, bits)), bits_(bits), data_(lines * words_per_line_) {}

  void set(int64_t line, int64_t element, uint32_t field) {
    const int64_t bit = element * bits_;
    data_[line * words_per_line_ + bit / kWordBits] |= field << (bit % kWordBits);
  }
  const std::vector<uint32_t>& data() const { return data_; }

 private:
  int64_t words_per_line_;
  int bits_;
  std::vector<uint32_t> data_;
};

// Stored field of a code: compressed-tensors keeps signed codes with an offset; our asymmetric codes have it already.
uint32_t field(int code, const CompressedForm& form) {
  return static_cast<uint32_t>(form.symmetric ? code + (1 << (form.bits - 1)) : code);
}

std::vector<std::byte> pack_codes(const codec::QuantizedMatrix& m, const CompressedForm& form) {
  Packer packer(m.rows, m.cols, form.bits);
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) packer.set(r, c, field(m.codes[r * m.cols + c], form));
  }
  return bytes_of(packer.data());
}

int64_t group_count(const CompressedForm& form, int64_t cols) { return form.group_size == 0 ? 1 : cols / form.group_size; }

// The group of the matrix that column group `g` of the form lies in.
int64_t source_group(const codec::QuantizedMatrix& m, const CompressedForm& form, int64_t g) {
  return form.group_size == 0 ? 0 : g * form.group_size / m.group_size;
}

std::vector<std::byte> scales(const codec::QuantizedMatrix& m, const CompressedForm& form) {
  std::vector<uint16_t> out;
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t g = 0; g < group_count(form, m.cols); ++g) {
      out.push_back(m.scales[r * m.groups_per_row() + source_group(m, form, g)]);
    }
  }
  return bytes_of(out);
}

std::vector<std::byte> zero_points(const codec::QuantizedMatrix& m, const CompressedForm& form) {
  const int64_t groups = group_count(form, m.cols), lines = words(m.rows, form.bits);
  Packer packer(groups, m.rows, form.bits);  // packed along the rows, so a line is a group
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) packer.set(g, r, m.zeros[r * m.groups_per_row() + source_group(m, form, g)]);
  }
  std::vector<uint32_t> turned(groups * lines);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t line = 0; line < lines; ++line) turned[line * groups + g] = packer.data()[g * lines + line];
  }
  return bytes_of(turned);
}

Json group_config(const CompressedForm& form, Json targets) {
  Json weights = {{"num_bits", form.bits},
                  {"type", "int"},
                  {"symmetric", form.symmetric},
                  {"strategy", form.group_size == 0 ? "channel" : "group"},
                  {"group_size", form.group_size == 0 ? Json(nullptr) : Json(form.group_size)},
                  {"dynamic", false}};
  Json activations(nullptr);
  if (form.int8_activations) {
    activations = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"dynamic", true}};
    activations["strategy"] = form.packed ? "group" : "token";
    activations["group_size"] = form.packed ? Json(kActivationGroup) : Json(nullptr);
  }
  return {{"targets", std::move(targets)},
          {"weights", std::move(weights)},
          {"input_activations", std::move(activations)},
          {"output_activations", nullptr},
          {"format", form.packed ? "pack-quantized" : "int-quantized"}};
}

}  // namespace

CompressedForm compressed_form(int bits, bool symmetric, int64_t group_size, int64_t cols, bool int8_activations) {
  CompressedForm form{bits, symmetric, group_size >= cols ? 0 : std::gcd(group_size, cols), int8_activations, true};
  form.packed = !(bits == 8 && form.group_size == 0 && int8_activations);
  return form;
}

std::vector<CompressedPart> compressed_parts(const CompressedForm& form, int64_t rows, int64_t cols) {
  const int64_t groups = group_count(form, cols);
  if (!form.packed) return {{"weight", DType::kI8, {rows, cols}}, {"weight_scale", DType::kF16, {rows, 1}}};
  std::vector<CompressedPart> parts = {{"weight_packed", DType::kI32, {rows, words(cols, form.bits)}},
                                       {"weight_scale", DType::kF16, {rows, groups}},
                                       {"weight_shape", DType::kI64, {2}}};
  if (!form.symmetric) parts.push_back({"weight_zero_point", DType::kI32, {words(rows, form.bits), groups}});
  return parts;
}

std::vector<std::byte> compress(const codec::QuantizedMatrix& matrix, const CompressedForm& form, size_t part) {
  if (form.bits != matrix.bits || form.symmetric != matrix.symmetric()) {
    fail(ErrorCode::kInternal, "[deploy] a matrix of {} bits compressed as one of {}", matrix.bits, form.bits);
  }
  const std::string suffix = compressed_parts(form, matrix.rows, matrix.cols).at(part).suffix;
  if (suffix == "weight") return bytes_of(matrix.codes);
  if (suffix == "weight_packed") return pack_codes(matrix, form);
  if (suffix == "weight_scale") return scales(matrix, form);
  if (suffix == "weight_shape") return bytes_of(std::vector<int64_t>{matrix.rows, matrix.cols});
  return zero_points(matrix, form);
}

Json quantization_config(const std::map<std::string, CompressedForm>& forms, const std::vector<std::string>& ignored) {
  std::map<CompressedForm, std::vector<std::string>> groups;
  for (const auto& [module, form] : forms) groups[form].push_back(module);
  Json config_groups = Json::object();
  std::string format;
  for (const auto& [form, modules] : groups) {
    const Json targets = groups.size() == 1 ? Json::array({"Linear"}) : Json(modules);
    Json group = group_config(form, targets);
    const std::string group_format = group["format"].get<std::string>();
    format = format.empty() || format == group_format ? group_format : "mixed-precision";
    config_groups["group_" + std::to_string(config_groups.size())] = std::move(group);
  }
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"config_groups", std::move(config_groups)},
          {"ignore", ignored},
          {"kv_cache_scheme", nullptr},
          {"global_compression_ratio", nullptr}};
}

}  // namespace packlight::deploy
