#pragma once

#include "data/loader.h"
#include "graph/graph.h"
#include "train/trainer.h"

namespace packlight::train {

// A batch of samples as the trainer takes it. Errors: those of exec::input_tensors();
// InvalidArgument when the labels are not of the kind that the loss compares with.
Batch to_batch(const graph::Graph& graph, const data::Batch& batch, LossKind loss);

}  // namespace packlight::train
