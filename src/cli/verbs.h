#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>

namespace packlight::cli {

// Each verb adds its subcommand with flags, help and examples, and runs in the subcommand's callback. Results go to
// standard output, progress and remarks to standard error; failures are thrown as packlight::Error.
void add_run(CLI::App& app);
void add_bench(CLI::App& app);
void add_inspect(CLI::App& app);
#ifndef PACKLIGHT_RUNTIME_ONLY
void add_quantize(CLI::App& app);
void add_eval(CLI::App& app);
void add_export(CLI::App& app);
void add_verify(CLI::App& app);

// The graph of a model in its text form, for `inspect --graph`.
std::string graph_text(const std::filesystem::path& model);
#endif

}  // namespace packlight::cli
