// What shape inference knows of vectors of dimensions, through the chains that exporters write.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "graph/error_of.h"
#include "graph/graph.h"

namespace packlight::graph {
namespace {

using test::contains;
using test::error_of;
using Attributes = std::map<std::string, Attribute>;

const Dim batch{std::string("batch")}, tokens{std::string("tokens")};

class Chain {
 public:
  ValueId input(Shape shape, ElementType type = ElementType::kF32) {
    return graph_.add_input("x" + std::to_string(next_++), type, std::move(shape));
  }
  ValueId vector(std::vector<int64_t> values) {
    at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
    std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
    return graph_.add_weight("w" + std::to_string(next_++), tensor);
  }
  ValueId scalar(int64_t value) {
    return graph_.add_weight("w" + std::to_string(next_++), at::scalar_tensor(value, at::kLong));
  }
  ValueId node(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    const std::string name = "n" + std::to_string(next_++);
    return graph_.add_node(op, name, std::move(inputs), {name + ".out"}, std::move(attributes),
                           "")[0];
  }
  std::vector<ValueId> split(ValueId input, ValueId sizes, int parts, Attributes attributes = {}) {
    const std::string name = "n" + std::to_string(next_++);
    std::vector<std::string> names;
    for (int i = 0; i < parts; ++i) names.push_back(name + "." + std::to_string(i));
    return graph_.add_node("Split", name, {input, sizes}, names, std::move(attributes), "");
  }
  // The shape that a value turns out to have, or the error.
  std::string shape(ValueId id) {
    const std::string error = error_of([&] { infer_shapes(graph_); });
    if (!error.empty()) return error;
    const Value& value = graph_.value(id);
    return value.shape ? to_string(*value.shape) : "unknown";
  }
  // The elements of a vector, by making a tensor of that shape.
  std::string elements(ValueId vector) { return shape(node("ConstantOfShape", {vector})); }

