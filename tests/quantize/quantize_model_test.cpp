#include "quantize/quantize_model.h"

#include <gtest/gtest.h>

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstring>

#include "calib/input_statistics.h"
#include "error_code.h"
#include "exec/executor.h"
#include "quantize/rounding.h"
#include "tiny_language_model.h"

namespace packlight::quantize {
namespace {

calib::CalibrationTokens tokens() {
  calib::CalibrationTokens out;
  out.window = 16;
  for (int i = 0; i < 70; ++i) out.ids.push_back((i * 11 + i / 5) % 40);
  return out;
}

Recipe recipe(const char* scheme, const char* group, bool asymmetric, ScaleMethod method) {
  Recipe out;
  out.body = make_format(scheme, group, asymmetric);
  out.head = default_head(out.body);
  out.method = method;
  return out;
}

QuantizeOptions options(const test::TestFolder& folder, int threads = 1) {
  QuantizeOptions out;
  out.threads = threads;
  out.output = folder / "out.plk";
  out.quiet = true;
  return out;
}

const codec::EncodedTensor& packed(const import::LanguageModel& model, const char* name) {
  return std::get<codec::EncodedTensor>(*model.graph.value(*model.graph.find(name)).weight);
}

std::vector<std::byte> all_bytes(const import::LanguageModel& model) {
  std::vector<std::byte> out;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    if (spec.is_vector) continue;
    const codec::EncodedTensor& t = packed(model, spec.name.c_str());
    for (const auto part : {t.data, t.scales, t.zeros}) out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

calib::MeanSquares input_statistics(const import::LanguageModel& model, const calib::CalibrationTokens& text) {
  calib::InputStatistics statistics(model.graph, text, {});
  calib::MeanSquares out;
  for (size_t b = 0; b < statistics.blocks(); ++b) out.merge(statistics.run_block(b));
  return out;
}

// sum h (w - w')^2 / sum h w^2, h the importance, w' the weight that `id` has in `model`.
double weighted_error(const import::LanguageModel& original, const import::LanguageModel& model, graph::ValueId id,
                      std::span<const double> mean_square) {
  const at::Tensor w = exec::dense_weight(*original.graph.value(id).weight).to(at::kDouble);
  const at::Tensor d = w - exec::dense_weight(*model.graph.value(id).weight);
  const std::vector<float> importance = normalised_importance(mean_square, w.size(1));
  const at::Tensor h = at::tensor(importance).to(at::kDouble);
  return (h * d * d).sum().item<double>() / (h * w * w).sum().item<double>();
}

TEST(QuantizeModel, PacksEveryMatrixAsTheRecipeSays) {
  const test::TestFolder folder;
  auto model = test::tiny_model(test::tiny_config("llama", false));
  Recipe r = recipe("w4a8", "32", false, ScaleMethod::kAbsMax);
  r.overrides = {parse_override("*.1.mlp.down_proj.weight=int8:row", r.body)};
  const auto reports = quantize_model(model, r, nullptr, options(folder));
  EXPECT_EQ(reports.size(), 16u);
  EXPECT_EQ(packed(model, "model.embed_tokens.weight").dtype, codec::DType::kTileInt8);
  EXPECT_EQ(packed(model, "model.layers.0.mlp.down_proj.weight").dtype, codec::DType::kTileInt4);
  EXPECT_EQ(packed(model, "model.layers.1.mlp.down_proj.weight").group_size, 96);
  for (const graph::Node& node : model.graph.nodes()) {
    const auto weight = graph::linear_weight(model.graph, node);
    if (!weight) continue;
    const bool float_input = model.graph.value(weight->value).name == "model.layers.1.mlp.down_proj.weight";
    EXPECT_EQ(node.input_quant == graph::ActivationQuant::kNone, float_input) << node.name;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(QuantizeModel, TilesDecodeToTheRoundedWeights) {
  const test::TestFolder folder;
  const auto original = test::tiny_model(test::tiny_config());
  auto model = original;
  const auto reports = quantize_model(model, recipe("int8", "32", false, ScaleMethod::kAbsMax), nullptr, options(folder));
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    if (spec.is_vector) continue;
    const at::Tensor before = exec::dense_weight(*original.graph.value(*original.graph.find(spec.name)).weight);
    const at::Tensor after = exec::dense_weight(*model.graph.value(*model.graph.find(spec.name)).weight);
    // Half a step of the largest scale, plus the scale's own rounding to F16 times the largest code.
    const double largest = before.abs().max().item<double>();
    EXPECT_LE(before.sub(after).abs().max().item<double>(), largest / 127 * (0.5 + 127 * 0x1p-11)) << spec.name;
  }
  EXPECT_LT(reports.front().relative_error, 1e-4);
  EXPECT_GT(reports.front().relative_error, 0);
}

TEST(QuantizeModel, SearchWithCalibrationIsRepeatable) {
  const test::TestFolder folder;
  const auto text = tokens();
  const Recipe r = recipe("int4", "32", true, ScaleMethod::kSearch);
  const auto original = test::tiny_model(test::tiny_config());
  auto one = original, two = original, spilled = original;
  exec::initialise(1);
  quantize_model(one, r, &text, options(folder, 1));
  exec::initialise(2);  // LibTorch's and its BLAS's threads, which calibration runs on
  quantize_model(two, r, &text, options(folder, 3));
  exec::initialise(1);
  QuantizeOptions little = options(folder);
  little.max_ram_bytes = 1000;
  quantize_model(spilled, r, &text, little);
  EXPECT_EQ(all_bytes(one), all_bytes(two));
  EXPECT_EQ(all_bytes(one), all_bytes(spilled));
}

TEST(QuantizeModel, SearchLowersTheImportanceWeightedError) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  auto plain = original, search = original;
  quantize_model(plain, recipe("int4", "64", false, ScaleMethod::kAbsMax), nullptr, options(folder));
  const auto reports = quantize_model(search, recipe("int4", "64", false, ScaleMethod::kSearch), &text, options(folder));
  const calib::MeanSquares statistics = input_statistics(original, text);
  for (const LayerReport& report : reports) {
    const graph::ValueId id = *original.graph.find(report.name);
    const double before = weighted_error(original, plain, id, statistics.at(id));
    const double after = weighted_error(original, search, id, statistics.at(id));
    EXPECT_LT(after, before) << report.name;
    // Errors of a group are F32 sums over 64 weights in 16 lanes.
    EXPECT_NEAR(report.relative_error, after, after * 12 * 0x1p-23) << report.name;
  }
}

TEST(QuantizeModel, WeightThatIsNotFiniteIsNamedAndNothingChanges) {
  const test::TestFolder folder;
  auto model = test::tiny_model(test::tiny_config());
  auto& weight = std::get<at::Tensor>(*model.graph.value(*model.graph.find("model.layers.0.mlp.up_proj.weight")).weight);
  weight.data_ptr<float>()[3 * 64 + 9] = NAN;
  test::expect_error(ErrorCode::kInvalidArgument, {"up_proj", "row 3, column 9"}, [&] {
    quantize_model(model, recipe("int4", "32", false, ScaleMethod::kAbsMax), nullptr, options(folder));
  });
  EXPECT_TRUE(std::holds_alternative<at::Tensor>(*model.graph.value(*model.graph.find("model.embed_tokens.weight")).weight));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  auto norm = test::tiny_model(test::tiny_config());
  norm.graph.value(*norm.graph.find("model.norm.weight")).weight = at::full({64}, INFINITY, at::kFloat);
  test::expect_error(ErrorCode::kInvalidArgument, {"model.norm.weight", "element 0"}, [&] {
    quantize_model(norm, recipe("int4", "32", false, ScaleMethod::kAbsMax), nullptr, options(folder));
  });
}

TEST(QuantizeModel, RefusesWhatIsPackedAlready) {
  const test::TestFolder folder;
  auto model = test::tiny_model(test::tiny_config());
  const Recipe r = recipe("int8", "row", false, ScaleMethod::kAbsMax);
  quantize_model(model, r, nullptr, options(folder));
  test::expect_error(ErrorCode::kUnsupported, {"embed_tokens"}, [&] { quantize_model(model, r, nullptr, options(folder)); });
}

TEST(QuantizeModel, SearchNeedsTokensAndAWritableFolder) {
  const test::TestFolder folder;
  auto model = test::tiny_model(test::tiny_config());
  const Recipe search = recipe("int4", "32", false, ScaleMethod::kSearch);
  test::expect_error(ErrorCode::kInvalidArgument, {"calibration"}, [&] { quantize_model(model, search, nullptr, options(folder)); });
  QuantizeOptions nowhere = options(folder);
  nowhere.output = folder / "none" / "out.plk";
  test::expect_error(ErrorCode::kIo, {"none"},
                     [&] { quantize_model(model, recipe("int8", "row", false, ScaleMethod::kAbsMax), nullptr, nowhere); });
}

}  // namespace
}  // namespace packlight::quantize
