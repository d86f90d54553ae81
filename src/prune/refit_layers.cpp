#include "prune/refit_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "calib/layer_matrix.h"
#include "exec/executor.h"
#include "graph/weight.h"

namespace packlight::prune {
namespace {

using calib::LayerMatrix;
using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

// Sums over rows of a layer's inputs x [groups, rows, k] and wanted outputs y [groups, rows,
// outputs].
struct Sums {
  at::Tensor xx, xy, x,
      y;  // F64 [groups, k, k], [groups, k, outputs], [groups, k], [groups, outputs]
  double yy = 0;
  int64_t rows = 0;

  void add(const at::Tensor& inputs, const at::Tensor& wanted) {
    const auto sum = [&](at::Tensor& into, const at::Tensor& some) {
      into = into.defined() ? into + some.to(at::kDouble) : some.to(at::kDouble);
    };
    sum(xx, inputs.transpose(1, 2).bmm(inputs));
    sum(xy, inputs.transpose(1, 2).bmm(wanted));
    sum(x, inputs.sum(1));
    sum(y, wanted.sum(1));
    yy += wanted.to(at::kDouble).square().sum().item<double>();
    rows += inputs.size(1);
  }
  // Takes the means out: what a bias can make up for.
  void centre() {
    const auto n = static_cast<double>(rows);
    xx = xx - x.unsqueeze(2) * x.unsqueeze(1) / n;
    xy = xy - x.unsqueeze(2) * y.unsqueeze(1) / n;
    yy -= (y.square().sum() / n).item<double>();
  }
  // sum |y - x w^T|^2, w [groups, outputs, k]
  double error(const at::Tensor& w) const {
    return yy - 2 * (xy.transpose(1, 2) * w).sum().item<double>() +
           (w.bmm(xx) * w).sum().item<double>();
  }
};

bool has_bias(const Graph& graph, const Node& node, int64_t outputs) {
  if (node.inputs.size() < 3 || node.inputs[2] == graph::kNone || node.op == "MatMul") return false;
  const auto& weight = graph.value(node.inputs[2]).weight;
  if (!weight || node.number("beta", 1) != 1) return false;
  const auto& tensor = std::get<at::Tensor>(*weight);
  return tensor.dim() == 1 && tensor.numel() == outputs && node.op != "ConvTranspose";
}

class Refit {
 public:
  Refit(const Graph& original, Graph& cut, const graph::Coupling& coupling,
        const graph::Coupling::Removed& removed, std::vector<exec::Values> batches,
        const RefitOptions& options)
      : original_(original),
        cut_(cut),
        coupling_(coupling),
        removed_(removed),
        options_(options),
        exact_(original, batches, options.stream),
        pruned_(cut, std::move(batches), options.stream) {}

  std::vector<RefitReport> run() {
    const auto nodes = static_cast<NodeId>(original_.nodes().size());
    std::vector<RefitReport> reports;
    base::Progress progress("Refitting layers", nodes);
    progress.set_quiet(options_.quiet);
    for (NodeId id = 0; id < nodes; ++id) {
      base::check_interrupt();
      if (const auto matrix = LayerMatrix::of(original_, id)) {
        if (const auto report = layer(id, *matrix)) reports.push_back(*report);
      } else if (original_.node(id).op == "BatchNormalization") {
        normalization(id);
      }
      progress.advance();
    }
    return reports;
  }

 private:
  // Calls use(x of the original, x of the pruned) for each batch, both before node `id`.
  template <class Use>
  void inputs_of(NodeId id, const Use& use) {
    for (size_t batch = 0; batch < exact_.batches(); ++batch) {
      exec::Values of_exact = exact_.run(batch, id), of_pruned = pruned_.run(batch, id);
      const ValueId input = original_.node(id).inputs[0];
      const auto exact = of_exact.find(input), pruned = of_pruned.find(input);
      if (exact != of_exact.end() && pruned != of_pruned.end()) use(exact->second, pruned->second);
      exact_.put(batch, std::move(of_exact));
      pruned_.put(batch, std::move(of_pruned));
    }
    exact_.release_weights(std::max<NodeId>(0, done_), id);
    pruned_.release_weights(std::max<NodeId>(0, done_), id);
    done_ = id;
  }

  std::vector<int64_t> kept(ValueId weight, int axis) const {
    return kept_indices(coupling_, removed_, weight, axis,
                        (*original_.value(weight).shape)[axis].value);
  }

