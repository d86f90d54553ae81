#include "io/npy.h"

#include <gtest/gtest.h>

#include <cstring>

#include "error_code.h"
#include "io/hostile.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::Bytes;
using test::expect_error;
using test::TempDir;

test::ByteBuilder file(const std::string& header, int major = 1) {
  test::ByteBuilder builder;
  builder.text("\x93NUMPY").put<uint8_t>(major).put<uint8_t>(0);
  if (major == 1) {
    builder.put<uint16_t>(header.size());
  } else {
    builder.put<uint32_t>(header.size());
  }
  return builder.text(header);
}

std::string header(const std::string& descr, const std::string& shape,
                   const std::string& fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': (" + shape +
         "), }\n";
}

TensorRecord parse(std::span<const std::byte> bytes) {
  return parse_npy(bytes, nullptr, "x.npy", "x");
}

template <class T>
std::vector<T> elements(const TensorRecord& record) {
  std::vector<T> values(record.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), record.bytes.data(), record.bytes.size());
  return values;
}

void expect_refused(const Bytes& bytes, ErrorCode code, std::initializer_list<std::string> parts) {
  expect_error(code, parts, [&] { parse(bytes); });
}

TEST(NpyTest, WritesWhatItReads) {
  const TempDir dir;
  const std::vector<double> numbers = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto bytes = std::as_bytes(std::span(numbers));
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kI64, DType::kI32,
                            DType::kI16, DType::kI8, DType::kU8}) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{2, 3}, std::vector<int64_t>{6},
                                              std::vector<int64_t>{}, std::vector<int64_t>{0, 4}}) {
      const auto data = bytes.first(tensor_bytes(dtype, shape, "x", "x"));
      write_npy(dir / "name.npy", dtype, shape, data);
      const TensorRecord record = read_npy(dir / "name.npy");
      EXPECT_EQ(record.name, "name");
      EXPECT_EQ(record.dtype, dtype);
      EXPECT_EQ(record.shape, shape);
      EXPECT_EQ(Bytes(record.bytes.begin(), record.bytes.end()), Bytes(data.begin(), data.end()));
    }
  }
  expect_error(ErrorCode::kInvalidArgument, {"BF16"}, [&] {
    write_npy(dir / "x", DType::kBF16, std::vector<int64_t>{4}, bytes.first(8));
  });
  expect_error(ErrorCode::kInvalidArgument, {"8 bytes", "need 4"},
               [&] { write_npy(dir / "x", DType::kF32, std::vector<int64_t>{1}, bytes.first(8)); });
}

TEST(NpyTest, ReadsEveryVersionAndSpelling) {
  for (const int major : {1, 2, 3}) {
    const Bytes bytes = file(header("<f4", "2,"), major).put(1.5f).put(2.5f).bytes();
    EXPECT_EQ(elements<float>(parse(bytes)), (std::vector<float>{1.5f, 2.5f}));
  }
  const Bytes odd =
      file("{\"shape\":(1L,2L),\"fortran_order\":False,\"descr\":\"|i1\"}").text("ab").bytes();
  EXPECT_EQ(parse(odd).shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(parse(file(header("|b1", "2,")).put<uint8_t>(0).put<uint8_t>(1).bytes()).dtype,
            DType::kBool);
}

TEST(NpyTest, ConvertsByteOrderAndFortranOrder) {
  const Bytes big =
      file(header(">i4", "2,")).text(std::string("\0\0\1\2\xff\xff\xff\xfe", 8)).bytes();
  EXPECT_EQ(elements<int32_t>(parse(big)), (std::vector<int32_t>{258, -2}));
  // [[1, 2, 3], [4, 5, 6]] by columns.
  const Bytes fortran = file(header("|u1", "2, 3", "True")).text("\1\4\2\5\3\6").bytes();
  EXPECT_EQ(elements<uint8_t>(parse(fortran)), (std::vector<uint8_t>{1, 2, 3, 4, 5, 6}));
  // Three dimensions: element [i, j, k] of shape [2, 2, 2] lies at i + 2 j + 4 k.
  test::ByteBuilder cube = file(header(">i2", "2, 2, 2", "True"));
  for (int i = 0; i < 8; ++i) cube.put<uint8_t>(0).put<uint8_t>(i);
  EXPECT_EQ(elements<int16_t>(parse(cube.bytes())), (std::vector<int16_t>{0, 4, 2, 6, 1, 5, 3, 7}));
}

TEST(NpyTest, RefusesWhatItDoesNotRead) {
  const ErrorCode no = ErrorCode::kUnsupported;
  for (const char* type :
       {"<u2", "<u8", "<c8", "|O", "<U5", "|S3", "<M8[ns]", "<f16", "", "f4", "=f4", "|f4"}) {
    SCOPED_TRACE(type);
    expect_refused(file(header(type, "1,")).zeros(4).bytes(), no,
                   {"x.npy", "'" + std::string(type) + "'"});
  }
  expect_refused(
      file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}").zeros(4).bytes(), no,
      {"structured"});
  expect_refused(file(header("<f4", "1,"), 4).zeros(4).bytes(), no, {"version 4.0"});
}

