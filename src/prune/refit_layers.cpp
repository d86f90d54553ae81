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
// outputs], without its bias.
struct Sums {
  // F64 [groups, k, k], [groups, k, outputs], [groups, k], [groups, outputs]
  at::Tensor xx, xy, x, y;
  double yy = 0;
  int64_t rows = 0;

  static void sum(at::Tensor& into, const at::Tensor& some) {
    into = into.defined() ? into.add_(some) : some.to(at::kDouble);
  }
  void add_inputs(const at::Tensor& inputs) {
    sum(xx, inputs.transpose(1, 2).bmm(inputs));
    sum(x, inputs.sum(1));
    rows += inputs.size(1);
  }
  void add_wanted(const at::Tensor& inputs, const at::Tensor& wanted) {
    sum(xy, inputs.transpose(1, 2).bmm(wanted));
    sum(y, wanted.sum(1));
    yy += wanted.square().sum(at::kDouble).item<double>();
  }
  // Where the outputs of the same inputs are wanted.
  void want_outputs_of(const at::Tensor& w) {
    xy = xx.bmm(w.transpose(1, 2));
    y = w.bmm(x.unsqueeze(2)).squeeze(2);
    yy = (xy.transpose(1, 2) * w).sum().item<double>();
  }
  // Takes the means out: what a bias can make up for.
  void centre() {
    const auto n = static_cast<double>(rows);
    xx = xx - x.unsqueeze(2) * x.unsqueeze(1) / n;
    xy = xy - x.unsqueeze(2) * y.unsqueeze(1) / n;
    yy -= (y.square().sum() / n).item<double>();
  }
  void keep(const at::Tensor& columns) {
    xx = xx.index_select(1, columns).index_select(2, columns);
    xy = xy.index_select(1, columns);
    x = x.index_select(1, columns);
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
  Refit(const Graph& original, Graph& pruned, const graph::Coupling& coupling,
        const graph::Coupling::Removed& removed, const std::vector<exec::Values>& batches,
        const RefitOptions& options)
      : original_(original),
        graph_(pruned),
        coupling_(coupling),
        removed_(removed),
        options_(options),
        masked_(coupling.none()),
        pruned_(pruned, batches, options.stream) {
    mask();
    const bool normalizes =
        std::any_of(original.nodes().begin(), original.nodes().end(),
                    [](const Node& node) { return node.op == "BatchNormalization"; });
    if (options.undo_drift > 0 || normalizes) exact_.emplace(original, batches, options.stream);
  }

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
  // Calls use(x of the original, x of the pruned) for each batch, both before node `id`. Without
  // drift to undo, the first is the second.
  template <class Use>
  void inputs_of(NodeId id, const Use& use) {
    const ValueId input = original_.node(id).inputs[0];
    for (size_t batch = 0; batch < pruned_.batches(); ++batch) {
      exec::Values of_pruned = pruned_.run(batch, id), of_exact;
      if (exact_) of_exact = exact_->run(batch, id);
      const exec::Values& wanted = exact_ ? of_exact : of_pruned;
      if (wanted.contains(input) && of_pruned.contains(input))
        use(wanted.at(input), of_pruned.at(input));
      if (exact_) exact_->put(batch, std::move(of_exact));
      pruned_.put(batch, std::move(of_pruned));
    }
    if (exact_) exact_->release_weights(done_, id);
    pruned_.release_weights(done_, id);
    done_ = id;
  }

  // What goes of a residual stream must be zero from the beginning: normalizations see it.
  void mask() {
    for (size_t g = 0; g < removed_.size(); ++g) {
      const graph::Group& group = coupling_.groups()[g];
      if (group.kind == graph::GroupKind::kWidth && !removed_[g].empty()) masked_[g] = removed_[g];
    }
    for (ValueId id = 0; id < static_cast<ValueId>(original_.values().size()); ++id) {
      if (!original_.value(id).weight) continue;
      at::Tensor dense;
      for (int axis = 0; axis < static_cast<int>(original_.value(id).shape->size()); ++axis) {
        const at::Tensor gone = masked_indices(id, axis);
        if (gone.numel() == 0) continue;
        if (!dense.defined()) dense = Refit::dense(original_, id).clone();
        dense.index_fill_(axis, gone, 0);
      }
      if (dense.defined())
        graph_.value(id).weight = dense.to(graph::to_scalar_type(graph_.value(id).type));
    }
  }
  at::Tensor masked_indices(ValueId weight, int axis) const {
    const int64_t size = (*original_.value(weight).shape)[axis].value;
    const std::vector<int64_t> kept = kept_indices(coupling_, masked_, weight, axis, size);
    if (static_cast<int64_t>(kept.size()) == size) return at::empty({0}, at::kLong);
    at::Tensor gone = at::ones({size}, at::kBool);
    gone.index_fill_(0, at::tensor(kept, at::kLong), false);
    return gone.nonzero().squeeze(1);
  }

  static at::Tensor dense(const Graph& graph, ValueId id) {
    return exec::dense_weight(*graph.value(id).weight);
  }

  // Columns of a layer's matrix whose inputs stay.
  at::Tensor kept_columns(const LayerMatrix& matrix) const {
    const ValueId weight = matrix.weight_value();
    if (matrix.groups() > 1) return at::arange(matrix.inner(), at::kLong);
    const int64_t size = (*original_.value(weight).shape)[matrix.in_axis()].value;
    const at::Tensor inputs = at::tensor(
        kept_indices(coupling_, removed_, weight, matrix.in_axis(), size), at::kLong);
    const int64_t each = matrix.columns_per_input();
    return (inputs.unsqueeze(1) * each + at::arange(each, at::kLong)).reshape({-1});
  }

  std::optional<RefitReport> layer(NodeId id, const LayerMatrix& matrix) {
    const ValueId weight = matrix.weight_value();
    if (!reads_alone(id, weight)) return std::nullopt;
    const at::Tensor columns = kept_columns(matrix);
    const bool loses = columns.numel() < matrix.inner();
    if (!loses && options_.undo_drift == 0) return std::nullopt;
    const at::Tensor w = matrix.matrix(dense(original_, weight));
    Sums sums;
    bool same = true;
    inputs_of(id, [&](const at::Tensor& exact, const at::Tensor& pruned) {
      const at::Tensor at = matrix.even_positions(pruned, options_.rows);
      const at::Tensor x = matrix.rows(pruned, at);
      sums.add_inputs(x);
      if (options_.undo_drift == 0) return;
      same = same && at::equal(exact, pruned);
      const at::Tensor wanted = at::lerp(x, matrix.rows(exact, at), options_.undo_drift);
      sums.add_wanted(x, wanted.bmm(w.transpose(1, 2)));
    });
    if ((same && !loses) || sums.rows == 0) return std::nullopt;
    if (options_.undo_drift == 0) sums.want_outputs_of(w.to(at::kDouble));
    if (!std::isfinite(sums.yy) || !at::isfinite(sums.xx).all().item<bool>())
      fail(ErrorCode::kInternal, "[prune.refit] layer '{}': its inputs are not finite",
           graph_.node(id).name);
    return solve(id, matrix, w.to(at::kDouble), columns, sums);
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

  RefitReport solve(NodeId id, const LayerMatrix& matrix, const at::Tensor& all,
                    const at::Tensor& columns, Sums& sums) {
    const Node& node = graph_.node(id);
    const bool bias = has_bias(graph_, node, all.size(0) * all.size(1));
    const at::Tensor w = all.index_select(2, columns);
    sums.keep(columns);
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
      auto& stored = std::get<at::Tensor>(*graph_.value(node.inputs[2]).weight);
      const at::Tensor rest =
          y_mean - fitted.bmm(x_mean.unsqueeze(2)).squeeze(2);  // [groups, outputs]
      stored = stored + rest.reshape({-1}).to(stored.scalar_type());
    }
    const at::Tensor whole = at::zeros_like(all).index_copy_(2, columns, fitted);
    graph::Weight& stored = *graph_.value(matrix.weight_value()).weight;
    const at::ScalarType type = graph::to_scalar_type(graph_.value(matrix.weight_value()).type);
    const at::Tensor result = matrix.weight(whole.to(at::kFloat)).contiguous();
    result.index_fill_(matrix.out_axis(), masked_indices(matrix.weight_value(), matrix.out_axis()),
                       0);
    stored = result.to(type);
    replace_transposed(id, matrix.weight_value());
    return {node.name, before, sums.error(fitted) / power};
  }

  // A Transpose between weight and layer has run already, with the weight that was.
  void replace_transposed(NodeId id, ValueId weight) {
    const ValueId read = original_.node(id).inputs[1];
    if (read == weight) return;
    for (size_t batch = 0; batch < pruned_.batches(); ++batch) {
      exec::Values live = pruned_.run(batch, id);
      live.at(read) = dense(graph_, weight).t();
      pruned_.put(batch, std::move(live));
    }
  }

  // y = (x - mean) / sqrt(var + eps): the new mean and variance are the old ones moved as x has.
  void normalization(NodeId id) {
    const Node& node = graph_.node(id);
    at::Tensor sums[2], squares[2];
    int64_t count = 0;
    bool same = true;
    inputs_of(id, [&](const at::Tensor& exact, const at::Tensor& pruned) {
      same = same && at::equal(exact, pruned);
      const at::Tensor both[2] = {exact, pruned};
      for (int i = 0; i < 2; ++i) {
        const at::Tensor x =
            both[i].to(at::kDouble).transpose(0, 1).reshape({both[i].size(1), -1});
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
    auto& running_mean = std::get<at::Tensor>(*graph_.value(node.inputs[3]).weight);
    auto& running_var = std::get<at::Tensor>(*graph_.value(node.inputs[4]).weight);
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
  Graph& graph_;
  const graph::Coupling& coupling_;
  const graph::Coupling::Removed& removed_;
  const RefitOptions& options_;
  graph::Coupling::Removed masked_;
  std::optional<calib::ValueStream> exact_;
  calib::ValueStream pruned_;
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

std::vector<RefitReport> refit_layers(const Graph& original, Graph& pruned,
                                      const graph::Coupling& coupling,
                                      const graph::Coupling::Removed& removed,
                                      const std::vector<exec::Values>& batches,
                                      const RefitOptions& options) {
  return Refit(original, pruned, coupling, removed, batches, options).run();
}

}  // namespace packlight::prune
