#include "io/package.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error_code.h"
#include "io/hf_folder.h"
#include "io/hostile.h"
#include "io/tiny_package.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using codec::EncodedTensor;
using test::Bytes;
using test::expect_error;
using test::TempDir;
using test::TinyPackage;

Bytes bytes_of(std::span<const std::byte> span) { return {span.begin(), span.end()}; }

// The package parser needs bytes that start on a line, as a mapped file does.
Package parse_aligned(std::span<const std::byte> bytes) {
  const size_t room = (bytes.size() / 64 + 1) * 64;
  const std::shared_ptr<std::byte> copy(static_cast<std::byte*>(std::aligned_alloc(64, room)),
                                        std::free);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return Package::parse({copy.get(), bytes.size()}, copy, "x.plk");
}

TEST(PackageTest, HoldsWhatWasWritten) {
  const TempDir dir;
  const TinyPackage tiny;
  tiny.write(dir / "x.plk");
  const Package package = Package::open(dir / "x.plk");
  EXPECT_EQ(package.size_bytes(), std::filesystem::file_size(dir / "x.plk"));
  EXPECT_EQ(package.metadata().recipe, tiny.metadata.recipe);
  EXPECT_EQ(package.metadata().formats, tiny.metadata.formats);
  EXPECT_EQ(package.config().ffn_size, tiny.metadata.config.ffn_size);
  for (const PackageTensor& want : tiny.tensors) {
    SCOPED_TRACE(want.name);
    ASSERT_TRUE(package.contains(want.name));
    const EncodedTensor got = package.tensor(want.name);
    EXPECT_EQ(got.dtype, want.weight.dtype);
    EXPECT_EQ(got.rows, want.weight.rows);
    EXPECT_EQ(got.cols, want.weight.cols);
    EXPECT_EQ(bytes_of(got.data), bytes_of(want.weight.data));
    EXPECT_EQ(bytes_of(got.scales), bytes_of(want.weight.scales));
    EXPECT_EQ(bytes_of(got.zeros), bytes_of(want.weight.zeros));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got.data.data()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got.scales.data()) % 64, 0u);
    codec::check_sizes(got, want.name);
    std::vector<float> row(got.cols), expected(got.cols);
    codec::decode_rows(got, 0, 1, row.data());
    codec::decode_rows(want.weight, 0, 1, expected.data());
    EXPECT_EQ(row, expected);
  }
  EXPECT_EQ(bytes_of(package.blob("tokenizer")),
            bytes_of(std::as_bytes(std::span(tiny.tokenizer))));
  EXPECT_TRUE(package.blob("nothing").empty());
  EXPECT_EQ(package.format("model.norm.weight").dtype, DType::kF32);
  EXPECT_FALSE(package.contains("lm_head"));
  expect_error(ErrorCode::kNotFound, {"x.plk", "lm_head"}, [&] { package.tensor("lm_head"); });
  expect_error(ErrorCode::kNotFound, {"x.plk", "lm_head"}, [&] { package.format("lm_head"); });
}

TEST(PackageTest, HoldsWhatWasPruned) {
  const TempDir dir;
  TinyPackage tiny;
  tiny.compress();
  tiny.write(dir / "x.plk");
  const Package package = Package::open(dir / "x.plk");
  EXPECT_EQ(package.metadata().formats, tiny.metadata.formats);
  EXPECT_TRUE(package.damaged_blocks().empty());
  std::map<codec::Sparsity, int> forms;
  for (const PackageTensor& want : tiny.tensors) {
    SCOPED_TRACE(want.name);
    const codec::SparseTiles* got = package.sparse(want.name);
    ASSERT_EQ(got != nullptr, want.sparse.form != codec::Sparsity::kNone);
    const EncodedTensor dense = package.tensor(want.name);
    EXPECT_EQ(bytes_of(dense.data), bytes_of(want.weight.data));
    EXPECT_EQ(bytes_of(dense.scales), bytes_of(want.weight.scales));
    EXPECT_EQ(bytes_of(dense.zeros), bytes_of(want.weight.zeros));
    if (got == nullptr) continue;
    ++forms[got->form];
    EXPECT_EQ(got->form, want.sparse.form);
    EXPECT_EQ(bytes_of(got->data), bytes_of(want.sparse.data));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got->data.data()) % 64, 0u);
    EXPECT_EQ(package.stored_bytes(want.name), want.sparse.size_bytes());
  }
  EXPECT_GT(forms[codec::Sparsity::kBitmask], 1);
  EXPECT_GT(forms[codec::Sparsity::kTwoOfFour], 1);
}

