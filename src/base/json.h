#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace packlight {

using Json = nlohmann::ordered_json;

namespace base {

// Parses UTF-8 JSON; `origin` names the file in the error. Depth is limited to 200 levels.
// Errors: Corrupt with position and reason.
Json parse_json(std::string_view text, std::string_view origin);

// Errors: InvalidArgument naming the first byte when a text file holds a zero byte, which text does not.
void check_is_text(std::string_view text, const std::filesystem::path& path);

// Whether `text` may be a string of a Json that is written out.
bool is_utf8(std::string_view text);

// Reads and parses a file. Errors: NotFound, Io, Corrupt.
Json read_json_file(const std::filesystem::path& path);

// Reads a whole file as text. Errors: NotFound, Io.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace base
}  // namespace packlight