 private:
  Graph graph_;
  int next_ = 0;
};

TEST(ShapeContentsTest, ReshapeKeepsTheBatchThatShapeGave) {
  Chain c;
  const ValueId x = c.input({batch, tokens, 768}), shape = c.node("Shape", {x});
  const ValueId first =
      c.node("Unsqueeze", {c.node("Gather", {shape, c.scalar(0)}), c.vector({0})});
  const ValueId target = c.node("Concat", {first, c.vector({-1, 12, 64})}, {{"axis", int64_t{0}}});
  EXPECT_EQ(c.shape(c.node("Reshape", {x, target})), "[batch, tokens, 12, 64]");
}

TEST(ShapeContentsTest, ReshapeDeterminesOneUnknownElement) {
  Chain c;
  const ValueId x = c.input({batch, 6, 4}), unknown = c.input({1}, ElementType::kI64);
  const ValueId rows = c.node("Slice", {c.node("Shape", {x}), c.vector({0}), c.vector({1})});
  const ValueId target = c.node("Concat", {rows, unknown, c.vector({8})}, {{"axis", int64_t{0}}});
  EXPECT_EQ(c.shape(c.node("Reshape", {x, target})), "[batch, 3, 8]");
}

TEST(ShapeContentsTest, ReshapeCopiesDimensionsWithoutAName) {
  Chain c;
  const ValueId x = c.input({Dim(), Dim(), 12});
  EXPECT_EQ(c.shape(c.node("Reshape", {x, c.vector({0, 0, 3, -1})})), "[?, ?, 3, 4]");
}

TEST(ShapeContentsTest, ReshapeOfNothingNeedsNoEqualDimensions) {
  Chain c;
  const Attributes allow{{"allowzero", int64_t{1}}};
  EXPECT_EQ(c.shape(c.node("Reshape", {c.input({0, 3}), c.vector({5, 0})}, allow)), "[5, 0]");
  Chain wrong;
  EXPECT_TRUE(contains(
      wrong.shape(wrong.node("Reshape", {wrong.input({2, 3}), wrong.vector({2, 0})}, allow)),
      "[2, 3] does not reshape to [2, 0]"));
}

TEST(ShapeContentsTest, UnsqueezedVectorsHaveNoContents) {
  Chain c;  // [[2, 3]]: its first row is [2, 3], and index 1 of two columns is no error
  const ValueId matrix = c.node("Unsqueeze", {c.vector({2, 3}), c.vector({0})});
  const ValueId column = c.node("Gather", {matrix, c.scalar(1)}, {{"axis", int64_t{1}}});
  EXPECT_EQ(c.elements(column), "[?]");
}

TEST(ShapeContentsTest, ShapeTakesAPartAndSizeAProduct) {
  Chain c;
  const ValueId x = c.input({batch, 3, 4, tokens});
  EXPECT_EQ(c.elements(c.node("Shape", {x}, {{"start", int64_t{1}}, {"end", int64_t{-1}}})),
            "[3, 4]");
  EXPECT_EQ(c.elements(c.node("Shape", {x}, {{"start", int64_t{-1}}, {"end", int64_t{99}}})),
            "[tokens]");
  const auto size = [&c](Shape shape) {
    return c.elements(
        c.node("Unsqueeze", {c.node("Size", {c.input(std::move(shape))}), c.vector({0})}));
  };
  EXPECT_EQ(size({2, 3}), "[6]");
  EXPECT_EQ(size({batch, 1}), "[batch]");
  EXPECT_EQ(size({batch, 2}), "[?]");
  EXPECT_EQ(size({batch, 0}), "[0]");
}

TEST(ShapeContentsTest, SplitSliceAndTileOfVectors) {
  Chain c;
  const ValueId shape = c.node("Shape", {c.input({batch, tokens, 8})});
  const auto parts = c.split(shape, c.vector({1, 2}), 2);
  EXPECT_EQ(c.elements(parts[1]), "[tokens, 8]");
  EXPECT_EQ(c.elements(c.split(shape, kNone, 2)[0]), "[batch, tokens]");
  EXPECT_EQ(c.elements(c.node(
                "Slice", {shape, c.vector({-1}), c.vector({-100}), c.vector({0}), c.vector({-2})})),
            "[8, batch]");
  EXPECT_EQ(c.elements(c.node("Tile", {shape, c.vector({2})})),
            "[batch, tokens, 8, batch, tokens, 8]");
  EXPECT_EQ(c.elements(c.node("Expand", {c.vector({7}), c.vector({3})})), "[7, 7, 7]");
  EXPECT_EQ(c.elements(c.node("Range", {c.scalar(2), c.scalar(9), c.scalar(3)})), "[2, 5, 8]");
  const ValueId ones =
      c.node("ConstantOfShape", {c.vector({2})}, {{"value", at::full({1}, 5, at::kLong)}});
  EXPECT_EQ(c.elements(ones), "[5, 5]");
}

TEST(ShapeContentsTest, SymbolsDecideShapes) {
  Chain c;
  const ValueId x = c.input({batch, tokens});
  const ValueId shape = c.node("Shape", {x}), length = c.node("Gather", {shape, c.scalar(1)});
  EXPECT_EQ(c.shape(c.node("Range", {c.scalar(0), length, c.scalar(1)})), "[tokens]");
  EXPECT_EQ(c.shape(c.node("Range", {c.scalar(1), length, c.scalar(1)})), "[?]");
  EXPECT_EQ(c.shape(c.node("Expand", {c.input({1, 1}), shape})), "[batch, tokens]");
  EXPECT_EQ(c.shape(c.node("Tile", {c.input({1, 3}), shape})), "[batch, ?]");
  const ValueId values = c.input({2});
  EXPECT_EQ(c.shape(c.node("OneHot", {x, length, values}, {{"axis", int64_t{0}}})),
            "[tokens, batch, tokens]");
  EXPECT_EQ(c.shape(c.node("Flatten", {c.input({1, batch, 3})})), "[1, ?]");
  EXPECT_EQ(c.shape(c.node("Flatten", {c.input({1, batch, 3})}, {{"axis", int64_t{-1}}})),
            "[batch, 3]");
}

TEST(ShapeContentsTest, SliceOfAWholeAxisKeepsItsName) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(), kMin = -kMax;
  Chain c;
  const ValueId x = c.input({batch, 8});
  const auto slice = [&](int64_t start, int64_t end, int64_t step) {
    return c.shape(
        c.node("Slice", {x, c.vector({start}), c.vector({end}), c.vector({0}), c.vector({step})}));
  };
  EXPECT_EQ(slice(0, kMax, 1), "[batch, 8]");
  EXPECT_EQ(slice(-1, kMin, -1), "[batch, 8]");
  EXPECT_EQ(slice(1, kMax, 1), "[?, 8]");
  EXPECT_EQ(slice(0, kMax, 2), "[?, 8]");
  EXPECT_EQ(slice(0, 5, 1), "[?, 8]");
  // Bounds that are not known leave the other axes as they are.
  const ValueId bound = c.input({1}, ElementType::kI64);
  EXPECT_EQ(c.shape(c.node("Slice", {x, bound, bound, c.vector({1})})), "[batch, ?]");
}

TEST(ShapeContentsTest, Contradictions) {
  struct Case {
    ValueId (*make)(Chain&);
    const char* why;
  };
  for (
      const Case& one : {
          Case{[](Chain& c) {
                 return c.node("Slice", {c.vector({1, 2}), c.vector({0}), c.vector({2}),
                                         c.vector({0}), c.vector({0})});
               },
               "step 0"},
          Case{[](Chain& c) {
                 return c.node("Slice", {c.input({3}), c.vector({0, 0}), c.vector({1, 1})});
               },
               "2 starts for [3]"},
          Case{[](Chain& c) {
                 return c.node("Slice", {c.input({3}), c.vector({0, 0}), c.vector({1, 1}),
                                         c.vector({0, -1})});
               },
               "given twice"},
          Case{[](Chain& c) {
                 return c.node("ConstantOfShape", {c.vector({2, -3})});
               },
               "dimension 1 is -3"},
          Case{[](Chain& c) { return c.node("ConstantOfShape", {c.scalar(2)}); },
               "not as a vector"},
          Case{[](Chain& c) {
                 return c.node("Expand", {c.input({2}), c.vector({3})});
               },
               "do not broadcast"},
          Case{[](Chain& c) {
                 return c.node("Tile", {c.input({2}), c.vector({3, 4})});
               },
               "2 repeats for shape [2]"},
          Case{[](Chain& c) {
                 return c.node("Tile", {c.input({1 << 20}), c.vector({int64_t{1} << 50})});
               },
               "overflows"},
          Case{[](Chain& c) {
                 return c.node("Range", {c.scalar(0), c.scalar(1), c.scalar(0)});
               },
               "delta is 0"},
          Case{[](Chain& c) { return c.node("EyeLike", {c.input({2})}); }, "no matrix"},
          Case{[](Chain& c) { return c.node("Trilu", {c.input({2})}); }, "two dimensions"},
          Case{[](Chain& c) {
                 return c.node("OneHot", {c.input({2}), c.scalar(-1), c.input({2})});
               },
               "depth is -1"},
          Case{[](Chain& c) {
                 return c.node("Concat", {c.input({2}), c.input({2}, ElementType::kI64)});
               },
               "F32 and I64 differ"},
          Case{[](Chain& c) {
                 return c.split(c.input({6}), kNone, 2, {{"num_outputs", int64_t{3}}})[0];
               },
               "num_outputs is 3, the node has 2"},
          Case{
              [](Chain& c) {
                return c.node("GatherElements", {c.input({2, 2}), c.input({2}, ElementType::kI64)});
              },
              "ranks"},
          Case{[](Chain& c) {
                 return c.node("GatherND", {c.input({2, 2}), c.input({4, 3}, ElementType::kI64)});
               },
               "point into 3 dimensions"},
          Case{[](Chain& c) {
                 return c.node("ScatterND", {c.input({4, 2}), c.input({3, 1}, ElementType::kI64),
                                             c.input({3, 3})});
               },
               "updates is [3, 3], not [3, 2]"},
          Case{[](Chain& c) {
                 const ValueId i = c.input({3}, ElementType::kI64);
                 return c.node("ScatterElements", {c.input({4}), i, c.input({3})},
                               {{"reduction", std::string("mean")}});
               },
               "reduction is 'mean'"},
          Case{[](Chain& c) {
                 return c.node("ReverseSequence",
                               {c.input({4, 3}), c.input({4}, ElementType::kI64)});
               },
               "sequence_lens is [4], not [3]"},
          Case{[](Chain& c) {
                 return c.node("NonMaxSuppression", {c.input({1, 6, 4}), c.input({1, 2, 5})});
               },
               "not [1, ?, 6]"},
      }) {
    Chain c;
    EXPECT_TRUE(contains(c.shape(one.make(c)), one.why));
  }
}

}  // namespace
}  // namespace packlight::graph
