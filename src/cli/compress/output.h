#pragma once

#include <filesystem>

namespace packlight::cli {

// Before long work: that its result would not replace what it is made from, and has a folder to go
// to. Errors: InvalidArgument; those of check_output_folder().
void check_output(const std::filesystem::path& model, const std::filesystem::path& output);

// Errors: NotFound when the folder that `output` would be in is not there; Io when it may not be
// written to.
void check_output_folder(const std::filesystem::path& output);

}  // namespace packlight::cli
