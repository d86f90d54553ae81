#include "cli/compress/network_output.h"

#include <cstdio>
#include <filesystem>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "data/preprocess.h"
#include "deploy/network_package.h"
#include "io/hf_folder.h"
#include "io/network_package.h"

namespace packlight::cli {
namespace {

// What was done to the network, as its file says.
Json recipe_of(const import::OnnxNetwork& network, const std::string& model) {
  if (io::detect_model_kind(model) == io::ModelKind::kNetworkPackage)
    return io::NetworkPackage::open(model).metadata().recipe;
  const auto kept = network.metadata.find(kRecipeKey);
  return kept == network.metadata.end() ? Json() : base::parse_json(kept->second, model);
}

WrittenNetwork write_package(const import::OnnxNetwork& network, const NetworkOutput& output,
                             const Json& recipe, const Json& preprocess) {
  deploy::NetworkPackageNotes notes;
  notes.recipe = recipe;
  notes.preprocess = preprocess;
  notes.metadata = network.metadata;
  notes.metadata.erase(kRecipeKey);
  notes.metadata.erase(kPreprocessKey);
  deploy::write_network_package(network.graph, notes, output.path);
  return {std::filesystem::file_size(output.path), std::nullopt};
}

}  // namespace

WrittenNetwork write_network(const import::OnnxNetwork& network, const NetworkOutput& output) {
  const Json recipe = output.recipe.is_null() ? recipe_of(network, output.model) : output.recipe;
  Json preprocess;
  if (const auto found = preprocess_of_model(output.model, output.preprocess))
    preprocess = data::preprocess_to_json(*found);
  if (output.as_package) return write_package(network, output, recipe, preprocess);
  deploy::OnnxOptions writing;
  writing.opset = output.opset;
  writing.exact_opset = output.opset_given;
  writing.weights = output.weights;
  writing.producer_version = PACKLIGHT_VERSION;
  writing.metadata = network.metadata;
  if (!recipe.is_null()) writing.metadata[kRecipeKey] = recipe.dump();
  if (!preprocess.is_null()) writing.metadata[kPreprocessKey] = preprocess.dump();
  const deploy::OnnxReport report = deploy::write_onnx(network.graph, output.path, writing);
  for (const std::string& notice : report.notices)
    std::fprintf(stderr, "note: %s\n", notice.c_str());
  return {std::filesystem::file_size(output.path) + report.external_bytes, report.opset};
}

bool is_package_name(const std::string& path, const char* verb) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".plk" || extension == ".onnx") return extension == ".plk";
  fail(ErrorCode::kInvalidArgument,
       "[{}] output '{}': a network is written as a package (.plk) or as ONNX (.onnx)", verb, path);
}

}  // namespace packlight::cli
