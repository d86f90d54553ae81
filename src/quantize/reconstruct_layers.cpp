#include "quantize/reconstruct_layers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <unordered_map>

#include "base/fail.h"
#include "base/progress.h"
#include "exec/executor.h"
#include "calib/layer_matrix.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::NodeId;
using calib::LayerMatrix;
using graph::ValueId;

constexpr int64_t kMostFloats = int64_t{32} << 20;  // of a layer's rows

NodeId node_named(const Graph& graph, const std::string& name) {
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id)
    if (graph.node(id).name == name) return id;
  fail(ErrorCode::kInternal, "[quantize] no node is named '{}'", name);
}

// The input 0 of a node, when the network runs up to it.
at::Tensor input_of(exec::Executor& executor, const Graph& graph, NodeId node,
                    const calib::Inputs& inputs) {
  exec::Values live;
  for (const ValueId id : graph.inputs) {
    const auto it = inputs.find(graph.value(id).name);
    if (it == inputs.end())
      fail(ErrorCode::kInvalidArgument, "[quantize] input '{}' is missing", graph.value(id).name);
    live[id] = it->second;
  }
  at::Tensor x;
  executor.run_nodes(0, node + 1, live,
                     [&](const graph::Node& at, std::span<const at::Tensor> values) {
                       if (&at == &graph.node(node)) x = values[0];
                     });
  return x;
}

// The first batches, of `samples` samples together.
int64_t count_batches(const calib::Batches& batches, int64_t samples) {
  int64_t count = 0;
  batches([&](const calib::Inputs& inputs) {
    ++count;
    samples -= calib::sample_count(inputs);
    return samples > 0;
  });
  return count;
}

bool relu_follows(const Graph& graph, const graph::Node& node) {
  const ValueId made = node.outputs[0];
  int uses = static_cast<int>(std::count(graph.outputs.begin(), graph.outputs.end(), made));
  bool relu = false;
  for (const graph::Node& user : graph.nodes()) {
    const auto times = std::count(user.inputs.begin(), user.inputs.end(), made);
    uses += static_cast<int>(times);
    relu = relu || (times > 0 && user.op == "Relu" && user.domain.empty());
  }
  return relu && uses == 1;
}

class Reconstruction {
 public:
  Reconstruction(const Graph& original, Graph& quantized, const calib::Batches& batches,
                 const AdaRoundOptions& options)
      : original_(original),
        quantized_(quantized),
        batches_(batches),
        options_(options),
        count_(count_batches(batches, options.samples)),
        exact_(original) {}

  ReconstructedLayer run(size_t index, const NetworkLayer& layer, const LayerMatrix& matrix,
                         const InsertedLayer& inserted, WeightCodes& codes) {
    AdaRoundProblem problem;
    const graph::Node& node = original_.node(layer.node);
    problem.weight =
        matrix.matrix(exec::dense_weight(*original_.value(layer.weight(original_)).weight));
    collect(layer, matrix, problem);
    problem.scale = matrix.matrix(spread_scales(codes).expand(codes.codes.sizes()).contiguous())
                        .narrow(2, 0, 1);
    problem.grid = weight_grid(codes.bits);
    problem.relu = relu_follows(original_, node);
    if (node.inputs.size() > 2 && node.inputs[2] != graph::kNone &&
        original_.value(node.inputs[2]).weight) {
      const at::Tensor bias = exec::dense_weight(*original_.value(node.inputs[2]).weight);
      const bool fits = bias.dim() == 1 && bias.numel() > 1 && node.number("beta", 1) == 1;
      if (fits) problem.bias = matrix.bias(bias);
    }
    // A Gemm's bias of another shape is not modelled, nor what an Add behind it does.
    problem.relu = problem.relu && (problem.bias.defined() || node.inputs.size() < 3);
    AdaRoundOptions options = options_;
    options.seed += index;
    const AdaRoundResult result = adaround(problem, options);
    codes.codes = matrix.weight(result.codes);
    quantized_.value(*quantized_.find(inserted.codes)).weight = codes.codes;
    return {index, result.nearest_error, result.error};
  }

 private:
  void collect(const NetworkLayer& layer, const LayerMatrix& matrix, AdaRoundProblem& problem) {
    const NodeId in_original = layer.node, in_quantized = node_named(quantized_, layer.name);
    exec::Executor rounded(quantized_);
    const int64_t most = std::clamp<int64_t>(kMostFloats / matrix.inner(), 1, options_.rows);
    const int64_t per_batch = std::max<int64_t>(1, most / count_);
    auto generator = at::detail::createCPUGenerator(options_.seed);
    std::vector<at::Tensor> x, wanted;
    int64_t batch = 0;
    batches_([&](const calib::Inputs& inputs) {
      const at::Tensor exact_x = input_of(exact_, original_, in_original, inputs),
                       rounded_x = input_of(rounded, quantized_, in_quantized, inputs);
      const int64_t positions = matrix.positions(exact_x);
      if (positions > 0) {
        const at::Tensor indices = at::randint(positions, {per_batch}, generator, at::kLong);
        x.push_back(matrix.rows(rounded_x, indices));
        wanted.push_back(at::bmm(matrix.rows(exact_x, indices), problem.weight.transpose(1, 2)));
      }
      return ++batch < count_;
    });
    problem.x = at::cat(x, 1);
    problem.wanted = at::cat(wanted, 1);
  }

  const Graph& original_;
  Graph& quantized_;
  const calib::Batches& batches_;
  const AdaRoundOptions& options_;
  int64_t count_;
  exec::Executor exact_;
};

}  // namespace

std::vector<ReconstructedLayer> reconstruct_layers(const Graph& original, Graph& quantized,
                                                   const std::vector<NetworkLayer>& layers,
                                                   const std::vector<InsertedLayer>& inserted,
                                                   std::map<size_t, WeightCodes>& weights,
                                                   const calib::Batches& batches,
                                                   const AdaRoundOptions& options, bool quiet) {
  if (options.iterations < 1 || options.batch_rows < 1 || options.rows < 1 || options.samples < 1)
    fail(ErrorCode::kInvalidArgument,
         "[quantize] AdaRound: {} iterations on {} of {} rows of {} samples; each must be positive",
         options.iterations, options.batch_rows, options.rows, options.samples);
  std::unordered_map<std::string, int> owners;
  for (const InsertedLayer& layer : inserted) ++owners[layer.codes];
  Reconstruction reconstruction(original, quantized, batches, options);
  base::Progress progress("Rounding up or down", weights.size());
  progress.set_quiet(quiet);
  std::vector<ReconstructedLayer> done;
  for (auto& [index, codes] : weights) {
    const bool is_right = layers[index].weight_input == size_t{1};
    const auto matrix = is_right ? calib::LayerMatrix::of(original, layers[index].node) : std::nullopt;
    if (matrix && owners[inserted[index].codes] == 1)
      done.push_back(reconstruction.run(index, layers[index], *matrix, inserted[index], codes));
    progress.advance();
  }
  return done;
}

}  // namespace packlight::quantize
