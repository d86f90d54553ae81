#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/network_arrays.h"

namespace packlight::cli {

// Each verb adds its subcommand with flags, help and examples, and runs in the subcommand's
// callback. Results go to standard output, progress and remarks to standard error; failures are
// thrown as packlight::Error.
void add_run(CLI::App& app);
void add_bench(CLI::App& app);
void add_inspect(CLI::App& app);

// `run` on a network: its inputs ("NAME=FILE"), and what becomes of its outputs.
struct NetworkRunFlags {
  std::string model;
  std::vector<std::string> inputs;
  OutputFlags output;
  std::string preprocess;  // file that says how pictures become inputs; empty: the model says
  int threads = 0;
};
// In the runtime. Errors: InvalidArgument for an array that no input takes.
void run_network_package(const NetworkRunFlags& flags);

// `bench` on a network's package.
struct NetworkBenchFlags {
  std::string model;
  std::vector<std::string> input_shapes;
  int threads = 0, repetitions = 5;
  bool profile = false, json = false;
};
void bench_network(const NetworkBenchFlags& flags);

#ifndef PACKLIGHT_RUNTIME_ONLY
void add_quantize(CLI::App& app);
void add_eval(CLI::App& app);
void add_export(CLI::App& app);
void add_verify(CLI::App& app);
void add_create(CLI::App& app);
void add_train(CLI::App& app);
void add_probe(CLI::App& app);
void add_prune(CLI::App& app);
void add_finetune(CLI::App& app);

// The graph of a model in its text form, for `inspect --graph`.
std::string graph_text(const std::filesystem::path& model);

// The same through LibTorch, for an ONNX file.
void run_network(const NetworkRunFlags& flags);

// What `inspect` says of a network (ONNX or a package), at the input shapes given
// ("NAME=1,3,48,320").
Json inspect_network(const std::string& path, const std::vector<std::string>& input_shapes);
void print_network(const std::string& path, const Json& inspection);

// What `inspect --groups` says: the coupled-channel groups of a network or a language model, each
// with what one unit of it saves at the input shapes given (a language model: for a token).
Json inspect_groups(const std::string& path, const std::vector<std::string>& input_shapes);
void print_groups(const Json& groups);
#endif

}  // namespace packlight::cli
