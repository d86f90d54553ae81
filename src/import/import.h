#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "codec/encoded_tensor.h"
#include "graph/graph.h"
#include "io/decoder_config.h"
#include "io/hf_folder.h"
#include "io/package.h"
#include "text/tokenizer.h"

namespace packlight::import {

// A language model as the passes see it: the graph, the architecture record that its weights' names
// and shapes follow, and the tokenizer. Weights are views of the mapped files under Hugging Face
// names.
//   graph inputs:  input_ids [batch, sequence] I64, position_ids [batch, sequence] I64
//   graph output:  logits [batch, sequence, vocab]
struct LanguageModel {
  io::ModelKind kind;
  std::filesystem::path path;
  io::DecoderConfig config;
  graph::Graph graph;
  std::optional<text::Tokenizer> tokenizer;  // absent when the folder has none
};

// Reads a GGUF file, a Hugging Face folder (dense or compressed-tensors) or a package. Errors:
// those of io/ and text/; Corrupt for a missing tensor or a shape that the config contradicts;
// Unsupported for an unknown architecture (lists the known ones) or a tensor that no rule of the
// architecture uses.
LanguageModel load_language_model(const std::filesystem::path& path);

// Builds the decoder graph of a config with weights looked up by Hugging Face name
// ("model.layers.0.mlp.up_proj.weight").
graph::Graph build_decoder_graph(const io::DecoderConfig& config,
                                 const std::function<graph::Weight(const io::TensorSpec&)>& weight);

}  // namespace packlight::import
