#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <thread>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/progress.h"
#include "calib/calibration_tokens.h"
#include "calib/self_text.h"
#include "cli/compress/output.h"
#include "cli/peak_memory.h"
#include "cli/compress/quantize_network.h"
#include "cli/verbs.h"
#include "deploy/package_writer.h"
#include "exec/executor.h"
#include "import/import.h"
#include "io/hf_folder.h"
#include "quantize/quantize_model.h"

namespace packlight::cli {
namespace {

constexpr int64_t kWindow = 512;
// What the KV caches of the texts that a model writes together may take.
constexpr int64_t kSelfTextCacheBytes = int64_t{128} << 20;

struct QuantizeFlags {
  std::string model, output, scheme, group_size = "32", scale = "search", head, calib;
  std::vector<std::string> overrides;
  bool asymmetric = false, json = false;
  int64_t calib_tokens = 16384;
  int64_t seed = 0;
  uint64_t max_ram_bytes = uint64_t{1} << 30;
  int threads = 0;
};

quantize::Recipe make_recipe(const QuantizeFlags& flags) {
  quantize::Recipe recipe;
  recipe.body = quantize::make_format(flags.scheme, flags.group_size, flags.asymmetric);
  recipe.head = flags.head.empty() ? quantize::default_head(recipe.body) : quantize::parse_scheme(flags.head, recipe.body);
  for (const std::string& text : flags.overrides) {
    recipe.overrides.push_back(quantize::parse_override(text, recipe.body));
  }
  recipe.method = flags.scale == "search" ? quantize::ScaleMethod::kSearch : quantize::ScaleMethod::kAbsMax;
  recipe.seed = static_cast<uint64_t>(flags.seed);
  if (recipe.method == quantize::ScaleMethod::kAbsMax && !flags.calib.empty()) {
    fail(ErrorCode::kInvalidArgument, "[quantize] --calib serves --scale search; abs-max scales look at the weights alone");
  }
  return recipe;
}

std::map<std::string, io::WeightFormat> formats_of(const std::vector<quantize::LayerReport>& layers) {
  std::map<std::string, io::WeightFormat> formats;
  for (const quantize::LayerReport& layer : layers) formats[layer.name] = layer.format;
  return formats;
}

// Packs the model as INT8 by row, which is quick and near the original, and lets the runtime write with it.
// Tokens that are seen together: kWindow, or all that the model has positions for.
int64_t window_of(const io::DecoderConfig& config) {
  return config.max_positions > 0 ? std::min(kWindow, config.max_positions) : kWindow;
}

calib::CalibrationTokens self_text(const import::LanguageModel& model, const QuantizeFlags& flags,
                                   const quantize::QuantizeOptions& options) {
  import::LanguageModel writer = model;
  quantize::Recipe recipe;
  recipe.body = recipe.head = quantize::make_format("int8", "row", false);
  recipe.method = quantize::ScaleMethod::kAbsMax;
  const auto layers = quantize::quantize_model(writer, recipe, nullptr, options);
  std::shared_ptr<const io::Package> package;
  {
    const base::AtomicFile scratch(options.output);  // a name of our own beside the output, gone with this scope
    deploy::write_package(writer, formats_of(layers), quantize::recipe_to_json(recipe), {}, scratch.temporary_path());
    package = std::make_shared<const io::Package>(io::Package::open(scratch.temporary_path()));
  }
  const io::DecoderConfig& config = model.config;
  const int64_t kv_heads = std::accumulate(config.kv_heads.begin(), config.kv_heads.end(), int64_t{0});
  const int64_t cache_bytes = kv_heads * config.head_dim * kWindow * 2 * 2;  // keys and values of F16
  runtime::DecoderOptions decoding;
  decoding.threads = options.threads;
  decoding.context = window_of(config);
  decoding.sequences = static_cast<int>(std::clamp<int64_t>(kSelfTextCacheBytes / std::max<int64_t>(1, cache_bytes), 1, 16));
  decoding.max_batch_tokens = 2 * decoding.sequences;
  runtime::Decoder decoder(package, decoding);
  base::Progress progress("The model writes calibration text", flags.calib_tokens);
  const calib::SelfTextOptions text{flags.calib_tokens, decoding.context, static_cast<uint64_t>(flags.seed)};
  return calib::write_own_text(decoder, *model.tokenizer, text, [&](int64_t tokens) { progress.advance(tokens); });
}

calib::CalibrationTokens calibration(const import::LanguageModel& model, const QuantizeFlags& flags,
                                     const quantize::QuantizeOptions& options, quantize::CalibrationSource* source) {
  if (!model.tokenizer) {
    fail(ErrorCode::kUnsupported, "[quantize] '{}': the model has no tokenizer, and a package needs one", flags.model);
  }
  calib::CalibrationTokens tokens;
  if (flags.calib.empty()) {
    std::fprintf(stderr, "No --calib FILE: the model writes its own calibration text (seed %lld).\n",
                 static_cast<long long>(flags.seed));
    tokens = self_text(model, flags, options);
    source->kind = quantize::CalibrationSource::Kind::kModel;
  } else {
    calib::TextTokens text = calib::tokens_from_text(flags.calib, *model.tokenizer, flags.calib_tokens, window_of(model.config));
    if (text.tokens_in_text < flags.calib_tokens) {
      std::fprintf(stderr, "'%s' has %lld tokens, fewer than the %lld asked for: all are used.\n", flags.calib.c_str(),
                   static_cast<long long>(text.tokens_in_text), static_cast<long long>(flags.calib_tokens));
    }
    tokens = std::move(text.tokens);
    source->kind = quantize::CalibrationSource::Kind::kText;
    source->text_name = std::filesystem::path(flags.calib).filename().string();
    source->text_hash = text.hash;
  }
  source->tokens = static_cast<int64_t>(tokens.ids.size());
  source->window = tokens.window;
  return tokens;
}

void report(const QuantizeFlags& flags, const quantize::Recipe& recipe, const std::vector<quantize::LayerReport>& layers,
            double seconds) {
  const uint64_t bytes = std::filesystem::file_size(flags.output);
  if (!flags.json) {
    fmt::print("{}: {:.1f} MB, body {}, embedding and head {}, {:.0f} s, peak memory {:.0f} MB\n", flags.output,
               static_cast<double>(bytes) / 1e6, io::to_string(recipe.body), io::to_string(recipe.head), seconds, peak_rss_mb());
    return;
  }
  Json json;
  json["output"] = flags.output;
  json["bytes"] = bytes;
  json["recipe"] = quantize::recipe_to_json(recipe);
  json["seconds"] = seconds;
  json["peak_rss_mb"] = peak_rss_mb();
  const io::Package package = io::Package::open(flags.output);  // which stores pruned matrices in other forms
  for (const quantize::LayerReport& layer : layers) {
    json["layers"].push_back({{"name", layer.name},
                              {"format", io::to_string(package.format(layer.name))},
                              {"bytes", package.stored_bytes(layer.name)},
                              {"relative_error", layer.relative_error}});
  }
  fmt::print("{}\n", json.dump(2));
}

void quantize_verb(const QuantizeFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  if (flags.scheme.empty()) fail(ErrorCode::kInvalidArgument, "[quantize] '{}': --scheme is needed", flags.model);
  quantize::Recipe recipe = make_recipe(flags);
  exec::initialise(flags.threads);
  check_output(flags.model, flags.output);
  import::LanguageModel model = import::load_language_model(flags.model);
  std::fprintf(stderr, "Body %s, embedding and head %s%s.\n", io::to_string(recipe.body).c_str(),
               io::to_string(recipe.head).c_str(), flags.head.empty() ? " (--head chooses another)" : "");
  quantize::QuantizeOptions options;
  options.threads = flags.threads;
  options.max_ram_bytes = flags.max_ram_bytes;
  options.output = flags.output;
  calib::CalibrationTokens tokens;
  std::vector<std::byte> blob;
  if (recipe.method == quantize::ScaleMethod::kSearch) {
    tokens = calibration(model, flags, options, &recipe.calibration);
    blob = calib::tokens_to_blob(tokens);
  }
  const auto layers = quantize::quantize_model(model, recipe, &tokens, options);
  deploy::write_package(model, formats_of(layers), quantize::recipe_to_json(recipe), blob, flags.output);
  report(flags, recipe, layers, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

// Flags of the other kind of model would be without effect.
void refuse_given(const CLI::App& verb, const std::vector<std::string>& names, const std::string& model, const char* kind) {
  for (const std::string& name : names) {
    if (verb.get_option(name)->count() > 0) fail(ErrorCode::kInvalidArgument, "[quantize] '{}' is {}: {} has no meaning for it", model, kind, name);
  }
}

void quantize_any(const CLI::App& verb, const QuantizeFlags& flags, QuantizeNetworkFlags network,
                  const std::vector<std::string>& network_flags) {
  if (!io::is_network(io::detect_model_kind(flags.model))) {
    refuse_given(verb, network_flags, flags.model, "a language model");
    return quantize_verb(flags);
  }
  refuse_given(verb, {"--group-size", "--asym", "--head", "--calib", "--calib-tokens", "--max-ram"}, flags.model, "a network");
  network.model = flags.model, network.output = flags.output;
  network.opset_given = verb.count("--opset") > 0;
  check_network_flags(verb, network);
  network.scheme = flags.scheme, network.scale = flags.scale;
  network.overrides = flags.overrides;
  network.seed = flags.seed, network.json = flags.json;
  network.threads = flags.threads > 0 ? flags.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  exec::initialise(network.threads);
  quantize_network_file(network);
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  auto network = std::make_shared<QuantizeNetworkFlags>();
  CLI::App* verb = app.add_subcommand("quantize", "Round a model's weights, and a network's activations, to INT8, INT4 or fewer bits");
  verb->add_option("MODEL", flags->model, "GGUF file, Hugging Face folder, or ONNX network")->required();
  verb->add_option("-o,--output", flags->output, "package to write (.plk); a network may be written as ONNX (.onnx), too")->required();
  verb->add_option("--scheme", flags->scheme,
                   "int8, int4: weights only; w8a8, w4a8: inputs go to INT8 as they come too, which is faster. Networks: bits of "
                   "the weights; --activations says what inputs go to")
      ->check(CLI::IsMember({"int4", "int8", "w8a8", "w4a8"}));
  verb->add_option("--group-size", flags->group_size, "columns that share a scale")
      ->check(CLI::IsMember({"32", "64", "128", "row"}))
      ->capture_default_str();
  verb->add_flag("--asym", flags->asymmetric, "INT4 with zero points; such a package rarely fits GGUF exactly, a Hugging Face folder it does");
  verb->add_option("--scale", flags->scale, "absmax: nothing clips; search: least error weighted by calibration text")
      ->check(CLI::IsMember({"absmax", "search"}))
      ->capture_default_str();
  verb->add_option("--head", flags->head, "SCHEME[:GROUP] of embedding and output head (also f16); INT8 unless given");
  verb->add_option("--override", flags->overrides,
                   "'PATTERN=SCHEME[:GROUP]' for tensors whose name matches the glob; the last match wins; may be repeated. "
                   "Networks: 'PATTERN=int8|int4|wN|wNaM|f16|float' for layers, by the name of node or weight")
      ->allow_extra_args(false);
  verb->add_option("--calib", flags->calib, "text file to calibrate on; without it the model writes its own text");
  verb->add_option("--calib-tokens", flags->calib_tokens, "tokens of calibration, in windows of 512 spread over the text")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "of the text that the model writes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--max-ram", flags->max_ram_bytes,
                   "memory for calibration's hidden states (such as 500M or 2G); the rest goes to a temporary file")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("1G");
  verb->add_option("--threads", flags->threads, "0: one per processor")->check(CLI::Range(0, 1024))->capture_default_str();
  verb->add_flag("--json", flags->json,
                 "a report for machines on standard output; relative_error of a layer: sum h (w - w')^2 / sum h w^2, h the importance");
  const std::vector<std::string> network_flags = add_network_flags(*verb, *network);
  verb->footer(
      "Examples:\n"
      "  packlight quantize model.gguf -o model.plk --scheme w4a8 --group-size 32 --calib text.txt\n"
      "  packlight quantize folder/ -o model.plk --scheme int8 --group-size row --scale absmax\n"
      "  packlight quantize model.gguf -o model.plk --scheme int4 --group-size 64 --asym --head int8:row \\\n"
      "      --override '*.down_proj.weight=int8:64'\n"
      "  packlight quantize lenet5.onnx -o q.onnx --scheme int8 --data mnist\n"
      "  packlight quantize detector.onnx -o q.onnx --scheme int4 --data photos --first-last int8 --adaround --equalize");
  verb->callback([=] { quantize_any(*verb, *flags, *network, network_flags); });
}

}  // namespace packlight::cli
