#include "eval/logit_source.h"

#include "base/fail.h"

namespace packlight::eval {

void check_window(const std::filesystem::path& model, const io::DecoderConfig& config, int64_t length) {
  if (config.max_positions <= 0 || length <= config.max_positions) return;
  fail(ErrorCode::kInvalidArgument, "[eval] '{}': windows of {} tokens, but the model has {} positions", model.string(),
       length, config.max_positions);
}

}  // namespace packlight::eval
