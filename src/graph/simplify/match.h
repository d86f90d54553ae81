#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "graph/simplify/edit.h"

namespace packlight::graph {

// Parts of patterns; every value they pass through has one use.

// The node that makes a value, if it is this operator and the value is used by one input alone.
const Node* inner(const Edit& edit, ValueId value, std::string_view op);

// A commutative node as "the other input and a number": x of Add(x, 3) or Add(3, x).
struct WithNumber {
  ValueId x = kNone;
  double number = 0;
};
std::optional<WithNumber> with_number(const Edit& edit, const Node& node);

// x and c of x * c, c * x or x / (1 / c): a node that scales by a number.
std::optional<WithNumber> scaling(const Edit& edit, const Node& node);

// The factors of a tree of Mul nodes whose inner products nobody else uses; [value] for no Mul. At
// most `limit` levels.
std::vector<ValueId> factors(const Edit& edit, ValueId value, int limit = 4);
// The same, the numbers among them multiplied into one.
struct Product {
  double number = 1;
  std::vector<ValueId> values;
};
Product product(const Edit& edit, const Node& mul);

// An operator in place of the node at `last`: same name, block and output.
void fuse(Edit& edit, NodeId last, std::string op, std::vector<ValueId> inputs,
          std::map<std::string, Attribute> attributes = {});

// Tries `fuse_at` on every node; returns how often it succeeded.
int fuse_everywhere(Graph& graph, bool (*fuse_at)(Edit&, NodeId));

}  // namespace packlight::graph
