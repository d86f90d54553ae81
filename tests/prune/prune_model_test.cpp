#include "prune/prune_model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "calib/input_statistics.h"
#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"
#include "error_code.h"
#include "exec/executor.h"
#include "import/pruning_record.h"
#include "quantize/quantize_model.h"
#include "tiny_language_model.h"

namespace packlight::prune {
namespace {

const std::string kLastDown = "model.layers.1.mlp.down_proj.weight";

calib::CalibrationTokens tokens() {
  calib::CalibrationTokens out;
  out.window = 16;
  for (int i = 0; i < 200; ++i) out.ids.push_back((i * 11 + i / 5 + i * i / 7) % 40);
  return out;
}

PruneOptions options(const test::TestFolder& folder, const char* method, const char* criterion,
                     Repair repair) {
  PruneOptions out;
  out.method.pattern = graph::parse_zero_pattern(method);
  out.method.criterion = make_criterion(criterion, 1);
  out.method.repair = repair;
  out.output = folder / "out";
  out.quiet = true;
  return out;
}

at::Tensor weight(const import::LanguageModel& model, const std::string& name) {
  return exec::dense_weight(*model.graph.value(*model.graph.find(name)).weight);
}

bool is_pruned(const import::LanguageModel& model, const std::string& name) {
  return model.graph.value(*model.graph.find(name)).zeros.has_value();
}

void expect_bad(const PruneOptions& options, std::initializer_list<std::string> parts,
                const std::function<void(import::LanguageModel&)>& edit = nullptr) {
  auto model = test::tiny_model(test::tiny_config());
  if (edit) edit(model);
  const auto text = tokens();
  test::expect_error(ErrorCode::kInvalidArgument, parts,
                     [&] { prune_language_model(model, &text, options); });
  EXPECT_FALSE(is_pruned(model, kLastDown));
}

TEST(PruneModel, RatioIsExactInEveryLayerAndTheRestIsWhole) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  for (const char* criterion : {"magnitude", "wanda", "obs", "random"}) {
    for (const Repair repair : {Repair::kNone, Repair::kObs, Repair::kAdmm}) {
      auto model = original;
      PruneOptions o = options(folder, "unstructured", criterion, repair);
      o.ratio = 0.3;
      const auto reports = prune_language_model(model, &text, o);
      EXPECT_EQ(reports.size(), 14u);
      for (const LayerReport& report : reports) {
        const at::Tensor w = weight(model, report.name);
        EXPECT_EQ(w.numel() - w.count_nonzero().item<int64_t>(), std::llround(0.3 * w.numel()))
            << criterion << report.name;
        EXPECT_EQ(report.kept, w.count_nonzero().item<int64_t>());
        EXPECT_TRUE(is_pruned(model, report.name));
      }
      for (const char* whole : {"model.embed_tokens.weight", "model.norm.weight"}) {
        EXPECT_TRUE(weight(model, whole).equal(weight(original, whole)));
        EXPECT_FALSE(is_pruned(model, whole));
      }
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(PruneModel, NOfEveryMStayInEveryLayer) {
  const test::TestFolder folder;
  const auto text = tokens();
  for (const Repair repair : {Repair::kNone, Repair::kObs, Repair::kAdmm}) {
    auto model = test::tiny_model(test::tiny_config());
    for (const LayerReport& report :
         prune_language_model(model, &text, options(folder, "2:4", "obs", repair))) {
      EXPECT_TRUE(weight(model, report.name)
                      .ne(0)
                      .view({report.rows, -1, 4})
                      .sum(2)
                      .eq(2)
                      .all()
                      .item<bool>())
          << report.name;
    }
  }
}

TEST(PruneModel, KeepsTheStoredTypeAndUnpacksBlocks) {
  const test::TestFolder folder;
  const auto text = tokens();
  auto model = test::tiny_model(test::tiny_config(), at::kBFloat16);
  prune_language_model(model, &text, options(folder, "2:4", "obs", Repair::kObs));
  EXPECT_EQ(
      std::get<at::Tensor>(*model.graph.value(*model.graph.find(kLastDown)).weight).scalar_type(),
      at::kBFloat16);
}

TEST(PruneModel, SameTokensGiveTheSameBytesWhateverIsSpilled) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  auto one = original, two = original;
  PruneOptions o = options(folder, "unstructured", "obs", Repair::kAdmm);
  o.undo_drift = 1;
  prune_language_model(one, &text, o);
  o.max_ram_bytes = 0;
  for (const LayerReport& report : prune_language_model(two, &text, o)) {
    EXPECT_TRUE(weight(one, report.name).equal(weight(two, report.name))) << report.name;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// The last layer's mask is that of its inputs in the model whose other layers are pruned already,
// not in the original.
TEST(PruneModel, LaterLayersSeeWhatEarlierOnesGive) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  auto model = original;
  prune_language_model(model, &text, options(folder, "unstructured", "wanda", Repair::kNone));
  const at::Tensor w = weight(original, kLastDown);
  const auto mask_on = [&](const import::LanguageModel& inputs_of) {
    calib::InputStatistics statistics(inputs_of.graph, text, {});
    calib::MeanSquares means;
    for (size_t b = 0; b < statistics.blocks(); ++b) means.merge(statistics.run_block(b));
    const at::Tensor mean = at::tensor(means.at(*original.graph.find(kLastDown)));
    return keep_mask(w.abs() * mean.sqrt().to(at::kFloat), {}, 0.5, Scope::kRow);
  };
  const at::Tensor got = weight(model, kLastDown).ne(0);
  // A weight on the edge may fall to the other side by the rounding of a sum.
  EXPECT_LE(got.ne(mask_on(model)).sum().item<int64_t>(), 4);
  EXPECT_GT(got.ne(mask_on(original)).sum().item<int64_t>(), 40);
}

// Mean square of what the pruned model's logits differ by.
double logit_error(const import::LanguageModel& original, const import::LanguageModel& model,
                   const calib::CalibrationTokens& text) {
  const auto logits = [&](const import::LanguageModel& m) {
    const int64_t n = static_cast<int64_t>(text.ids.size()) / text.window;
    at::Tensor ids = at::empty({n, text.window}, at::kLong);
    std::copy_n(text.ids.begin(), ids.numel(), ids.data_ptr<int64_t>());
    const at::Tensor positions =
        at::arange(text.window, at::kLong).expand({n, text.window}).contiguous();
    return exec::Executor(m.graph)
        .run({{"input_ids", ids}, {"position_ids", positions}})
        .at("logits");
  };
  return logits(original).sub(logits(model)).square().mean().item<double>();
}

TEST(PruneModel, EveryRepairComesNearerToTheOriginal) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  const auto error = [&](const char* criterion, Repair repair, double drift) {
    auto model = original;
    PruneOptions o = options(folder, "unstructured", criterion, repair);
    o.undo_drift = drift;
    prune_language_model(model, &text, o);
    return logit_error(original, model, text);
  };
  const double random = error("random", Repair::kNone, 0), wanda = error("wanda", Repair::kNone, 0);
  const double obs = error("obs", Repair::kObs, 0), drift = error("obs", Repair::kObs, 1);
  EXPECT_LT(wanda, random);
  EXPECT_LT(obs, wanda);
  EXPECT_LT(drift, obs);
}

TEST(PruneModel, ProtectedLayersStay) {
  const test::TestFolder folder;
  const auto text = tokens();
  const auto original = test::tiny_model(test::tiny_config());
  auto model = original;
  PruneOptions o = options(folder, "2:4", "obs", Repair::kObs);
  o.protect = {"*.0.*", "*.down_proj.weight"};
  EXPECT_EQ(prune_language_model(model, &text, o).size(), 6u);
  EXPECT_TRUE(weight(model, kLastDown).equal(weight(original, kLastDown)));
  EXPECT_FALSE(is_pruned(model, kLastDown));
}

TEST(PruneModel, BadOptionsAreErrors) {
  const test::TestFolder folder;
  PruneOptions good = options(folder, "unstructured", "wanda", Repair::kObs), bad = good;
  for (const double ratio : {0.0, 1.0, -0.5, 1.5, std::nan("")}) {
    bad.ratio = ratio;
    expect_bad(bad, {"ratio"});
  }
  bad = good;
  bad.protect = {"*.up_proj.weight", "*.up_prj.*"};
  expect_bad(bad, {"'*.up_prj.*'", "model.layers.0"});
  bad.protect = {"*"};
  expect_bad(bad, {"no layer is left"});
  bad = good;
  bad.undo_drift = 2;
  expect_bad(bad, {"drift", "2"});
  bad = options(folder, "3:7", "magnitude", Repair::kNone);
  expect_bad(bad, {"model.layers.0.self_attn.q_proj.weight", "64", "3:7"});
  auto model = test::tiny_model(test::tiny_config());
  test::expect_error(ErrorCode::kInvalidArgument, {"calibration tokens"},
                     [&] { prune_language_model(model, nullptr, good); });
}

TEST(PruneModel, NumbersThatAreNotFiniteAreErrors) {
  const test::TestFolder folder;
  const auto set = [](const char* name, float value) {
    return [=](import::LanguageModel& model) {
      at::Tensor w = weight(model, name).clone();
      w.view({-1})[7].fill_(value);
      model.graph.value(*model.graph.find(name)).weight = w;
    };
  };
  expect_bad(options(folder, "2:4", "magnitude", Repair::kNone), {kLastDown, "column 7", "nan"},
             set(kLastDown.c_str(), NAN));
  expect_bad(options(folder, "2:4", "wanda", Repair::kNone),
             {"model.layers.1.self_attn.q_proj.weight", "not finite"},
             set("model.layers.1.input_layernorm.weight", INFINITY));
}

TEST(PruneModel, LayersThatAreZeroAreLeftAndSaid) {
  const test::TestFolder folder;
  const auto text = tokens();
  auto model = test::tiny_model(test::tiny_config());
  const std::string up = "model.layers.0.mlp.up_proj.weight",
                    down = "model.layers.0.mlp.down_proj.weight";
  model.graph.value(*model.graph.find(up)).weight = at::zeros({96, 64});
  std::set<std::string> notices;
  for (const Repair repair : {Repair::kNone, Repair::kObs, Repair::kAdmm}) {
    auto pruned = model;
    PruneOptions o = options(folder, "unstructured", "obs", repair);
    o.notice = [&](const std::string& line) { notices.insert(line); };
    prune_language_model(pruned, &text, o);
    EXPECT_EQ(weight(pruned, up).count_nonzero().item<int64_t>(), 0);
    // Its inputs are all dead; what is known of its weights is their magnitude.
    EXPECT_EQ(weight(pruned, down).count_nonzero().item<int64_t>(), 64 * 96 / 2);
  }
  ASSERT_EQ(notices.size(), 2u);
  EXPECT_NE(notices.rbegin()->find(up), std::string::npos);
}

TEST(PruneModel, PruningTwiceIsAnErrorUnlessTheLayersDiffer) {
  const test::TestFolder folder;
  const auto text = tokens();
  auto model = test::tiny_model(test::tiny_config());
  PruneOptions o = options(folder, "2:4", "magnitude", Repair::kNone);
  o.protect = {"*.up_proj.weight"};
  prune_language_model(model, &text, o);
  o.protect = {};
  test::expect_error(ErrorCode::kUnsupported,
                     {"model.layers.0.self_attn.q_proj.weight", "pruned already", "2:4"},
                     [&] { prune_language_model(model, &text, o); });
  o.protect = {"*.self_attn.*", "*.gate_proj.*", "*.down_proj.*"};
  EXPECT_EQ(prune_language_model(model, &text, o).size(), 2u);
}

TEST(PruneModel, TheMaskIsRecordedInEveryFile) {
  const test::TestFolder folder;
  const auto text = tokens();
  auto model = test::tiny_model(test::tiny_config());
  PruneOptions o = options(folder, "2:4", "obs", Repair::kObs);
  o.protect = {"*.q_proj.weight"};
  prune_language_model(model, &text, o);
  deploy::write_hf_folder(model, folder / "hf");
  deploy::write_gguf_model(model, folder / "model.gguf");
  for (const char* file : {"hf", "model.gguf"}) {
    const auto again = import::load_language_model(folder / file);
    EXPECT_EQ(again.graph.value(*again.graph.find(kLastDown)).zeros, (Pattern{2, 4})) << file;
    EXPECT_TRUE(weight(again, kLastDown).equal(weight(model, kLastDown)));
    EXPECT_FALSE(is_pruned(again, "model.layers.0.self_attn.q_proj.weight")) << file;
    EXPECT_FALSE(is_pruned(again, "model.embed_tokens.weight")) << file;
  }
}

TEST(PruneModel, ABrokenRecordIsAnError) {
  auto model = test::tiny_model(test::tiny_config());
  for (const char* record :
       {R"([])", R"("2:4")", R"({"4:2": []})", R"({"2:4": "model.norm.weight"})", R"({"2:4": [7]})",
        R"({"2:4": ["no.such.weight"]})", R"({"2:4": ["model.norm.weight"]})",
        R"({"2:4": ["logits"]})"}) {
    test::expect_error(ErrorCode::kCorrupt, {"'file'", "record of pruning"},
                       [&] { import::mark_pruned(model.graph, Json::parse(record), "file"); });
  }
  import::mark_pruned(model.graph,
                      Json::parse(R"({"2:4": ["model.layers.1.mlp.down_proj.weight"]})"), "file");
  EXPECT_TRUE(is_pruned(model, kLastDown));
}

TEST(PruneModel, QuantizingKeepsTheMask) {
  const test::TestFolder folder;
  const auto text = tokens();
  auto model = test::tiny_model(test::tiny_config());
  prune_language_model(model, &text, options(folder, "2:4", "obs", Repair::kObs));
  quantize::QuantizeOptions to;
  to.output = folder / "out.plk";
  to.quiet = true;
  for (const bool asymmetric : {false, true}) {
    for (const char* scheme : {"int4", "int8"}) {
      if (asymmetric && std::string(scheme) == "int8") continue;
      for (const auto method : {quantize::ScaleMethod::kAbsMax, quantize::ScaleMethod::kSearch}) {
        auto packed = model;
        quantize::Recipe recipe;
        recipe.body = quantize::make_format(scheme, "32", asymmetric);
        recipe.head = quantize::default_head(recipe.body);
        recipe.method = method;
        quantize::quantize_model(packed, recipe, &text, to);
        for (const graph::Value& value : model.graph.values()) {
          if (!value.zeros) continue;
          const at::Tensor before = weight(model, value.name), after = weight(packed, value.name);
          EXPECT_EQ(after.masked_select(before.eq(0)).count_nonzero().item<int64_t>(), 0)
              << value.name << asymmetric;
          EXPECT_TRUE(is_pruned(packed, value.name));
        }
      }
    }
  }
}

}  // namespace
}  // namespace packlight::prune
