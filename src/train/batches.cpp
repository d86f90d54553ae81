#include "train/batches.h"

#include <ATen/ATen.h>

#include "base/fail.h"
#include "data/labels.h"
#include "exec/data_inputs.h"

namespace packlight::train {
namespace {

data::LabelKind wanted_labels(LossKind loss) {
  switch (loss) {
    case LossKind::kCrossEntropy:
      return data::LabelKind::kClass;
    case LossKind::kCtc:
      return data::LabelKind::kSequence;
    default:
      return data::LabelKind::kVector;
  }
}

}  // namespace

Batch to_batch(const graph::Graph& graph, const data::Batch& batch, LossKind loss) {
  Batch out;
  out.inputs = exec::input_tensors(graph, batch);
  const data::BatchLabels& labels = batch.labels;
  if (labels.kind != wanted_labels(loss)) {
    fail(ErrorCode::kInvalidArgument, "[train] the data have {}, the loss needs {}",
         data::label_kind_name(labels.kind), data::label_kind_name(wanted_labels(loss)));
  }
  switch (labels.kind) {
    case data::LabelKind::kClass:
      out.target.values = at::tensor(labels.classes, at::kLong);
      break;
    case data::LabelKind::kSequence:
      out.target.values = at::tensor(labels.sequence, at::kLong);
      out.target.lengths = at::tensor(labels.lengths, at::kLong);
      break;
    default:
      out.target.values = exec::to_tensor(labels.vectors);
  }
  return out;
}

}  // namespace packlight::train
