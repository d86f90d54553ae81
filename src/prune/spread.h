#pragma once

#include <string_view>

namespace packlight::prune {

// How a share of weights is spread over the layers of a model.
enum class Spread {
  kUniform,  // every matrix loses the same share
};

}  // namespace packlight::prune
