#include "cli/compress/language_model_output.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "deploy/folder_output.h"
#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"

namespace packlight::cli {

void check_language_model_output(const std::string& output, std::string_view verb) {
  const std::string extension = std::filesystem::path(output).extension().string();
  if (extension == ".plk" || extension == ".onnx" || extension == ".safetensors") {
    fail(ErrorCode::kUnsupported,
         "[{}] '{}': the language model is written as a .gguf file or a Hugging Face "
         "folder{}",
         verb, output, extension == ".plk" ? "; 'packlight quantize' makes packages of those" : "");
  }
  if (extension == ".gguf") {
    const base::AtomicFile unused(output);
  } else {
    const deploy::FolderOutput unused(output);
  }
}

void write_language_model(const import::LanguageModel& model, const std::string& output) {
  if (std::filesystem::path(output).extension() == ".gguf") {
    deploy::write_gguf_model(model, output);
  } else {
    deploy::write_hf_folder(model, output);
  }
}

}  // namespace packlight::cli
