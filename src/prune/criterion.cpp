#include "prune/criterion.h"

#include <fmt/format.h>

#include "base/fail.h"

namespace packlight::prune {

const std::vector<std::string>& criterion_names() {
  static const std::vector<std::string> names = {"magnitude", "wanda", "obs", "random"};
  return names;
}

std::unique_ptr<Criterion> make_criterion(std::string_view name, uint64_t seed) {
  if (name == "magnitude") return magnitude();
  if (name == "wanda") return wanda();
  if (name == "obs") return obs_saliency();
  if (name == "random") return random_choice(seed);
  fail(ErrorCode::kInvalidArgument, "[prune] criterion '{}': there are {}", name, fmt::join(criterion_names(), ", "));
}

}  // namespace packlight::prune