TEST(PackageTest, MasksThatContradictTheirMatrixAreRefusedAtOnce) {
  const TempDir dir;
  TinyPackage tiny;
  tiny.compress();
  tiny.write(dir / "x.plk");
  const Bytes good = test::read_file(dir / "x.plk");
  const Package sound = parse_aligned(good);
  const auto expect_refused = [&](const std::string& name, std::string rule, size_t at,
                                  std::byte flip) {
    const std::byte* first = sound.sparse(name)->data.data();
    Bytes bytes = good;
    bytes[first + at - static_cast<const std::byte*>(sound.owner().get())] ^= flip;
    expect_error(ErrorCode::kCorrupt, {"x.plk", name, rule}, [&] { parse_aligned(bytes); });
  };
  const std::string masked = "model.layers.0.self_attn.q_proj.weight";
  const std::string paired = "model.layers.1.self_attn.k_proj.weight";
  const size_t masks = 2 * 8 * 16;  // two row tiles of 64 columns
  expect_refused(masked, "masks", masks, std::byte{1});
  expect_refused(masked, "masks", masks + 8, std::byte{1});
  expect_refused(masked, "bytes", masks + 2 * 8 + 7, std::byte{0x80});
  expect_refused(paired, "positions", 32, std::byte{0x0f});
}

// The corpus has one of the first that held pruned matrices.
TEST(PackageTest, WritesThePrunedBytesItAlwaysDid) {
  const TempDir dir;
  TinyPackage tiny;
  tiny.compress();
  tiny.write(dir / "x.plk");
  EXPECT_EQ(test::read_file(dir / "x.plk"),
            test::read_file(std::filesystem::path(PACKLIGHT_SOURCE_DIR) /
                            "tests/io/corpus/package/written_pruned"));
}

