#pragma once

#include <CLI/CLI.hpp>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/input_shapes.h"
#include "data/loader.h"
#include "eval/classification.h"
#include "import/onnx.h"

namespace packlight::cli {

// Reads a network, an ONNX file or a package, and prints its notices on standard error. Errors:
// those of import; Unsupported for a language model; Corrupt for a package whose checksums are
// wrong.
import::OnnxNetwork load_network(const std::string& path);

// A network ready to be judged: a package is run by the runtime itself, an ONNX file by exec/.
class JudgedNetwork {
 public:
  // Errors: as load_network().
  JudgedNetwork(const std::string& path, int threads)
      : network_(load_network(path)), subject_(make_subject(path, threads)) {}
  JudgedNetwork(const JudgedNetwork&) = delete;

  const graph::Graph& graph() const { return network_.graph; }
  const eval::NetworkSubject& subject() const { return subject_; }

 private:
  eval::NetworkSubject make_subject(const std::string& path, int threads) const;

  import::OnnxNetwork network_;
  eval::NetworkSubject subject_;
};

// parse_input_shapes() for the inputs of a graph.
std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, const graph::Graph& graph);

// Where an ONNX file's metadata says how pictures become its inputs (data::preprocess_to_json).
inline constexpr const char* kPreprocessKey = "packlight.preprocess";

// How pictures become the inputs of a network: what the file `given` says, or else (empty) its
// package, its sidecar file (model.yaml beside model.onnx), or its metadata.
std::optional<data::Preprocess> preprocess_of_model(const std::string& path,
                                                    const std::string& given = "");

// Where an ONNX file's metadata says how it was quantized.
inline constexpr const char* kRecipeKey = "packlight.quantization";

// Samples for a network: what data::open_dataset() makes of the path, prepared as
// preprocess_of_model() of the file `model` says; pictures that nothing is said of are gray where
// the network's only input has one channel. Standard error is told once how pictures become inputs,
// and who says so, unless `preprocess` does. `labels`: what they must be, absent for whatever is
// there. `held_out`: to measure on; of MNIST's folder the test pair then, which standard error is
// told, too.
std::shared_ptr<const data::Dataset> open_samples(const graph::Graph& graph,
                                                  const std::string& path, const std::string& model,
                                                  const std::string& preprocess,
                                                  std::optional<data::LabelKind> labels,
                                                  bool held_out = false);

// A flag, whether it serves a purpose beside the others, and what it would take.
struct FlagRule {
  const char* flag;
  bool serves;
  const char* rule;
};
// Errors: InvalidArgument naming the first flag that was given and serves no purpose.
void refuse_idle_flags(const CLI::App& verb, std::initializer_list<FlagRule> rules);

// How many of the samples run together: the network's own number where an input declares it (whole
// batches only then), else `asked`, else (0) `usual`, or 1 where other sizes than the batch are
// free, since samples may then differ in shape.
data::LoaderOptions loading_for(const graph::Graph& graph, const data::Dataset& dataset,
                                int64_t asked, int64_t usual);

// A report for machines: what is known, each share with its standard error.
Json task_json(const eval::TaskReport& report);

}  // namespace packlight::cli
