#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/fail.h"
#include "base/json.h"
#include "cli/verbs.h"
#include "codec/dtype.h"
#include "io/compressed_tensors.h"
#include "io/gguf.h"
#include "io/hf_folder.h"
#include "io/package.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace packlight::cli {
namespace {

struct Arguments {
  std::string model;
  std::vector<std::string> input_shapes;
  bool graph = false, groups = false, json = false;
};

struct TensorRow {
  std::string name, format;
  std::vector<int64_t> shape;
  uint64_t elements = 0, bytes = 0;
};

// What any of the formats tells.
struct Inspection {
  io::ModelKind kind;
  io::DecoderConfig config;
  std::vector<TensorRow> tensors;
  Json tokenizer = Json::object();
  Json package;  // null unless the model is one
};

TensorRow row_of(const io::TensorRecord& t) {
  return {t.name, std::string(codec::info(t.dtype).name), t.shape, static_cast<uint64_t>(t.elements()), t.bytes.size()};
}

std::string piece_of(const text::Tokenizer& tokenizer, text::TokenId id) {
  return id < 0 ? std::string() : std::string(tokenizer.piece(id));
}

Json describe(const text::Tokenizer& tokenizer) {
  Json out;
  out["vocab_size"] = tokenizer.vocab_size();
  out["adds_bos"] = tokenizer.adds_bos();
  const std::string bos = piece_of(tokenizer, tokenizer.bos()), eos = piece_of(tokenizer, tokenizer.eos());
  out["bos"] = tokenizer.bos() < 0 ? Json() : Json(bos);
  out["eos"] = tokenizer.eos() < 0 ? Json() : Json(eos);
  out["chat_template"] = Json();
  if (tokenizer.chat_template().empty()) return out;
  try {
    out["chat_template"] = text::chat_family_name(text::ChatTemplate::recognise(tokenizer.chat_template(), bos, eos).family());
  } catch (const Error&) {
    out["chat_template"] = "unknown";
  }
  return out;
}

// A tokenizer that cannot be used is a fact about the model, not a failure of inspect.
template <class Load>
Json describe_tokenizer(const Load& load) {
  try {
    return describe(load());
  } catch (const Error& e) {
    return {{"error", e.what()}};
  }
}

Inspection inspect_gguf(const std::string& path) {
  const io::GgufFile file = io::read_gguf(path);
  Inspection out{io::ModelKind::kGguf, io::decoder_config_from_gguf(file), {}, {}, {}};
  for (const io::TensorRecord& t : file.tensors) out.tensors.push_back(row_of(t));
  out.tokenizer = describe_tokenizer([&] { return text::Tokenizer::from_gguf(file); });
  return out;
}

// The codes, scales, zero points and shape of a compressed matrix are one weight of rows x cols parameters.
std::vector<TensorRow> rows_of(const io::HfFolder& folder, const io::DecoderConfig& config) {
  std::vector<TensorRow> rows;
  std::set<std::string, std::less<>> parts;
  if (io::CompressedTensors::present(folder)) {
    const io::CompressedTensors compressed(folder);
    for (const io::TensorSpec& spec : io::decoder_tensors(config)) {
      const std::string module = spec.name.substr(0, spec.name.rfind('.'));
      if (spec.is_vector || !compressed.contains(module)) continue;
      TensorRow row{spec.name, fmt::format("INT{}", compressed.bits(module)), {spec.rows, spec.cols},
                    static_cast<uint64_t>(spec.rows) * static_cast<uint64_t>(spec.cols), 0};
      for (const std::string& name : compressed.tensor_names(module)) {
        row.bytes += folder.find(name)->bytes.size();
        parts.insert(name);
      }
      rows.push_back(std::move(row));
    }
  }
  for (const io::TensorRecord& t : folder.tensors) {
    if (!parts.contains(t.name)) rows.push_back(row_of(t));
  }
  return rows;
}

Inspection inspect_hf(const std::string& path) {
  const io::HfFolder folder = io::read_hf_folder(path);
  const Json* generation = folder.generation_config ? &*folder.generation_config : nullptr;
  Inspection out{io::ModelKind::kHfFolder, io::decoder_config_from_hf(folder.config, generation, path), {}, {}, {}};
  out.tensors = rows_of(folder, out.config);
  if (!folder.tokenizer_json.empty()) {
    out.tokenizer =
        describe_tokenizer([&] { return text::Tokenizer::from_hf(folder.tokenizer_json, folder.tokenizer_config); });
  }
  return out;
}

Inspection inspect_package(const std::string& path) {
  const auto package = std::make_shared<const io::Package>(io::Package::open(path));
  Inspection out{io::ModelKind::kPackage, package->config(), {}, {}, {}};
  for (const io::TensorSpec& spec : io::decoder_tensors(package->config())) {
    if (!package->contains(spec.name)) continue;
    const std::vector<int64_t> shape =
        spec.is_vector ? std::vector<int64_t>{spec.cols} : std::vector<int64_t>{spec.rows, spec.cols};
    const auto elements = static_cast<uint64_t>(spec.rows) * static_cast<uint64_t>(spec.cols);
    const std::string format = spec.is_vector ? "f32" : io::to_string(package->format(spec.name));
    out.tensors.push_back({spec.name, format, shape, elements, package->stored_bytes(spec.name)});
  }
  const std::span<const std::byte> blob = package->blob("tokenizer");
  if (!blob.empty()) {
    out.tokenizer = describe_tokenizer([&] { return text::Tokenizer::from_blob(blob, package->owner(), path); });
  }
  out.package = {{"format_version", package->metadata().format_version},
                 {"size_bytes", package->size_bytes()},
                 {"recipe", package->metadata().recipe}};
  return out;
}

Inspection inspect_model(const std::string& path) {
  switch (const io::ModelKind kind = io::detect_model_kind(path)) {
    case io::ModelKind::kGguf: return inspect_gguf(path);
    case io::ModelKind::kHfFolder: return inspect_hf(path);
    case io::ModelKind::kPackage: return inspect_package(path);
    default:
      fail(ErrorCode::kUnsupported,
           "[inspect] '{}' is of the kind {}: this program inspects GGUF files, Hugging Face folders and "
           "language model packages",
           path, io::model_kind_name(kind));
  }
}

// One value where all layers agree, otherwise the list.
Json per_layer(const std::vector<int64_t>& values) {
  const bool equal = std::equal(values.begin() + (values.empty() ? 0 : 1), values.end(), values.begin());
  return equal && !values.empty() ? Json(values.front()) : Json(values);
}

Json architecture_json(const io::DecoderConfig& c) {
  Json out;
  out["family"] = c.family;
  out["name"] = c.name;
  out["layers"] = c.layers();
  out["hidden_size"] = c.hidden_size;
  out["heads"] = per_layer(c.heads);
  out["kv_heads"] = per_layer(c.kv_heads);
  out["head_dim"] = c.head_dim;
  out["ffn_size"] = per_layer(c.ffn_size);
  out["vocab_size"] = c.vocab_size;
  out["max_positions"] = c.max_positions;
  out["rope_theta"] = c.rope_theta;
  out["rope_scaling"] = c.rope_scaling ? Json("llama3") : Json();
  out["rms_epsilon"] = c.rms_epsilon;
  out["sliding_window"] = c.sliding_window;
  out["tied_embeddings"] = c.tied_embeddings;
  out["qkv_bias"] = c.qkv_bias;
  out["eos_tokens"] = c.eos_tokens;
  return out;
}

struct Totals {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};

Json to_json(const Inspection& model) {
  Json out;
  out["kind"] = io::model_kind_name(model.kind);
  out["architecture"] = architecture_json(model.config);
  Totals all;
  std::map<std::string, Totals> by_format;
  Json tensors = Json::array();
  for (const TensorRow& t : model.tensors) {
    tensors.push_back({{"name", t.name}, {"dtype", t.format}, {"shape", t.shape}, {"bytes", t.bytes}});
    for (Totals* sum : {&all, &by_format[t.format]}) {
      ++sum->tensors;
      sum->elements += t.elements;
      sum->bytes += t.bytes;
    }
  }
  out["parameters"] = all.elements;
  out["weight_bytes"] = all.bytes;
  out["bits_per_weight"] = all.elements == 0 ? 0 : 8.0 * static_cast<double>(all.bytes) / static_cast<double>(all.elements);
  for (const auto& [format, sum] : by_format) {
    out["formats"][format] = {{"tensors", sum.tensors}, {"parameters", sum.elements}, {"bytes", sum.bytes}};
  }
  // Keys and values of a position: F16; or INT8 with an F32 scale per head for each of the two.
  uint64_t kv_heads = 0;
  for (const int64_t heads : model.config.kv_heads) kv_heads += static_cast<uint64_t>(heads);
  const auto head_dim = static_cast<uint64_t>(model.config.head_dim);
  const uint64_t f16 = kv_heads * head_dim * 2 * 2, q8 = kv_heads * (head_dim + 4) * 2;
  const int64_t context = model.config.max_positions > 0 ? std::min<int64_t>(2048, model.config.max_positions) : 2048;
  out["kv_bytes_per_token"] = {{"f16", f16}, {"q8", q8}};
  out["memory"] = {{"context", context},
                   {"kv_cache_bytes", f16 * static_cast<uint64_t>(context)},
                   {"weights_and_kv_cache_bytes", all.bytes + f16 * static_cast<uint64_t>(context)}};
  out["tokenizer"] = model.tokenizer;
  if (!model.package.is_null()) out["package"] = model.package;
  out["tensors"] = std::move(tensors);
  return out;
}

std::string shown(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace); }

