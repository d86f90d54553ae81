#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "calib/activation_ranges.h"
#include "calib/activation_store.h"
#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::calib {

struct ValueStreamOptions {
  uint64_t max_ram_bytes = uint64_t{1} << 30;  // of values kept between nodes; what is beyond goes
                                               // to a temporary file in spill_folder
  std::filesystem::path spill_folder = ".";
};

// Batches of calibration samples on their way through a graph, each as far as it was run last: all
// run through a few nodes, then all through the next ones, so that what is known of one layer's
// inputs can change the weights of the next. Two streams side by side compare a graph with another
// of the same nodes. A weight of the graph that is replaced takes effect when no node that reads it
// has run.
class ValueStream {
 public:
  // `graph` must outlive this; `batches`: the values of its inputs. Errors: InvalidArgument for
  // none.
  ValueStream(const graph::Graph& graph, std::vector<exec::Values> batches,
              const ValueStreamOptions& options);

  size_t batches() const { return next_.size(); }
  // Runs a batch from where it is up to before node `end`, and gives its live values away: put()
  // them back to go on. Errors: those of exec; Io from spilling.
  exec::Values run(size_t batch, graph::NodeId end, const exec::NodeObserver& observer = nullptr);
  void put(size_t batch, exec::Values values) { store_.put(batch, std::move(values)); }
  // Drops the F32 copies of the weights that these nodes read.
  void release_weights(graph::NodeId begin, graph::NodeId end) {
    executor_.release_weights(begin, end);
  }

 private:
  exec::Executor executor_;
  ActivationStore store_;
  std::vector<graph::NodeId> next_;
};

// The inputs of a network's samples by value id, at most `samples` of them. Errors: InvalidArgument
// for an input that is missing.
std::vector<exec::Values> values_of(const graph::Graph& graph, const Batches& batches,
                                    int64_t samples);

}  // namespace packlight::calib