  at::Tensor dense(const Graph& graph, ValueId id) const {
    return exec::dense_weight(*graph.value(id).weight);
  }

  std::optional<RefitReport> layer(NodeId id, const LayerMatrix& before) {
    const ValueId weight = before.weight_value();
    if (!reads_alone(id, weight)) return std::nullopt;
    const auto after = LayerMatrix::of(cut_, id);
    const at::Tensor w_exact = before.matrix(dense(original_, weight)),
                     w = after->matrix(dense(cut_, weight));
    // Which outputs are left, as indices of [groups * outputs] columns.
    const at::Tensor outputs = at::tensor(kept_outputs(before, weight), at::kLong);
    const int64_t groups = after->groups();
    Sums sums;
    bool same = w_exact.sizes() == w.sizes();
    inputs_of(id, [&](const at::Tensor& exact, const at::Tensor& pruned) {
      same = same && at::equal(exact, pruned);
      const at::Tensor at = before.even_positions(exact, options_.rows);
      const at::Tensor all =
          before.rows(exact, at).bmm(w_exact.transpose(1, 2));  // [groups, rows, outputs]
      const at::Tensor wanted =
          all.transpose(0, 1).reshape({at.numel(), -1}).index_select(1, outputs);
      sums.add(after->rows(pruned, at),
               wanted.reshape({at.numel(), groups, -1}).transpose(0, 1).contiguous());
    });
    if (same || sums.rows == 0) return std::nullopt;
    if (!std::isfinite(sums.yy) || !at::isfinite(sums.xx).all().item<bool>())
      fail(ErrorCode::kInternal, "[prune.refit] layer '{}': its inputs are not finite",
           cut_.node(id).name);
    return solve(id, *after, w.to(at::kDouble), sums);
  }

  // Whether nobody but this layer, or the Transpose in front of it, reads a weight: one that is
  // shared (a head that is the embedding as well) cannot be fitted for one reader alone.
  bool reads_alone(NodeId id, ValueId weight) const {
    int readers = 0;
    ValueId read = weight;
    for (NodeId other = 0; other < static_cast<NodeId>(original_.nodes().size()); ++other) {
      const Node& node = original_.node(other);
      const auto times = std::count(node.inputs.begin(), node.inputs.end(), weight);
      readers += static_cast<int>(times);
      if (times > 0 && other != id) read = node.outputs[0];
    }
    if (readers != 1) return false;
    if (read == weight) return true;
    readers = 0;
    for (const Node& node : original_.nodes())
      readers += static_cast<int>(std::count(node.inputs.begin(), node.inputs.end(), read));
    return readers == 1;
  }

  std::vector<int64_t> kept_outputs(const LayerMatrix& matrix, ValueId weight) const {
    const std::vector<int64_t> outputs = kept(weight, matrix.out_axis());
    const int64_t each = matrix.rows_per_output();
    std::vector<int64_t> columns;
    for (const int64_t output : outputs) {
      for (int64_t i = 0; i < each; ++i) columns.push_back(output * each + i);
    }
    return columns;
  }

  RefitReport solve(NodeId id, const LayerMatrix& matrix, const at::Tensor& w, Sums& sums) {
    const Node& node = cut_.node(id);
    const bool bias = has_bias(cut_, node, w.size(0) * w.size(1));
    const at::Tensor x_mean = sums.x / static_cast<double>(sums.rows),
                     y_mean = sums.y / static_cast<double>(sums.rows);
    if (bias) sums.centre();
    const double power = std::max(sums.yy, 1e-30), before = sums.error(w) / power;
    at::Tensor damped = sums.xx.clone();
    const at::Tensor diagonal = damped.diagonal(0, 1, 2);
    diagonal.add_(options_.damping * diagonal.mean(1, true).clamp_min(1e-12));
    const at::Tensor wrong = sums.xy - sums.xx.bmm(w.transpose(1, 2));  // [groups, k, outputs]
    const at::Tensor fitted =
        w + at::cholesky_solve(wrong, at::linalg_cholesky(damped)).transpose(1, 2);
    if (bias) {
      auto& stored = std::get<at::Tensor>(*cut_.value(node.inputs[2]).weight);
      const at::Tensor rest =
          y_mean - fitted.bmm(x_mean.unsqueeze(2)).squeeze(2);  // [groups, outputs]
      stored = stored + rest.reshape({-1}).to(stored.scalar_type());
    }
    graph::Weight& stored = *cut_.value(matrix.weight_value()).weight;
    const at::ScalarType type = graph::to_scalar_type(cut_.value(matrix.weight_value()).type);
    stored = matrix.weight(fitted.to(at::kFloat)).to(type);
    return {node.name, before, sums.error(fitted) / power};
  }

