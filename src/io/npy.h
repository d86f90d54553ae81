#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "codec/dtype.h"
#include "io/tensor_record.h"

namespace packlight::io {

// NumPy's array files (numpy.lib.format, versions 1.0 to 3.0): one array, its type and its shape.
// Types: f8 f4 f2 i8 i4 i2 i1 u1 and bool of either byte order. Big-endian data and data in Fortran
// order are converted (a copy in memory); everything else is a view of the file. The record's name
// is the file's name without its extension. Errors: NotFound, Io; Corrupt for truncation, a damaged
// header, data that are not exactly what type and shape imply, booleans other than 0 and 1;
// Unsupported for other types (u2, complex, text, structures, pickled objects) and other versions.
TensorRecord read_npy(const std::filesystem::path& path);
// The same over bytes that `owner` keeps alive; `origin` is the path for error messages.
TensorRecord parse_npy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                       const std::string& origin, std::string name);

// Writes one array (version 1.0, C order, little endian, data at a multiple of 64 bytes)
// atomically. `bytes`: the elements in row-major order. Errors: InvalidArgument for a type that NPY
// lacks or a size that is not shape's; Io.
void write_npy(const std::filesystem::path& path, codec::DType dtype,
               std::span<const int64_t> shape, std::span<const std::byte> bytes);

}  // namespace packlight::io
