#include "base/json.h"

#include <fstream>
#include <sstream>

#include "base/fail.h"
#include "base/mapped_file.h"

namespace packlight::base {

Json parse_json(std::string_view text, std::string_view origin) {
  // Deeply nested input would overflow the stack of a recursive destructor, so depth is bounded first.
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > 200) fail(ErrorCode::kCorrupt, "[json] '{}': nested deeper than 200 levels", origin);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    fail(ErrorCode::kCorrupt, "[json] '{}': {}", origin, e.what());
  }
}

void check_is_text(std::string_view text, const std::filesystem::path& path) {
  const size_t zero = text.find('\0');
  if (zero == std::string_view::npos) return;
  fail(ErrorCode::kInvalidArgument, "[text] '{}' is no plain text: byte {} is zero", path.string(), zero);
}

bool is_utf8(std::string_view text) {
  try {
    Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

std::string read_text_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
}

Json read_json_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return parse_json({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()},
                    path.string());
}

}  // namespace packlight::base
