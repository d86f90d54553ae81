#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/tensor_record.h"

namespace packlight::data {

// NumPy's NPZ: a ZIP archive of NPY files, stored or deflated. The records come in the order of the
// archive's directory, named as their entries without ".npy". Stored arrays are views of the file
// where alignment allows; deflated ones are unpacked into memory. Errors: NotFound, Io; Corrupt for
// a damaged archive (directory, overlapping entries, sizes that lie, a checksum that differs, a
// name twice) or a damaged array; Unsupported for encryption, other compression, entries that are
// no ".npy", archives of several files, and ZIP64 (archives of 4 GB and more).
std::vector<io::TensorRecord> read_npz(const std::filesystem::path& path);
// The same over bytes that `owner` keeps alive; `origin` is the path for error messages.
std::vector<io::TensorRecord> parse_npz(std::span<const std::byte> bytes,
                                        std::shared_ptr<const void> owner,
                                        const std::string& origin);

}  // namespace packlight::data
