#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"

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
void add_create(CLI::App& app);
void add_train(CLI::App& app);

// The graph of a model in its text form, for `inspect --graph`.
std::string graph_text(const std::filesystem::path& model);

// Runs an ONNX network on arrays, once. Errors: InvalidArgument for an array that no input takes.
void run_network(const std::string& model, const std::vector<std::string>& inputs, const std::string& output, bool json);

// What `inspect` says of an ONNX file, at the input shapes given ("NAME=1,3,48,320").
Json inspect_network(const std::string& path, const std::vector<std::string>& input_shapes);
void print_network(const std::string& path, const Json& inspection);
#endif

}  // namespace packlight::cli
