#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "io/tensor_record.h"

namespace packlight::data {

// LeCun's IDX format (MNIST): 2 zero bytes, a type, a rank, the dimensions and the elements, all
// big endian. Types 08 U8, 09 I8, 0B I16, 0C I32, 0D F32, 0E F64; those of several bytes are
// converted to this machine's order (a copy), the others are a view of the file. Errors: NotFound,
// Io; Corrupt for another magic, an unknown type, a size that the dimensions contradict;
// Unsupported for a file that is still gzip-compressed.
io::TensorRecord read_idx(const std::filesystem::path& path);
io::TensorRecord parse_idx(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                           const std::string& origin);

}  // namespace packlight::data
