#include "exec/piecewise_gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"

namespace packlight::exec {
namespace {

using graph::NodeId;
using graph::ValueId;

// How many values that nodes make are alive before each node, and behind the last one.
std::vector<int64_t> alive_before(const graph::Graph& graph, NodeId end) {
  std::vector<NodeId> last_use(graph.values().size(), -1);
  for (NodeId id = 0; id < end; ++id) {
    for (const ValueId input : graph.node(id).inputs) {
      if (input != graph::kNone) last_use[input] = id;
    }
  }
  std::vector<int64_t> change(end + 2, 0);
  for (NodeId id = 0; id < end; ++id) {
    for (const ValueId output : graph.node(id).outputs) {
      if (output == graph::kNone || last_use[output] <= id) continue;
      ++change[id + 1];
      --change[last_use[output] + 1];
    }
  }
  for (NodeId id = 1; id <= end; ++id) change[id] += change[id - 1];
  return change;
}

}  // namespace

PiecewiseGradient::PiecewiseGradient(const graph::Graph& graph, Executor& executor, ValueId of,
                                     int64_t pieces)
    : graph_(graph), executor_(executor), of_(of) {
  executor_.keep(of);
  cut(pieces);
}

// Pieces of about the same number of nodes, each ending where the fewest values are alive.
void PiecewiseGradient::cut(int64_t pieces) {
  const NodeId end = graph_.value(of_).producer + 1;
  if (pieces <= 0) pieces = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(end))));
  const std::vector<int64_t> alive = alive_before(graph_, end);
  const NodeId size = std::max<NodeId>(1, static_cast<NodeId>((end + pieces - 1) / pieces));
  for (NodeId begin = 0; begin < end;) {
    const NodeId first = begin + std::max(1, size / 2), last = begin + size + size / 2;
    NodeId best = end;
    if (last < end) {
      best = begin + size;
      for (NodeId at = first; at <= last; ++at) {
        const auto far = [&](NodeId of) { return std::abs(of - begin - size); };
        if (alive[at] < alive[best] || (alive[at] == alive[best] && far(at) < far(best))) best = at;
      }
    }
    ends_.push_back(begin = best);
  }
}

void PiecewiseGradient::watch_output(NodeId id, const at::Tensor& input, Values& live) {
  const auto output = live.find(graph_.node(id).outputs[0]);
  if (output == live.end()) return;
  at::Tensor& y = output->second;
  if (!y.requires_grad()) y.requires_grad_(true);
  y.register_hook([seen = watched_.at(id), input](const at::Tensor& gradient) {
    const c10::AutoGradMode no_gradients(false);
    seen(input, gradient);
    return gradient;
  });
}

void PiecewiseGradient::run_recorded(size_t piece, Values& live) {
  executor_.record_gradients(true);
  NodeId at = piece == 0 ? 0 : ends_[piece - 1];
  for (auto next = watched_.lower_bound(at); next != watched_.end() && next->first < ends_[piece];
       ++next) {
    executor_.run_nodes(at, next->first, live);
    const ValueId read = graph_.node(next->first).inputs[0];
    const at::Tensor input = live.contains(read) ? live.at(read).detach() : at::Tensor();
    executor_.run_nodes(next->first, next->first + 1, live);
    at = next->first + 1;
    if (input.defined()) watch_output(next->first, input, live);
  }
  executor_.run_nodes(at, ends_[piece], live);
  executor_.record_gradients(false);
}

double PiecewiseGradient::run(Values inputs, const Loss& loss) {
  std::vector<Values> before;  // what is alive before each piece
  executor_.record_gradients(false);
  NodeId at = 0;
  for (const NodeId end : ends_) {
    before.push_back(inputs);
    if (end != ends_.back()) executor_.run_nodes(at, end, inputs);
    at = end;
  }
  inputs.clear();
  double result = 0;
  Values gradients;  // of the values alive behind the piece
  for (size_t piece = ends_.size(); piece-- > 0;) {
    base::check_interrupt();
    const c10::AutoGradMode record(true);
    Values live;
    for (const auto& [id, tensor] : before[piece]) {
      const bool flows = graph_.value(id).producer >= 0 && tensor.is_floating_point();
      live[id] = flows ? tensor.detach().requires_grad_(true) : tensor;
    }
    const Values leaves = live;
    run_recorded(piece, live);
    at::Tensor scalar;
    if (piece + 1 == ends_.size()) {
      scalar = loss(live.at(of_));
      result = scalar.item<double>();
    } else {
      for (const auto& [id, gradient] : gradients) {
        const auto value = live.find(id);
        if (value == live.end() || !value->second.requires_grad()) continue;
        const at::Tensor part = (value->second * gradient).sum();
        scalar = scalar.defined() ? scalar + part : part;
      }
    }
    live.clear();
    gradients.clear();
    before.pop_back();
    if (!scalar.defined() || !scalar.requires_grad()) break;
    scalar.backward();
    for (const auto& [id, leaf] : leaves) {
      if (leaf.requires_grad() && leaf.grad().defined()) gradients[id] = leaf.grad();
    }
  }
  return result;
}

}  // namespace packlight::exec
