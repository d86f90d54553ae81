#pragma once

#include <filesystem>

namespace packlight::cli {

// Before long work: that its result would not replace what it is made from. Errors: InvalidArgument.
void check_output(const std::filesystem::path& model, const std::filesystem::path& output);

}  // namespace packlight::cli
