#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/dataset.h"
#include "eval/classification.h"
#include "import/onnx.h"

namespace packlight::cli {

// Reads an ONNX model and prints its notices on standard error.
import::OnnxNetwork load_network(const std::string& path);

// "NAME=1,3,48,320" or, for a model of one input, "1,3,48,320" -> dimensions by input name. Errors:
// InvalidArgument naming the text and the rule.
std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, const graph::Graph& graph);

// "1x28x28" -> numbers. Errors: InvalidArgument naming the flag, the text and how many are wanted
// (0: any number).
std::vector<int64_t> parse_sizes(const std::string& flag, const std::string& text, char separator,
                                 size_t wanted);

// Samples for a model: what data::open_dataset() makes of the path, prepared as the model's sidecar
// file (model.yaml beside model.onnx) or `preprocess` says. `labels`: what they must be, absent for
// whatever is there.
std::shared_ptr<const data::Dataset> open_samples(const std::string& path, const std::string& model,
                                                  const std::string& preprocess,
                                                  std::optional<data::LabelKind> labels);

// A report for machines: what is known, each share with its standard error.
Json task_json(const eval::TaskReport& report);

}  // namespace packlight::cli
