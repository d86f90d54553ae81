// docs/operators.md: which operator has what. The tables of graph/, exec/ and runtime/ say the
// first, second and fourth; gradients and folding are tried on the onnx package's cases.
// PACKLIGHT_UPDATE_DOCS=1 writes the page.
#include <fstream>
#include <sstream>

#include "deploy/gradient_check.h"
#include "exec/evaluate.h"
#include "exec/operators.h"
#include "exec/small_net.h"
#include "graph/operator_rules.h"
#include "graph/simplify/edit.h"
#include "graph/simplify/fold_constants.h"
#include "onnx_node_cases.h"
#include "runtime/network/operator.h"

namespace packlight {
namespace {

using test::GradientCheck;
using test::noise;
using test::SmallNet;

// What the importer reads as something else.
const std::map<std::string, std::string> kReadAs = {
    {"Constant", "a weight"}, {"Scatter", "ScatterElements"}, {"Upsample", "Resize"}};

struct Row {
  bool shape = false, execution = false, runtime = false, fold = false;
  GradientCheck::Verdict gradient = GradientCheck::kNothingToSay;
};
using Rows = std::map<std::string, Row>;

std::string key(std::string_view op, std::string_view domain) {
  return domain.empty() ? std::string(op) : fmt::format("{}.{}", domain, op);
}

Rows rows_of_tables() {
  Rows rows;
  for (const graph::OperatorRule* rule : graph::all_rules())
    rows[key(rule->op, rule->domain)].shape = true;
  for (const exec::OperatorEntry* entry : exec::all_operators())
    rows[key(entry->op, entry->domain)].execution = true;
  for (const runtime::Operator* entry : runtime::all_operators())
    rows[key(entry->op, entry->domain)].runtime = true;
  for (const char* op : {"If", "Loop"}) rows[op].runtime = true;  // the engine's own
  return rows;
}

// The one operator of a network of nothing else.
std::string only_operator(const graph::Graph& graph) {
  std::string found;
  for (const graph::Node& node : graph.nodes()) {
    const std::string name = key(node.op, node.domain);
    if (!found.empty() && found != name) return "";
    found = name;
  }
  return found;
}

bool folds(graph::Graph graph, const std::vector<at::Tensor>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    graph::hold(graph, graph.inputs.at(i), inputs[i].contiguous());
  graph.inputs.clear();
  graph::infer_shapes(graph);
  graph::fold_constants(graph, exec::evaluate_node);
  return graph.nodes().empty();
}

void try_network(const graph::Graph& graph, const std::vector<at::Tensor>& inputs,
                 const std::string& name, Rows& rows) {
  const std::string op = only_operator(graph);
  if (op.empty()) return;
  Row& row = rows[op];
  row.fold = row.fold || folds(graph, inputs);
  std::string wrong;
  const auto verdict = GradientCheck(graph, inputs).run(wrong);
  EXPECT_EQ(wrong, "") << name << " (" << op << ")";
  row.gradient = std::max(row.gradient, verdict);
}

void try_onnx_cases(Rows& rows) {
  const std::filesystem::path folder = test::onnx_cases_folder();
  const auto known = test::read_known_failures(std::filesystem::path(PACKLIGHT_SOURCE_DIR) /
                                               "tests/import/onnx_node_cases_known.txt");
  for (const test::OnnxCase& one : test::read_onnx_cases(folder)) {
    if (known.count(one.name) != 0) continue;
    const import::OnnxNetwork network = import::load_onnx(folder / one.name / "model.onnx");
    std::vector<at::Tensor> inputs;
    for (int i = 0; i < one.inputs; ++i)
      inputs.push_back(test::read_onnx_tensor(test::onnx_case_file(folder, one, "input", i)));
    try_network(network.graph, inputs, one.name, rows);
  }
}

// Operators of which the package has no case, or none with floats on both sides.
void try_own_cases(Rows& rows) {
  const auto run = [&](SmallNet& net, std::vector<at::Tensor> inputs) {
    try_network(net.graph, inputs, "own case", rows);
  };
  // Of one float input [2, 3], with what comes after it.
  using Inputs = std::vector<graph::ValueId>;
  const auto unary = [&](const char* op, test::Attributes attributes = {},
                         const std::function<Inputs(SmallNet&)>& more = nullptr) {
    SmallNet net;
    Inputs inputs{net.input("x", {2, 3})};
    for (const graph::ValueId input : more ? more(net) : Inputs{}) inputs.push_back(input);
    net.returns({net.op(op, inputs, std::move(attributes))});
    run(net, {noise({2, 3}, 1)});
  };
  unary("Cast", {{"to", int64_t{1}}});
  unary("CastLike", {}, [](SmallNet& net) { return Inputs{net.number(1)}; });
  unary("CumSum", {}, [](SmallNet& net) { return Inputs{net.ints({1})}; });
  unary("Einsum", {{"equation", std::string("ij->ji")}});
  unary("ReduceLogSumExp");
  unary("Round");
  unary("Sign");
  unary("Trilu");

  SmallNet pool;
  pool.returns({pool.op("GlobalLpPool", {pool.input("x", {1, 2, 3, 3})})});
  run(pool, {noise({1, 2, 3, 3}, 1)});

  SmallNet packed;
  const auto a = packed.input("a", {2, 32}),
             b = packed.constant((noise({4, 2, 8}, 2) * 127 + 128).to(at::kByte)),
             scales = packed.constant(noise({8}, 3));
  const auto product = packed.op(
      "MatMulNBits", {a, b, scales},
      {{"K", int64_t{32}}, {"N", int64_t{4}}, {"bits", int64_t{4}}, {"block_size", int64_t{16}}});
  packed.graph.node(0).domain = "com.microsoft";
  packed.returns({product});
  run(packed, {noise({2, 32}, 1)});

  const auto branch = [](const char* op) {
    SmallNet inner;
    inner.returns({inner.op(op, {inner.input("x", {2, 3})})});
    return std::make_shared<graph::Graph>(inner.graph);
  };
  SmallNet choice;
  const auto condition = choice.constant(at::scalar_tensor(true, at::kBool)),
             x = choice.input("x", {2, 3});
  const auto chosen = choice.op("If", {condition, x},
                                {{"then_branch", branch("Tanh")}, {"else_branch", branch("Neg")}});
  choice.graph.node(0).captures = 1;
  choice.returns({chosen});
  run(choice, {noise({2, 3}, 1)});
}

std::string page(const Rows& rows) {
  std::ostringstream text;
  text << R"(# Operators

Written by `tests/deploy/operator_page_test.cpp`, which fails when this page is not what the code does
(`PACKLIGHT_UPDATE_DOCS=1 build/release/tests/deploy/deploy_test --gtest_filter='OperatorPage.*'` writes it). Operators are
ONNX's, of opset 23; files of opset 7 to 23 are read as such.

- **shape**: types and shapes of the outputs are inferred (`src/graph/`).
- **execution**: runs with LibTorch (`src/exec/`): calibration, evaluation, training.
- **gradient**: *yes*: agrees with differences of what the operator computes; *zero*: so it does, and is zero (training does not
  pass through); *none*: nothing is recorded; *no floats*: floats do not go in, or do not come out. Training with quantization
  passes straight through a quantizer of its own.
- **runtime**: runs from a package, without LibTorch (`src/runtime/network/`).
- **fold**: with constant inputs it becomes a constant when a network is simplified.

| operator | shape | execution | gradient | runtime | fold |
|---|---|---|---|---|---|
)";
  const auto mark = [](bool has) { return has ? "yes" : "no"; };
  constexpr const char* kGradients[] = {"no floats", "none", "zero", "yes"};
  for (const auto& [op, row] : rows) {
    text << "| " << op << " | " << mark(row.shape) << " | " << mark(row.execution) << " | "
         << kGradients[row.gradient] << " | " << mark(row.runtime) << " | " << mark(row.fold)
         << " |\n";
  }
  text << "\nRead as something else:\n\n| in a file | in the graph |\n|---|---|\n";
  for (const auto& [op, as] : kReadAs) text << "| " << op << " | " << as << " |\n";
  return text.str();
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(OperatorPage, TablesHoldTheSameOperators) {
  for (const auto& [op, row] : rows_of_tables()) {
    EXPECT_TRUE(row.shape) << op << " has no shape rule";
    EXPECT_TRUE(row.execution) << op << " is not executed";
    EXPECT_TRUE(row.runtime) << op << " is not the runtime's";
  }
}

TEST(OperatorPage, ListedOperatorsAreThere) {
  const Rows rows = rows_of_tables();
  std::ifstream list(std::filesystem::path(PACKLIGHT_SOURCE_DIR) /
                     "tests/oracle/onnx_operators.txt");
  int listed = 0;
  for (std::string op; list >> op; ++listed) {
    EXPECT_TRUE(rows.count(op) + rows.count("com.microsoft." + op) + kReadAs.count(op) > 0) << op;
  }
  EXPECT_GT(listed, 110);
}

TEST(OperatorPage, SaysWhatTheCodeDoes) {
  PACKLIGHT_NEEDS(test::oracle_python());
  exec::initialise(1);
  Rows rows = rows_of_tables();
  try_onnx_cases(rows);
  try_own_cases(rows);
  const std::filesystem::path path =
      std::filesystem::path(PACKLIGHT_SOURCE_DIR) / "docs/operators.md";
  const std::string want = page(rows);
  if (std::getenv("PACKLIGHT_UPDATE_DOCS") != nullptr) std::ofstream(path) << want;
  EXPECT_EQ(contents(path), want) << "PACKLIGHT_UPDATE_DOCS=1 writes it anew";
}

// A check that cannot find a wrong gradient would say nothing.
TEST(OperatorPage, GradientCheckTellsRightFromWrong) {
  exec::initialise(1);
  SmallNet right;
  right.returns({right.op("Tanh", {right.input("x", {2, 3})})});
  std::string wrong;
  EXPECT_EQ(GradientCheck(right.graph, {noise({2, 3}, 1)}).run(wrong), GradientCheck::kRight);
  EXPECT_EQ(wrong, "");

  SmallNet flat;
  flat.returns({flat.op("Round", {flat.input("x", {2, 3})})});
  EXPECT_EQ(GradientCheck(flat.graph, {noise({2, 3}, 1)}).run(wrong), GradientCheck::kZero);

  // A quantized linear layer's straight-through gradient is not the difference's.
  SmallNet through;
  const auto x = through.input("x", {1, 32});
  through.returns({through.op("MatMul", {x, through.constant(noise({32, 1}, 2))})});
  through.graph.node(0).input_quant = graph::ActivationQuant::kInt8PerToken32;
  GradientCheck(through.graph, {noise({1, 32}, 1) * 10}).run(wrong);
  EXPECT_EQ(wrong.substr(0, 7), "input 0");
}

}  // namespace
}  // namespace packlight