// Every byte of the masks, offsets and positions decides what is read, so each is tried.
TEST(PackageTest, NoMutationOfAPrunedMatrixCrashes) {
  const TempDir dir;
  TinyPackage tiny;
  tiny.compress();
  tiny.write(dir / "x.plk");
  Bytes bytes = test::read_file(dir / "x.plk");
  const Package sound = Package::open(dir / "x.plk");
  int refused = 0;
  for (const char* name :
       {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"}) {
    SCOPED_TRACE(name);
    ASSERT_NE(sound.sparse(name), nullptr);
    const auto part = bytes_of(sound.sparse(name)->data);
    const auto at = std::search(bytes.begin(), bytes.end(), part.begin(), part.end());
    ASSERT_NE(at, bytes.end());
    for (size_t i = 0; i < part.size(); ++i) {
      at[static_cast<ptrdiff_t>(i)] ^= std::byte{static_cast<uint8_t>(1 + i % 255)};
      const bool read = test::parses(bytes, parse_aligned);  // at once: kernels check nothing
      refused += read ? 0 : 1;
      at[static_cast<ptrdiff_t>(i)] = part[i];
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(PackageTest, RefusesSparsityThatIsNone) {
  for (const char* text : {"int8:g32:bitmask", "int4:g32:bitmask:asym", "int4:g32:2of4:bitmask",
                           "int4:g32:4of8", "int4:g32:", "int4:g32:asym:", "f16:bitmask"}) {
    expect_error(ErrorCode::kCorrupt, {text}, [&] { weight_format_from_string(text, "x"); });
  }
  for (const char* text : {"int4:g32:bitmask", "w4a8:row:asym:2of4", "int4:g64:asym"})
    EXPECT_EQ(to_string(weight_format_from_string(text, "x")), text);
}

TEST(PackageTest, SamePackageSameBytes) {
  const TempDir dir;
  TinyPackage().write(dir / "a");
  TinyPackage().write(dir / "b");
  EXPECT_EQ(test::read_file(dir / "a"), test::read_file(dir / "b"));
}

// The corpus has one that was written before packages of networks came.
TEST(PackageTest, WritesTheBytesItAlwaysDid) {
  const TempDir dir;
  TinyPackage().write(dir / "x.plk");
  EXPECT_EQ(test::read_file(dir / "x.plk"),
            test::read_file(std::filesystem::path(PACKLIGHT_SOURCE_DIR) /
                            "tests/io/corpus/package/written_tiny"));
}

TEST(PackageTest, DamageIsFoundInItsBlock) {
  const TempDir dir;
  TinyPackage().write(dir / "x.plk");
  const Bytes good = test::read_file(dir / "x.plk");
  const Package sound = parse_aligned(good);
  EXPECT_TRUE(sound.damaged_blocks().empty());
  const auto damage = [&](std::span<const std::byte> part) {
    Bytes bytes = good;
    bytes[&part.back() - static_cast<const std::byte*>(sound.owner().get())] ^= std::byte{1};
    return parse_aligned(bytes).damaged_blocks();
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(damage(sound.tensor("model.embed_tokens.weight").data), List{"embed"});
  EXPECT_EQ(damage(sound.tensor("model.layers.1.self_attn.q_proj.weight").scales),
            List{"model.layers.1"});
  EXPECT_EQ(damage(sound.tensor("model.layers.0.input_layernorm.weight").data),
            List{"model.layers.0"});
  EXPECT_EQ(damage(sound.tensor("model.norm.weight").data), List{"head"});
  EXPECT_EQ(damage(sound.blob("tokenizer")), List{"tokenizer"});
}

TEST(PackageTest, ChangedMetadataIsFound) {
  const TempDir dir;
  TinyPackage().write(dir / "x.plk");
  const SafetensorsFile file = read_safetensors(dir / "x.plk");
  std::vector<TensorToWrite> tensors;
  for (const TensorRecord& t : file.tensors)
    tensors.push_back({t.name, t.dtype, t.shape, {t.bytes}});
  const auto damage = [&](const std::function<void(Json&)>& edit) {
    Json json = Json::parse(file.metadata.at("packlight"));
    edit(json);
    write_safetensors(dir / "y.plk", tensors, {{"packlight", json.dump()}}, 64);
    return Package::open(dir / "y.plk").damaged_blocks();
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(damage([](Json&) {}), List{});
  EXPECT_EQ(damage([](Json& j) { j["config"]["rope_theta"] = 90000.0; }), List{"metadata"});
  EXPECT_EQ(damage([](Json& j) { j["recipe"] = Json(); }), List{"metadata"});
  EXPECT_EQ(damage([](Json& j) { j["checksums"].erase("metadata"); }), List{"metadata"});
}

TEST(PackageTest, DetectedByItsBytes) {
  const TempDir dir;
  TinyPackage().write(dir / "anything");
  EXPECT_EQ(detect_model_kind(dir / "anything"), ModelKind::kPackage);
}

// Rewrites the package's metadata and keeps its tensors.
class EditedPackage {
 public:
  EditedPackage() { TinyPackage().write(dir_ / "x.plk"); }

  void expect_refused(
      ErrorCode code, std::initializer_list<std::string> parts,
      const std::function<void(Json&)>& edit_metadata,
      const std::function<void(std::vector<TensorToWrite>&)>& edit_tensors = [](auto&) {}) {
    const SafetensorsFile file = read_safetensors(dir_ / "x.plk");
    std::vector<TensorToWrite> tensors;
    for (const TensorRecord& t : file.tensors)
      tensors.push_back({t.name, t.dtype, t.shape, {t.bytes}});
    Json json = Json::parse(file.metadata.at("packlight"));
    edit_metadata(json);
    edit_tensors(tensors);
    write_safetensors(dir_ / "y.plk", tensors, {{"packlight", json.dump()}});
    expect_error(code, parts, [&] { Package::open(dir_ / "y.plk"); });
  }

 private:
  TempDir dir_;
};

TEST(PackageTest, RefusesBrokenMetadata) {
  EditedPackage edited;
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  edited.expect_refused(ErrorCode::kUnsupported, {"y.plk", "version 2"},
                        [](Json& j) { j["format_version"] = 2; });
  edited.expect_refused(corrupt, {"format_version"}, [](Json& j) { j.erase("format_version"); });
  for (const char* key : {"config", "formats", "checksums"}) {
    edited.expect_refused(corrupt, {key}, [&](Json& j) { j.erase(key); });
    edited.expect_refused(corrupt, {key}, [&](Json& j) { j[key] = 5; });
  }
  edited.expect_refused(corrupt, {"y.plk", "FFN size 0"},
                        [](Json& j) { j["config"]["ffn_size"] = 0; });
  edited.expect_refused(corrupt, {"float3"}, [](Json& j) { j["formats"]["default"] = "float3"; });
  edited.expect_refused(corrupt, {"f64"}, [](Json& j) { j["formats"]["f64"] = Json::array(); });
  edited.expect_refused(corrupt, {"no matrix"},
                        [](Json& j) { j["formats"]["f16"] = {"model.norm.weight"}; });
  edited.expect_refused(corrupt, {"no matrix"}, [](Json& j) { j["formats"]["f16"] = {7}; });
  edited.expect_refused(corrupt, {"embed_tokens", "packed format"},
                        [](Json& j) { j["formats"]["f32"] = {"model.embed_tokens.weight"}; });
  edited.expect_refused(corrupt, {"checksum"}, [](Json& j) { j["checksums"]["embed"] = 1; });
  for (const char* group : {"int4:g33", "int4:g9223372036854775776", "int4:g99999999"}) {
    edited.expect_refused(corrupt, {"y.plk", "g"},
                          [&](Json& j) { j["formats"]["default"] = group; });
  }
  edited.expect_refused(corrupt, {"y.plk", "metadata", "limit"},
                        [](Json& j) { j["recipe"] = std::string(70000, 'x'); });
}

TEST(PackageTest, RefusesTensorsThatContradictTheConfig) {
  EditedPackage edited;
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const auto keep = [](Json&) {};
  edited.expect_refused(corrupt, {"lm_head.weight", "missing"},
                        [](Json& j) { j["config"]["tied_embeddings"] = false; });
  edited.expect_refused(corrupt, {"embed_tokens", "bytes"},
                        [](Json& j) { j["config"]["hidden_size"] = 96; });
  edited.expect_refused(corrupt, {"'model.layers.1.mlp.up_proj.weight' is missing"}, keep,
                        [](auto& tensors) {
                          for (auto& t : tensors) {
                            if (t.name == "model.layers.1.mlp.up_proj.weight") t.name = "other";
                          }
                        });
  edited.expect_refused(corrupt, {"model.norm.weight", "I32"}, keep, [](auto& tensors) {
    for (auto& t : tensors) {
      if (t.name == "model.norm.weight") t.dtype = DType::kI32;
    }
  });
  edited.expect_refused(corrupt, {"embed_tokens", "bytes"}, keep, [](auto& tensors) {
    tensors[0].shape[0] -= 64;
    tensors[0].chunks[0] = tensors[0].chunks[0].first(tensors[0].shape[0]);
  });
}

TEST(PackageTest, RefusesTensorsOffTheirLines) {
  const TempDir dir;
  TinyPackage().write(dir / "x.plk");
  Bytes bytes = test::read_file(dir / "x.plk");
  // Eight more spaces in the header move every tensor by eight bytes.
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  bytes.insert(bytes.begin() + 8 + static_cast<ptrdiff_t>(header), 8, std::byte{' '});
  header += 8;
  std::memcpy(bytes.data(), &header, 8);
  expect_error(ErrorCode::kCorrupt, {"x.plk", "embed_tokens", "aligned to 64"},
               [&] { parse_aligned(bytes); });
}

TEST(PackageTest, RefusesOtherSafetensorsFiles) {
  const TempDir dir;
  write_safetensors(dir / "x", {}, {{"format", "pt"}});
  expect_error(ErrorCode::kCorrupt, {"no package"}, [&] { Package::open(dir / "x"); });
}

TEST(PackageTest, TruncationsAreRefusedAndNoMutationCrashes) {
  const TempDir dir;
  TinyPackage().write(dir / "x.plk");
  const Bytes bytes = test::read_file(dir / "x.plk");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  for (size_t size = 0; size < bytes.size(); size += size < 8 + header ? 13 : 997) {
    ASSERT_FALSE(test::parses(std::span(bytes).first(size), parse_aligned)) << size;
  }
  // One value a byte: the header is long, and each parse builds the whole package.
  Bytes copy = bytes;
  for (size_t i = 0; i < 8 + header; ++i) {
    copy[i] ^= std::byte{static_cast<uint8_t>(1 + i % 31)};
    test::parses(copy, [](auto b) { parse_aligned(b).damaged_blocks(); });
    copy[i] = bytes[i];
  }
}

TEST(PackageWriterTest, RefusesWhatDoesNotFit) {
  const TempDir dir;
  const auto refuse = [&](ErrorCode code, std::initializer_list<std::string> parts,
                          const std::function<void(TinyPackage&)>& edit) {
    TinyPackage tiny;
    edit(tiny);
    expect_error(code, parts, [&] { tiny.write(dir / "x"); });
    EXPECT_FALSE(std::filesystem::exists(dir / "x"));
  };
  const ErrorCode invalid = ErrorCode::kInvalidArgument;
  refuse(invalid, {"tensors given"}, [](TinyPackage& t) { t.tensors.pop_back(); });
  refuse(invalid, {"model.norm.weight", "not given"},
         [](TinyPackage& t) { t.tensors.back().name = "x"; });
  refuse(invalid, {"embed_tokens", "[50, 40]"},
         [](TinyPackage& t) { t.tensors[0].weight.rows = 49; });
  refuse(invalid, {"embed_tokens", "no format"},
         [](TinyPackage& t) { t.metadata.formats.clear(); });
  refuse(invalid, {"embed_tokens", "does not match"},
         [](TinyPackage& t) { t.metadata.formats["model.embed_tokens.weight"].group_size = 64; });
  refuse(ErrorCode::kCorrupt, {"embed_tokens"},
         [](TinyPackage& t) { t.tensors[0].weight.data = t.tensors[0].weight.data.first(64); });
  refuse(invalid, {"k_proj", "does not match"}, [](TinyPackage& t) {
    t.compress();
    t.metadata.formats["model.layers.0.self_attn.k_proj.weight"].sparsity = codec::Sparsity::kNone;
  });
  refuse(ErrorCode::kCorrupt, {"head size 7"},
         [](TinyPackage& t) { t.metadata.config.head_dim = 7; });
  refuse(ErrorCode::kUnsupported, {"bytes of metadata", "65536"},
         [](TinyPackage& t) { t.metadata.recipe["long"] = std::string(70000, 'x'); });
  refuse(invalid, {"UTF-8"}, [](TinyPackage& t) { t.metadata.recipe["bad"] = "\xff"; });
}

TEST(WeightFormatTest, TextAndBack) {
  const std::pair<const char*, WeightFormat> formats[] = {
      {"int4:g32", {DType::kTileInt4, 32, true, false}},
      {"w4a8:g128", {DType::kTileInt4, 128, true, true}},
      {"int4:g64:asym", {DType::kTileInt4, 64, false, false}},
      {"w8a8:row", {DType::kTileInt8, 0, true, true}},
      {"int8:row", {DType::kTileInt8, 0, true, false}},
      {"f16", {DType::kTileF16, 0, true, false}},
      {"f32", {DType::kF32, 0, true, false}}};
  for (const auto& [text, format] : formats) {
    EXPECT_EQ(to_string(format), text);
    EXPECT_EQ(weight_format_from_string(text, "x"), format) << text;
  }
  for (const char* text :
       {"", "int4", "int4:", "int4:g", "int4:g0", "int4:g-32", "int4:g32x", "int4:32", "int5:g32",
        "int4:g32:sym", "int4:g32:asym:more", "f16:g32", "int4:g99999999999999999999"}) {
    expect_error(ErrorCode::kCorrupt, {"'x'", text}, [&] { weight_format_from_string(text, "x"); });
  }
}

}  // namespace
}  // namespace packlight::io