TEST(NpyTest, RefusesLies) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const auto refuse = [&](const std::string& text, size_t data_bytes,
                          std::initializer_list<std::string> parts) {
    SCOPED_TRACE(text);
    expect_refused(file(text).zeros(data_bytes).bytes(), corrupt, parts);
  };
  refuse(header("<f4", "2,"), 7, {"7 bytes", "need 8", "truncated"});
  refuse(header("<f4", "2,"), 9, {"9 bytes", "more than one"});
  refuse(header("<f4", "9223372036854775807, 4"), 0, {"overflow"});
  refuse(header("<f4", "0, 9223372036854775807, 4"), 0, {"overflow"});
  refuse(header("<f4", "99999999999999999999,"), 0, {"absurd"});
  refuse(header("<f4", "-1,"), 0, {"negative"});
  refuse(header("<f4", "2"), 8, {"tuple"});
  refuse(header("<f4", "x,"), 8, {"dimension expected"});
  refuse(header("<f4", "1,", "Maybe"), 4, {"True or False"});
  std::string many;
  for (int i = 0; i < 65; ++i) many += "1,";
  refuse(header("<f4", many), 4, {"64 dimensions"});
  refuse("{'descr': '<f4', 'shape': (1,)}", 4, {"missing"});
  refuse("{'descr': '<f4', 'descr': '<f4'}", 4, {"twice"});
  refuse("{'more': 1}", 4, {"'more'"});
  refuse("{'descr': '<f4", 4, {"closing quote"});
  refuse("", 4, {"'{'"});
  refuse(header("<f4", "1,") + "x", 4, {"after the closing"});
  expect_refused(file(header("|b1", "2,")).put<uint8_t>(1).put<uint8_t>(2).bytes(), corrupt,
                 {"element 1 is 2"});
  expect_refused(test::ByteBuilder().text("\x93NUMPX").zeros(100).bytes(), corrupt, {"magic"});
  expect_refused(
      test::ByteBuilder().text("\x93NUMPY").put<uint16_t>(2).put<uint32_t>(UINT32_MAX).bytes(),
      corrupt, {"header of 4294967295"});
  expect_error(ErrorCode::kNotFound, {"/nowhere"}, [] { read_npy("/nowhere"); });
}

TEST(NpyTest, EveryTruncationIsRefusedAndNoMutationCrashes) {
  const Bytes bytes = file(header(">f4", "3, 2", "True")).zeros(24).bytes();
  test::expect_truncations_refused(bytes, bytes.size(), [](auto b) { parse(b); });
  test::try_mutations(bytes, bytes.size(), [](auto b) { parse(b); });
}

}  // namespace
}  // namespace packlight::io
