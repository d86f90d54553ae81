#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/compress/quantize_network.h"
#include "data/dataset.h"
#include "graph/graph.h"
#include "quantize/correct_layers.h"

namespace packlight::cli {

// What --correct-until asks for: "sqnr=DB", "top1=POINTS" or "agreement=SHARE". The original is run
// on the samples once.
class BudgetJudge {
 public:
  // `original` and `flags` must outlive this. Errors: those of data; InvalidArgument for another
  // text, a missing --valid, labels that are no classes where top1 is asked for, and an output that
  // is no scores of classes where agreement is.
  BudgetJudge(const graph::Graph& original, const QuantizeNetworkFlags& flags);
  BudgetJudge(const BudgetJudge&) = delete;

  const quantize::Budget& budget() const { return budget_; }
  std::string unit() const;  // of the budget's measure

 private:
  double top1(const graph::Graph& graph) const;
  double agreement(const graph::Graph& graph) const;
  data::LoaderOptions loading() const;

  const graph::Graph& original_;
  const QuantizeNetworkFlags& flags_;
  std::string kind_;
  std::shared_ptr<const data::Dataset> dataset_;
  double exact_ = 0;                            // top-1 of the original
  std::vector<std::vector<int64_t>> readings_;  // of the original
  quantize::Budget budget_;
};

}  // namespace packlight::cli
