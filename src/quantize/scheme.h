#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/decoder_config.h"
#include "io/package.h"

namespace packlight::quantize {

// What a user asks for: "int4", "int8", "w4a8", "w8a8" or "f16" with how its columns are grouped.
//   int4, int8: weights only; w4a8, w8a8: inputs go to INT8 as they come too; f16: kept as F16, not quantized.
// group_text: "32", "64", "128" or "row". Errors: InvalidArgument naming the word, and the known ones; asymmetric
// INT8 (there is no such form).
io::WeightFormat make_format(std::string_view scheme, std::string_view group_text, bool asymmetric);

// "SCHEME[:GROUP]"; without a group, that of `body`. INT4 is asymmetric when the body is.
io::WeightFormat parse_scheme(std::string_view text, const io::WeightFormat& body);

// One rule of the form "PATTERN=SCHEME[:GROUP]". PATTERN is a glob (* ? [..]; * also matches dots) over whole tensor names.
struct Override {
  std::string pattern;
  io::WeightFormat format;
  bool operator==(const Override&) const = default;
};
Override parse_override(std::string_view text, const io::WeightFormat& body);

// The embedding and the output head when nothing is said: INT8 with the body's groups, and its treatment of activations.
io::WeightFormat default_head(const io::WeightFormat& body);

// The format of every matrix of the model, by name. `head` goes to the embedding and the output head, `body` to the
// others, then overrides in order: the last that matches wins, the head included.
// Errors: InvalidArgument for a pattern that matches no matrix (names some that exist).
std::map<std::string, io::WeightFormat> plan_formats(std::span<const io::TensorSpec> tensors, const io::WeightFormat& body,
                                                     const io::WeightFormat& head, std::span<const Override> overrides);

}  // namespace packlight::quantize