  // y = (x - mean) / sqrt(var + eps): the new mean and variance are the old ones moved as x has.
  void normalization(NodeId id) {
    const Node& node = cut_.node(id);
    at::Tensor sums[2], squares[2];
    int64_t count = 0;
    bool same = true;
    const ValueId weight = original_.node(id).inputs[1];
    const at::Tensor channels = at::tensor(kept(weight, 0), at::kLong);
    inputs_of(id, [&](const at::Tensor& exact, const at::Tensor& pruned) {
      same = same && at::equal(exact, pruned);
      const at::Tensor both[2] = {exact.index_select(1, channels), pruned};
      for (int i = 0; i < 2; ++i) {
        const at::Tensor x =
            both[i].to(at::kDouble).transpose(0, 1).reshape({channels.numel(), -1});
        if (i == 0) count += x.size(1);
        sums[i] = sums[i].defined() ? sums[i] + x.sum(1) : x.sum(1);
        squares[i] = squares[i].defined() ? squares[i] + x.square().sum(1) : x.square().sum(1);
      }
    });
    if (same || count == 0) return;
    const auto n = static_cast<double>(count);
    const at::Tensor mean[2] = {sums[0] / n, sums[1] / n};
    const at::Tensor var[2] = {(squares[0] / n - mean[0].square()).clamp_min(0),
                               (squares[1] / n - mean[1].square()).clamp_min(0)};
    auto& running_mean = std::get<at::Tensor>(*cut_.value(node.inputs[3]).weight);
    auto& running_var = std::get<at::Tensor>(*cut_.value(node.inputs[4]).weight);
    const double epsilon = node.number("epsilon", 1e-5);
    const at::Tensor ratio = ((var[1] + epsilon) / (var[0] + epsilon)).clamp(1e-3, 1e3);
    // The distance of the running mean from the original's mean grows with the deviation.
    const at::Tensor moved = mean[1] + (running_mean.to(at::kDouble) - mean[0]) * ratio.sqrt();
    running_mean = moved.to(running_mean.scalar_type());
    running_var = ((running_var.to(at::kDouble) + epsilon) * ratio - epsilon)
                      .clamp_min(0)
                      .to(running_var.scalar_type());
  }

  const Graph& original_;
  Graph& cut_;
  const graph::Coupling& coupling_;
  const graph::Coupling::Removed& removed_;
  const RefitOptions& options_;
  calib::ValueStream exact_, pruned_;
  NodeId done_ = 0;
};

}  // namespace

std::vector<int64_t> kept_indices(const graph::Coupling& coupling,
                                  const graph::Coupling::Removed& removed, ValueId weight, int axis,
                                  int64_t size) {
  std::vector<bool> gone(size, false);
  for (size_t g = 0; g < removed.size(); ++g) {
    const graph::Group& group = coupling.groups()[g];
    const std::vector<bool>* parent = group.parent < 0 ? nullptr : &removed[group.parent];
    for (const graph::GroupSlot& slot : group.slots) {
      if (slot.weight != weight || slot.axis != axis) continue;
      for (int64_t unit = 0; unit < group.units; ++unit) {
        const bool goes =
            (!removed[g].empty() && removed[g][unit]) ||
            (parent != nullptr && !parent->empty() && (*parent)[unit / group.per_parent]);
        for (int64_t i = 0; goes && i < slot.per_unit; ++i)
          gone[slot.indices[unit * slot.per_unit + i]] = true;
      }
    }
  }
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < size; ++i) {
    if (!gone[i]) kept.push_back(i);
  }
  return kept;
}

std::vector<RefitReport> refit_layers(const Graph& original, Graph& cut,
                                      const graph::Coupling& coupling,
                                      const graph::Coupling::Removed& removed,
                                      std::vector<exec::Values> batches,
                                      const RefitOptions& options) {
  return Refit(original, cut, coupling, removed, std::move(batches), options).run();
}

}  // namespace packlight::prune
