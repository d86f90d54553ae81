#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace packlight::deploy {

// How encoded matrices (Packlight tiles) are written. GGML blocks always become F32, F16 tiles F16.
enum class OnnxWeights : uint8_t {
  // com.microsoft.MatMulNBits, which ONNX Runtime multiplies with without unpacking. Linear layers
  // only (Transpose and MatMul or Gemm); a matrix used otherwise, too, is written as F32 as well.
  kNBits,
  // (A DequantizeLinear of the graph itself is written as it is: `bits` of 4 and fewer raise the opset
  // to 21, too.) DequantizeLinear: INT8 of one scale a row at any opset; INT4, and groups, raise the opset
  // to 21.
  kQdq,
  kDequantize,  // F32
};

struct OnnxOptions {
  int64_t opset = 17;  // 13 to 23
  // That opset or an error; else a newer one where weights need it, and a notice says so.
  bool exact_opset = false;
  OnnxWeights weights = OnnxWeights::kNBits;
  std::string producer_name = "packlight", producer_version = "";
  std::map<std::string, std::string> metadata = {};  // metadata_props
  // Weights of more bytes than this go to a file of their own beside the model, named PATH.data. A
  // message has at most 2 GB, some of which is the network itself.
  uint64_t external_above_bytes = uint64_t{1900} << 20;
};

struct OnnxReport {
  int64_t opset = 0;            // what was written: higher than asked for where a notice says so
  int64_t ir_version = 0;       // that of the ONNX release that brought the opset
  uint64_t external_bytes = 0;  // size of PATH.data; 0: there is none
  std::vector<std::string> notices;  // what was written otherwise than the options say
};

// Writes a graph as an ONNX file. Names of inputs, outputs, values and nodes stay (inside subgraphs
// only as far as they hide no outer name); unused weights are left out. Operators newer than the
// opset are decomposed or written in their older form (onnx_downgrade.h); the graph's own
// extensions (captured inputs, windowed attention) become plain ONNX. Weights keep their dtype: F16
// and BF16 are cast to F32 where they are used, as the graph takes them; F64 is written as F32.
// Memory: one weight, and the message (all weights, unless they go to a file of their own).
// Errors: InvalidArgument for an opset outside 13 to 23; Unsupported naming the lowest opset for
// weights that an exact_opset cannot express; Unsupported naming node, operator and the
// lowest opset for what the opset cannot express, for a linear layer whose activations are
// quantized, for an output of unknown element type, for a message above 2 GB; Io. Earlier files are
// replaced only by complete ones, the model and its data together.
OnnxReport write_onnx(const graph::Graph& graph, const std::filesystem::path& path,
                      const OnnxOptions& options = {});

}  // namespace packlight::deploy
