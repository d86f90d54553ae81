#pragma once

#include "import/import.h"

namespace packlight::prune {

// Makes the configuration of a language model say what its weights are now: width, heads, KV heads and
// FFN size of each layer, and the norms' epsilon. Errors: Internal where they contradict each other.
void follow_weights(import::LanguageModel& model);

}  // namespace packlight::prune
