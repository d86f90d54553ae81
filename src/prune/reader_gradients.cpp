#include "prune/reader_gradients.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "base/fail.h"
#include "base/progress.h"
#include "calib/layer_matrix.h"
#include "calib/second_moment.h"
#include "exec/piecewise_gradient.h"
#include "train/trainer.h"

namespace packlight::prune {
namespace {

using calib::LayerMatrix;
using graph::Graph;
using graph::NodeId;

// -log p of classes [...] under logits [..., classes], summed.
at::Tensor surprise(const at::Tensor& logits, const at::Tensor& classes) {
  return -at::log_softmax(logits, -1).gather(-1, classes.unsqueeze(-1)).sum();
}

// Gathers one layer's gradients, batch by batch.
struct Gatherer {
  Gatherer(const LayerMatrix& layer, const at::Tensor& weight, int64_t most)
      : matrix(layer), w(matrix.matrix(weight)[0]), rows(most) {}

  void add(const at::Tensor& input, const at::Tensor& gradient, int64_t samples) {
    const at::Tensor at = matrix.even_positions(input, rows);
    const at::Tensor x = matrix.rows(input, at)[0], g = matrix.output_rows(gradient, at)[0];
    second.add(g, g);
    const int64_t each = std::max<int64_t>(1, matrix.positions(input) / samples);
    const at::Tensor sample = at::div(at, each, "floor").clamp_max(samples - 1);
    const double missed = static_cast<double>(matrix.positions(input)) / at.numel();
    contributions.push_back(at::zeros({samples, x.size(1)}, at::kDouble)
                                .index_add_(0, sample, (x * g.matmul(w)).to(at::kDouble) * missed));
  }

  LayerMatrix matrix;
  at::Tensor w;  // [outputs, k]
  int64_t rows;
  calib::SecondMoment second;
  std::vector<at::Tensor> contributions;
};

exec::Values samples_of(const exec::Values& batch, int64_t first, int64_t count) {
  exec::Values some;
  for (const auto& [id, tensor] : batch) some[id] = tensor.narrow(0, first, count);
  return some;
}

int64_t batch_size(const exec::Values& batch) {
  int64_t size = batch.begin()->second.dim() > 0 ? batch.begin()->second.size(0) : 1;
  for (const auto& [id, tensor] : batch) {
    if (tensor.dim() == 0 || tensor.size(0) != size) return 1;
  }
  return size;
}

// What runs together, of as many samples as are wanted.
std::vector<exec::Values> split(const std::vector<exec::Values>& batches,
                                const ReaderGradientOptions& options) {
  int64_t all = 0;
  for (const exec::Values& batch : batches) all += batch_size(batch);
  std::vector<exec::Values> parts;
  for (const exec::Values& batch : batches) {
    const int64_t size = batch_size(batch),
                  at_once = options.samples_at_once > 0 ? options.samples_at_once : size;
    for (int64_t first = 0; first < size; first += at_once)
      parts.push_back(size <= at_once ? batch
                                      : samples_of(batch, first, std::min(at_once, size - first)));
  }
  if (options.samples == 0 || options.samples >= all) return parts;
  const auto count = static_cast<int64_t>(parts.size());
  const int64_t wanted = std::max<int64_t>(1, options.samples * count / all);
  std::vector<exec::Values> some;
  for (int64_t i = 0; i < wanted; ++i) some.push_back(std::move(parts[i * count / wanted]));
  return some;
}

}  // namespace

GradientProbe next_token_probe(const Graph& graph) {
  const auto ids = graph.find("input_ids");
  if (!ids) fail(ErrorCode::kInvalidArgument, "[prune] '{}' is no language model", graph.name);
  return {graph.outputs.at(0), [id = *ids](const exec::Values& inputs, const at::Tensor& logits) {
            const at::Tensor& tokens = inputs.at(id);
            const int64_t last = tokens.size(-1) - 1;
            return surprise(logits.narrow(-2, 0, last), tokens.narrow(-1, 1, last));
          }};
}

GradientProbe curvature_probe(const Graph& graph, bool is_distribution, uint64_t seed) {
  if (graph.outputs.size() != 1)
    fail(ErrorCode::kUnsupported,
         "[prune] '{}' has {} outputs; criteria that look at gradients need one", graph.name,
         graph.outputs.size());
  const graph::ValueId of = train::loss_value_of(graph, train::LossKind::kCrossEntropy);
  auto generator = at::detail::createCPUGenerator(seed);
  if (is_distribution || of != graph.outputs[0]) {
    return {of, [generator](const exec::Values&, const at::Tensor& logits) {
              const at::Tensor p = at::softmax(logits.detach(), -1).reshape({-1, logits.size(-1)});
              const at::Tensor drawn = at::multinomial(p, 1, true, generator);
              return surprise(logits.reshape({-1, logits.size(-1)}), drawn.squeeze(1));
            }};
  }
  return {of, [generator](const exec::Values&, const at::Tensor& y) {
            const at::Tensor noise =
                at::randn(y.sizes(), generator, y.options().requires_grad(false));
            const double deviation = std::max(y.detach().std().item<double>(), 1e-12);
            return (y * noise).sum() / deviation;
          }};
}

std::map<NodeId, ReaderGradient> reader_gradients(const Graph& graph,
                                                  const std::vector<NodeId>& nodes,
                                                  const std::vector<exec::Values>& batches,
                                                  const GradientProbe& probe,
                                                  const ReaderGradientOptions& options) {
  exec::Executor executor(graph);
  exec::PiecewiseGradient pass(graph, executor, probe.of);
  std::map<NodeId, Gatherer> gatherers;
  int64_t samples = 0;
  for (const NodeId id : nodes) {
    const auto matrix = LayerMatrix::of(graph, id);
    const at::Tensor weight = exec::dense_weight(*graph.value(matrix->weight_value()).weight);
    Gatherer& gatherer = gatherers.try_emplace(id, *matrix, weight, options.rows).first->second;
    pass.watch(id, [&](const at::Tensor& x, const at::Tensor& g) { gatherer.add(x, g, samples); });
  }
  const std::vector<exec::Values> parts = split(batches, options);
  base::Progress progress("Taking gradients", parts.size());
  progress.set_quiet(options.quiet);
  for (const exec::Values& part : parts) {
    samples = batch_size(part);
    pass.run(part, [&](const at::Tensor& value) { return probe.loss(part, value); });
    progress.advance();
  }
  std::map<NodeId, ReaderGradient> result;
  for (auto& [id, gatherer] : gatherers) {
    const std::string& layer = graph.node(id).name;
    result[id] = {gatherer.second.mean(layer), at::cat(gatherer.contributions)};
  }
  return result;
}

}  // namespace packlight::prune