double megabytes(const Json& bytes) { return bytes.get<double>() / 1e6; }

void print_tensors(const Json& tensors) {
  size_t width = 0;
  for (const Json& t : tensors) width = std::max(width, t["name"].get_ref<const std::string&>().size());
  for (const Json& t : tensors) {
    fmt::print("{:<{}}  {:<10}  {:<16}  {:>12}\n", shown(t["name"]), width, shown(t["dtype"]), t["shape"].dump(),
               t["bytes"].get<uint64_t>());
  }
}

void print_text(const std::string& path, const Json& m) {
  const Json& a = m["architecture"];
  const Json& tokenizer = m["tokenizer"];
  fmt::print("{}: {}\n", path, shown(m["kind"]));
  fmt::print("architecture   {}{}: {} layers, width {}, {} heads on {} KV heads of {}, FFN {}, vocabulary {}{}\n",
             shown(a["family"]), a["name"] == "" ? "" : " " + shown(a["name"]), a["layers"].dump(), a["hidden_size"].dump(), a["heads"].dump(),
             a["kv_heads"].dump(), a["head_dim"].dump(), a["ffn_size"].dump(), a["vocab_size"].dump(),
             a["tied_embeddings"].get<bool>() ? ", tied embedding" : "");
  fmt::print("positions      context {}, rotary base {}{}{}\n", a["max_positions"].dump(), a["rope_theta"].dump(),
             a["rope_scaling"].is_null() ? "" : ", Llama 3 scaling",
             a["sliding_window"] == 0 ? "" : ", sliding window " + a["sliding_window"].dump());
  fmt::print("weights        {} parameters, {:.1f} MB, {:.2f} bits per weight\n", m["parameters"].dump(),
             megabytes(m["weight_bytes"]), m["bits_per_weight"].get<double>());
  for (const auto& [format, sum] : m["formats"].items()) {
    fmt::print("  {:<12} {} tensors, {} parameters, {:.1f} MB\n", format, sum["tensors"].dump(),
               sum["parameters"].dump(), megabytes(sum["bytes"]));
  }
  if (tokenizer.contains("error")) {
    fmt::print("tokenizer      cannot be used: {}\n", shown(tokenizer["error"]));
  } else if (tokenizer.empty()) {
    fmt::print("tokenizer      none\n");
  } else {
    fmt::print("tokenizer      {} tokens, begin {}, end {}, chat template {}\n", tokenizer["vocab_size"].dump(),
               tokenizer["adds_bos"].get<bool>() ? shown(tokenizer["bos"]) : "not added", shown(tokenizer["eos"]),
               tokenizer["chat_template"].is_null() ? "none" : shown(tokenizer["chat_template"]));
  }
  fmt::print("KV cache       {} bytes a token (F16), {} (8-bit)\n", m["kv_bytes_per_token"]["f16"].dump(),
             m["kv_bytes_per_token"]["q8"].dump());
  fmt::print("memory         weights and F16 KV cache at context {}: {:.1f} MB\n", m["memory"]["context"].dump(),
             megabytes(m["memory"]["weights_and_kv_cache_bytes"]));
  if (m.contains("package")) {
    fmt::print("package        format {}, {:.1f} MB, recipe {}\n", m["package"]["format_version"].dump(),
               megabytes(m["package"]["size_bytes"]), m["package"]["recipe"].dump());
  }
  fmt::print("\n");
  print_tensors(m["tensors"]);
}

