#include "io/network.h"

#include <fmt/format.h>

namespace packlight::io {

std::string NetworkNode::label() const { return fmt::format("[runtime] node '{}' ({})", name, op); }

}  // namespace packlight::io
