#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "deploy/onnx_writer.h"
#include "import/onnx.h"

namespace packlight::cli {

// How a network is written.
struct NetworkOutput {
  std::string path;
  std::string model;        // what the network was read from, for preprocess_of_model()
  bool as_package = false;  // else as ONNX
  Json recipe;              // what was done to the network; null: what the model's file says
  int64_t opset = 17;       // ONNX only, as `weights`
  deploy::OnnxWeights weights = deploy::OnnxOptions().weights;
  bool opset_given = false;  // nothing newer will do: an error where the opset is too old
  std::string preprocess = {};  // the file that says how pictures become inputs; empty: the model
};

struct WrittenNetwork {
  uint64_t bytes = 0;
  std::optional<int64_t> opset;  // absent for a package
};

// Writes the network, with how pictures become its inputs, and prints the writer's notices on standard error. Errors: those of
// deploy::write_onnx() and deploy::write_network_package().
WrittenNetwork write_network(const import::OnnxNetwork& network, const NetworkOutput& output);

// Whether a name asks for a package (.plk) or for ONNX (.onnx). Errors: InvalidArgument for another
// extension, naming `verb`.
bool is_package_name(const std::string& path, const char* verb);

}  // namespace packlight::cli
