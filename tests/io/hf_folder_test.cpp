#include "io/hf_folder.h"

#include <gtest/gtest.h>

#include "error_code.h"
#include "io/safetensors.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::expect_error;
using test::TempDir;
using test::write_file;

// A file with one-element tensors of these names.
void write_tensors(const std::filesystem::path& path, const std::vector<std::string>& names) {
  static const float value = 1.5f;
  std::vector<TensorToWrite> tensors;
  for (const std::string& name : names) {
    tensors.push_back({name, DType::kF32, {1}, {std::as_bytes(std::span(&value, 1))}});
  }
  write_safetensors(path, tensors, {});
}

TEST(HfFolderTest, SingleFile) {
  const TempDir dir;
  write_file(dir / "config.json",
             R"({"model_type":"llama","quantization_config":{"format":"pack-quantized"}})");
  write_file(dir / "tokenizer.json", "{}");
  write_tensors(dir / "model.safetensors", {"a", "b"});
  const HfFolder folder = read_hf_folder(dir.path());
  EXPECT_EQ(folder.config["quantization_config"]["format"], "pack-quantized");
  EXPECT_FALSE(folder.generation_config.has_value());
  EXPECT_EQ(folder.tokenizer_json, dir / "tokenizer.json");
  EXPECT_TRUE(folder.tokenizer_config.empty());
  ASSERT_EQ(folder.tensors.size(), 2u);
  EXPECT_NE(folder.find("b"), nullptr);
  EXPECT_EQ(folder.find("c"), nullptr);
}

TEST(HfFolderTest, Shards) {
  const TempDir dir;
  write_file(dir / "config.json", "{}");
  write_file(dir / "generation_config.json", R"({"eos_token_id":[1,2]})");
  write_tensors(dir / "one.safetensors", {"a", "unlisted"});
  write_tensors(dir / "two.safetensors", {"b", "c"});
  write_file(
      dir / "model.safetensors.index.json",
      R"({"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}})");
  const HfFolder folder = read_hf_folder(dir.path());
  EXPECT_EQ(folder.tensors.size(), 3u);
  EXPECT_NE(folder.find("a"), nullptr);
  EXPECT_NE(folder.find("c"), nullptr);
  EXPECT_EQ(folder.find("unlisted"), nullptr);
  EXPECT_EQ((*folder.generation_config)["eos_token_id"].size(), 2u);
}

TEST(HfFolderTest, RefusesBrokenIndexes) {
  const TempDir dir;
  write_file(dir / "config.json", "{}");
  write_tensors(dir / "one.safetensors", {"a"});
  const auto refuse = [&](const std::string& index, std::initializer_list<std::string> parts) {
    SCOPED_TRACE(index);
    write_file(dir / "model.safetensors.index.json", index);
    expect_error(ErrorCode::kCorrupt, parts, [&] { read_hf_folder(dir.path()); });
  };
  refuse(R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})",
         {"one.safetensors", "'b'"});
  refuse(R"({"weight_map":{"a":"none.safetensors"}})", {"none.safetensors", "missing"});
  refuse(R"({"weight_map":{"a":"../one.safetensors"}})", {"'a'", "../one.safetensors"});
  refuse(R"({"weight_map":{"a":"/etc/passwd"}})", {"'a'", "/etc/passwd"});
  refuse(R"({"weight_map":{"a":5}})", {"'a'"});
  refuse(R"({"weight_map":{"a":""}})", {"'a'"});
  refuse(R"({"weight_map":[]})", {"weight_map"});
  refuse(R"({})", {"weight_map"});
  refuse(R"([])", {"weight_map"});
  refuse(R"({"weight_map":)", {"json"});
}

TEST(HfFolderTest, RefusesFoldersWithoutAModel) {
  const TempDir dir;
  expect_error(ErrorCode::kNotFound, {"no folder"}, [&] { read_hf_folder(dir / "none"); });
  expect_error(ErrorCode::kNotFound, {"config.json"}, [&] { read_hf_folder(dir.path()); });
  write_file(dir / "config.json", "{}");
  expect_error(ErrorCode::kNotFound, {"model.safetensors"}, [&] { read_hf_folder(dir.path()); });
  write_file(dir / "pytorch_model.bin", "x");
  expect_error(ErrorCode::kUnsupported, {"pickled"}, [&] { read_hf_folder(dir.path()); });
  write_file(dir / "config.json", "{\"a\":");
  expect_error(ErrorCode::kCorrupt, {"config.json"}, [&] { read_hf_folder(dir.path()); });
}

TEST(DetectModelKindTest, LooksAtTheBytes) {
  const TempDir dir;
  write_file(dir / "a.txt", "GGUF\x03");
  EXPECT_EQ(detect_model_kind(dir / "a.txt"), ModelKind::kGguf);
  write_file(dir / "m.bin", std::string("\x08\x07\x12\x04test", 8));
  EXPECT_EQ(detect_model_kind(dir / "m.bin"), ModelKind::kOnnx);
  const ErrorCode unsupported = ErrorCode::kUnsupported;
  expect_error(unsupported, {"config.json"}, [&] { detect_model_kind(dir.path()); });
  write_tensors(dir / "model.safetensors", {"a"});
  expect_error(unsupported, {"plain safetensors", "folder"},
               [&] { detect_model_kind(dir / "model.safetensors"); });
  write_file(dir / "empty.gguf", "");
  expect_error(unsupported, {"empty.gguf"}, [&] { detect_model_kind(dir / "empty.gguf"); });
  write_file(dir / "text", "hello world, this is no model");
  expect_error(unsupported, {"GGUF"}, [&] { detect_model_kind(dir / "text"); });
  expect_error(ErrorCode::kNotFound, {"nothing"}, [&] { detect_model_kind(dir / "nothing"); });
  write_file(dir / "config.json", "{}");
  EXPECT_EQ(detect_model_kind(dir.path()), ModelKind::kHfFolder);
}

}  // namespace
}  // namespace packlight::io