void run(const Arguments& arguments) {
#ifndef PACKLIGHT_RUNTIME_ONLY
  if (arguments.graph && !arguments.json) {
    fmt::print("{}", graph_text(arguments.model));
    return;
  }
#endif
#ifndef PACKLIGHT_RUNTIME_ONLY
  if (arguments.groups) {
    const Json groups = inspect_groups(arguments.model, arguments.input_shapes);
    if (arguments.json) {
      fmt::print("{}\n", groups.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
      print_groups(groups);
    }
    return;
  }
  if (io::is_network(io::detect_model_kind(arguments.model))) {
    Json network = inspect_network(arguments.model, arguments.input_shapes);
    if (arguments.graph) network["graph"] = graph_text(arguments.model);
    if (arguments.json) {
      fmt::print("{}\n", network.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
      print_network(arguments.model, network);
    }
    return;
  }
#endif
  Json result = to_json(inspect_model(arguments.model));
#ifndef PACKLIGHT_RUNTIME_ONLY
  if (arguments.graph) result["graph"] = graph_text(arguments.model);
#endif
  if (arguments.json) {
    fmt::print("{}\n", result.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(arguments.model, result);
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what a model is made of");
  verb->add_option("MODEL", arguments->model, "GGUF file, Hugging Face folder, ONNX file or package (.plk)")->required();
#ifndef PACKLIGHT_RUNTIME_ONLY
  verb->add_option("--input-shape", arguments->input_shapes,
                   "Network: NAME=1,3,48,320; multiply-accumulates and memory are counted for it");
  verb->add_flag("--graph", arguments->graph, "Print the network as operators, one a line");
  verb->add_flag("--groups", arguments->groups,
                 "List what can be pruned: channels, heads and neurons, with the weights that get smaller together");
#endif
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  packlight inspect model.gguf\n"
      "  packlight inspect small.plk --json\n"
      "  packlight inspect network.onnx --input-shape 1,3,224,224\n"
      "  packlight inspect network.plk --input-shape 1,3,224,224\n"
      "  packlight inspect network.onnx --groups --input-shape 1,3,224,224\n");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace packlight::cli
