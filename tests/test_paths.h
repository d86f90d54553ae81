#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace packlight::test {

// Where scripts/setup puts what is fetched (models/, venv/, llama/): $PACKLIGHT_CACHE or .cache of the source tree.
inline std::filesystem::path cache_dir() {
  if (const char* dir = std::getenv("PACKLIGHT_CACHE")) return dir;
  return std::filesystem::path(PACKLIGHT_SOURCE_DIR) / ".cache";
}

inline std::filesystem::path smollm_gguf() {
  return cache_dir() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace packlight::test
