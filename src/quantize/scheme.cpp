#include "quantize/scheme.h"

#include <fnmatch.h>

#include <array>

#include "base/fail.h"

namespace packlight::quantize {
namespace {

using codec::DType;

struct NamedScheme {
  std::string_view name;
  DType dtype;
  bool int8_activations;
};
constexpr std::array<NamedScheme, 5> kSchemes{{{"int4", DType::kTileInt4, false},
                                               {"int8", DType::kTileInt8, false},
                                               {"w4a8", DType::kTileInt4, true},
                                               {"w8a8", DType::kTileInt8, true},
                                               {"f16", DType::kTileF16, false}}};

int64_t parse_group(std::string_view text) {
  if (text == "row") return 0;
  for (const int64_t size : {32, 64, 128}) {
    if (text == std::to_string(size)) return size;
  }
  fail(ErrorCode::kInvalidArgument, "[quantize] group size '{}': it must be 32, 64, 128 or row", text);
}

bool is_edge(const io::TensorSpec& tensor) { return tensor.block == "embed" || tensor.block == "head"; }

}  // namespace

io::WeightFormat make_format(std::string_view scheme, std::string_view group_text, bool asymmetric) {
  for (const NamedScheme& known : kSchemes) {
    if (known.name != scheme) continue;
    if (asymmetric && known.dtype != DType::kTileInt4) {
      fail(ErrorCode::kInvalidArgument, "[quantize] scheme '{}' has no asymmetric form: zero points exist for int4 and w4a8",
           scheme);
    }
    io::WeightFormat format;
    format.dtype = known.dtype;
    format.group_size = known.dtype == DType::kTileF16 ? 0 : parse_group(group_text);
    format.symmetric = !asymmetric;
    format.int8_activations = known.int8_activations;
    return format;
  }
  fail(ErrorCode::kInvalidArgument, "[quantize] unknown scheme '{}': it must be int4, int8, w4a8, w8a8 or f16", scheme);
}

io::WeightFormat parse_scheme(std::string_view text, const io::WeightFormat& body) {
  const size_t colon = text.find(':');
  const std::string_view scheme = text.substr(0, colon);
  const std::string group = colon != std::string_view::npos ? std::string(text.substr(colon + 1))
                            : body.group_size == 0          ? "row"
                                                            : std::to_string(body.group_size);
  if (scheme == "f16" && colon != std::string_view::npos) {
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': f16 has no groups", text);
  }
  const bool int4 = scheme == "int4" || scheme == "w4a8";
  return make_format(scheme, group, int4 && !body.symmetric);
}

Override parse_override(std::string_view text, const io::WeightFormat& body) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) {
    fail(ErrorCode::kInvalidArgument, "[quantize] override '{}': it must have the form PATTERN=SCHEME[:GROUP]", text);
  }
  return {std::string(text.substr(0, equals)), parse_scheme(text.substr(equals + 1), body)};
}

io::WeightFormat default_head(const io::WeightFormat& body) {
  io::WeightFormat head = body;
  head.dtype = DType::kTileInt8;
  head.symmetric = true;
  return head;
}

std::map<std::string, io::WeightFormat> plan_formats(std::span<const io::TensorSpec> tensors, const io::WeightFormat& body,
                                                     const io::WeightFormat& head, std::span<const Override> overrides) {
  std::map<std::string, io::WeightFormat> plan;
  std::string examples;
  for (const io::TensorSpec& tensor : tensors) {
    if (tensor.is_vector) continue;
    plan[tensor.name] = is_edge(tensor) ? head : body;
    if (plan.size() <= 3) examples += (plan.size() > 1 ? ", " : "") + tensor.name;
  }
  for (const Override& rule : overrides) {
    bool matched = false;
    for (auto& [name, format] : plan) {
      if (fnmatch(rule.pattern.c_str(), name.c_str(), 0) != 0) continue;
      format = rule.format;
      matched = true;
    }
    if (!matched) {
      fail(ErrorCode::kInvalidArgument, "[quantize] override pattern '{}' matches no weight matrix; names look like {}",
           rule.pattern, examples);
    }
  }
  return plan;
}

}  // namespace packlight::quantize
