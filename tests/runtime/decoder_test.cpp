#include "runtime/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "packlight/error.h"
#include "runtime/reference_decoder.h"
#include "runtime/tiny_model.h"

namespace packlight::runtime {
namespace {

using test::format_from;
using test::tiny_config;
using test::TinyModel;

std::vector<int32_t> random_ids(int64_t count, int64_t vocab, uint64_t seed = 7) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocab);
  return ids;
}

// Runs ids through one sequence in pieces of `piece` tokens; logits of every token.
std::vector<float> run(Decoder& decoder, const std::vector<int32_t>& ids, int64_t piece,
                       int sequence = 0) {
  std::vector<float> logits;
  for (size_t at = 0; at < ids.size(); at += piece) {
    std::vector<DecoderToken> tokens;
    for (size_t i = at; i < std::min(ids.size(), at + piece); ++i)
      tokens.push_back({ids[i], sequence, true});
    const std::span<const float> part = decoder.forward(tokens);
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

// |got - want| / |want| over a row of logits; NaN counts as infinite.
double relative_error(std::span<const float> got, std::span<const double> want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  const double error = std::sqrt(difference / norm);
  return std::isnan(error) ? INFINITY : error;
}

void expect_near(std::span<const float> got, std::span<const float> want, int64_t vocab,
                 double bound) {
  ASSERT_EQ(got.size(), want.size());
  const std::vector<double> wide(want.begin(), want.end());
  for (size_t at = 0; at < got.size(); at += vocab) {
    const double error = relative_error(got.subspan(at, vocab), std::span(wide).subspan(at, vocab));
    EXPECT_LE(error, bound) << "row " << at / vocab;
  }
}

// Rounding differs from the reference where a value lies within float error of a boundary. A value
// then moves by one step, which is 2^-11 of it in F16 and at most 1/127 of the block's largest in
// INT8; such steps add up like random errors over the layers. Their number is small, so one full
// step per layer is never reached by rounding and always passed by a mistake.
double rounding_bound(const io::DecoderConfig& config, bool int8) {
  const double step = int8 ? 1.0 / 127 : 0x1p-11;
  return step * std::sqrt(static_cast<double>(config.layers()));
}

struct Variant {
  const char* name;
  TinyModel model;
  kernels::KvType kv = kernels::KvType::kF16;
  bool int8 = true;  // activations or keys and values are rounded to INT8 somewhere
};

TinyModel with_format(const char* format, io::DecoderConfig config = tiny_config()) {
  return {std::move(config), [format](const std::string&) { return format_from(format); }};
}

io::DecoderConfig smollm_like() {
  io::DecoderConfig c = tiny_config();
  c.hidden_size = 192;
  c.head_dim = 64;
  c.heads = {9, 9, 9};
  c.kv_heads = {3, 3, 3};
  c.ffn_size = {256, 256, 256};
  return c;
}

io::DecoderConfig qwen_like() {
  io::DecoderConfig c = tiny_config();
  c.family = "qwen2";
  c.head_dim = 32;
  c.heads = {3, 3};
  c.kv_heads = {1, 1};
  c.qkv_bias = true;
  c.tied_embeddings = false;
  return c;
}

io::DecoderConfig pruned_llama3() {
  io::DecoderConfig c = tiny_config();
  c.heads = {6, 2, 3};
  c.kv_heads = {2, 1, 3};
  c.ffn_size = {40, 136, 64};
  c.rope_scaling = io::Llama3RopeScaling{8, 1, 4, 64};
  c.rope_theta = 500;
  return c;
}

io::DecoderConfig windowed() {
  io::DecoderConfig c = tiny_config();
  c.family = "mistral";
  c.sliding_window = 5;
  return c;
}

TinyModel mixed_formats() {
  return {pruned_llama3(), [](const std::string& name) {
            if (name.find("q_proj") != std::string::npos) return format_from("w4a8:g32");
            if (name.find("k_proj") != std::string::npos) return format_from("int4:g64:asym");
            if (name.find("v_proj") != std::string::npos) return format_from("w8a8:row");
            if (name.find("gate_proj") != std::string::npos) return format_from("f16");
            if (name.find("down_proj") != std::string::npos) return format_from("w4a8:g64:asym");
            return format_from("int8:g32");
          }};
}

// The blocks' matrices are pruned and stored so, the embedding is dense.
TinyModel pruned(const char* format, bool store_dense = false) {
  TinyModel model{
      smollm_like(), [format](const std::string& name) {
        return format_from(name.find("layers") == std::string::npos ? "w8a8:g32" : format);
      }};
  model.store_dense = store_dense;
  return model;
}

std::vector<Variant> variants() {
  return {
      {"w4a8", {tiny_config(), nullptr}},
      {"w4a8_asymmetric", with_format("w4a8:g32:asym")},
      {"w4a8_bitmask", pruned("w4a8:g32:bitmask")},
      {"w4a8_asymmetric_bitmask", pruned("w4a8:g64:asym:bitmask")},
      {"w4a8_two_of_four", pruned("w4a8:g32:2of4")},
      {"int4_bitmask", pruned("int4:g32:bitmask")},
      {"int4_two_of_four", pruned("int4:row:2of4")},
      {"w8a8_rows", with_format("w8a8:row")},
      {"int4_float", with_format("int4:g32"), kernels::KvType::kF16, false},
      {"int4_asymmetric_rows", with_format("int4:row:asym"), kernels::KvType::kF16, false},
      {"int8_float", with_format("int8:g64"), kernels::KvType::kF16, false},
      {"f16", with_format("f16"), kernels::KvType::kF16, false},
      {"smollm", {smollm_like(), nullptr}},
      {"smollm_kv8", {smollm_like(), nullptr}, kernels::KvType::kInt8},
      {"float_kv8", with_format("f16", smollm_like()), kernels::KvType::kInt8},
      {"qwen_bias_untied", {qwen_like(), nullptr}},
      {"llama3_pruned", with_format("int8:g32", pruned_llama3()), kernels::KvType::kF16, false},
      {"mixed", mixed_formats()},
      {"sliding_window", with_format("int8:row", windowed()), kernels::KvType::kF16, false},
  };
}

class DecoderVariant : public testing::TestWithParam<Variant> {
 protected:
  DecoderOptions options(int threads, int sequences = 1) const {
    DecoderOptions o;
    o.threads = threads;
    o.context = 48;
    o.sequences = sequences;
    o.kv = GetParam().kv;
    o.max_batch_tokens = 32;
    return o;
  }

  test::TemporaryFolder folder_;
  std::shared_ptr<const io::Package> package_ = test::tiny_package(GetParam().model, folder_);
  const io::DecoderConfig& config_ = package_->config();
  const int64_t vocab_ = config_.vocab_size;
};

INSTANTIATE_TEST_SUITE_P(All, DecoderVariant, testing::ValuesIn(variants()),
                         [](const auto& info) { return info.param.name; });

TEST_P(DecoderVariant, MatchesTheDefinition) {
  const std::vector<int32_t> ids = random_ids(20, vocab_);
  test::ReferenceDecoder reference(*package_, GetParam().kv);
  Decoder decoder(package_, options(2));
  const std::vector<float> logits = run(decoder, ids, 20);
  for (size_t i = 0; i < ids.size(); ++i) {
    const double error =
        relative_error(std::span(logits).subspan(i * vocab_, vocab_), reference.step(ids[i]));
    EXPECT_LE(error, rounding_bound(config_, GetParam().int8)) << "token " << i;
  }
}

TEST_P(DecoderVariant, AnyNumberOfThreadsGivesTheSameBits) {
  const std::vector<int32_t> ids = random_ids(20, vocab_);
  for (const int64_t piece : {20, 1, 3}) {
    Decoder one(package_, options(1));
    const std::vector<float> want = run(one, ids, piece);
    for (const int threads : {2, 3, 4}) {
      Decoder several(package_, options(threads));
      EXPECT_EQ(run(several, ids, piece), want) << threads << " threads, pieces of " << piece;
    }
  }
}

TEST_P(DecoderVariant, PiecesEqualTheWhole) {
  const std::vector<int32_t> ids = random_ids(20, vocab_);
  Decoder whole(package_, options(2));
  const std::vector<float> want = run(whole, ids, 20);
  for (const int64_t piece : {1, 2, 7, 16}) {
    Decoder decoder(package_, options(2));
    expect_near(run(decoder, ids, piece), want, vocab_, rounding_bound(config_, GetParam().int8));
  }
}

TEST_P(DecoderVariant, SequencesTogetherEqualEachAlone) {
  const std::vector<std::vector<int32_t>> ids = {random_ids(9, vocab_, 1), random_ids(9, vocab_, 2),
                                                 random_ids(9, vocab_, 3)};
  Decoder together(package_, options(2, 3));
  std::vector<std::vector<float>> logits(3);
  // Sequence 0 gets a head start, so that positions differ.
  logits[0] = run(together, {ids[0].begin(), ids[0].begin() + 4}, 4, 0);
  for (size_t step = 0; step < 9; ++step) {
    std::vector<DecoderToken> tokens;
    std::vector<int> owner;
    for (int s = 0; s < 3; ++s) {
      const size_t at = step + (s == 0 ? 4 : 0);
      if (at >= 9) continue;
      tokens.push_back({ids[s][at], s, true});
      owner.push_back(s);
    }
    const std::span<const float> part = together.forward(tokens);
    for (size_t i = 0; i < owner.size(); ++i) {
      const auto row = part.subspan(i * vocab_, vocab_);
      logits[owner[i]].insert(logits[owner[i]].end(), row.begin(), row.end());
    }
  }
  for (int s = 0; s < 3; ++s) {
    Decoder alone(package_, options(2));
    expect_near(logits[s], run(alone, ids[s], 1), vocab_, rounding_bound(config_, GetParam().int8));
  }
}

TEST_P(DecoderVariant, OnlyWantedLogitsAreMade) {
  const std::vector<int32_t> ids = random_ids(20, vocab_);
  Decoder every(package_, options(2)), some(package_, options(2));
  const std::vector<float> all = run(every, ids, 20);
  std::vector<DecoderToken> tokens;
  std::vector<float> want;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool wanted = i == 2 || i == 3 || i == 11 || i == 19;
    tokens.push_back({ids[i], 0, wanted});
    if (wanted) want.insert(want.end(), all.begin() + i * vocab_, all.begin() + (i + 1) * vocab_);
  }
  const std::span<const float> got = some.forward(tokens);
  expect_near(got, want, vocab_, rounding_bound(config_, GetParam().int8));
}

TEST_P(DecoderVariant, TruncateAndCopyRestoreAState) {
  const std::vector<int32_t> prompt = random_ids(11, vocab_, 1), one = random_ids(6, vocab_, 2),
                             other = random_ids(6, vocab_, 3);
  Decoder decoder(package_, options(2, 2));
  run(decoder, prompt, 11);
  decoder.copy_sequence(0, 1);
  EXPECT_EQ(decoder.length(1), 11);
  const std::vector<float> first = run(decoder, one, 1);
  run(decoder, other, 1, 1);
  decoder.truncate(0, 11);
  EXPECT_EQ(decoder.length(0), 11);
  const std::vector<float> second = run(decoder, other, 1);
  decoder.truncate(0, 11);
  EXPECT_EQ(run(decoder, one, 1), first);
  decoder.truncate(1, 11);
  EXPECT_EQ(run(decoder, other, 1, 1), second);
}

TEST_P(DecoderVariant, ACallWithoutLogitsOnlyFillsTheCache) {
  const std::vector<int32_t> ids = random_ids(8, vocab_);
  Decoder decoder(package_, options(2)), whole(package_, options(2));
  std::vector<DecoderToken> tokens;
  for (int i = 0; i < 7; ++i) tokens.push_back({ids[i], 0, false});
  EXPECT_TRUE(decoder.forward(tokens).empty());
  const std::vector<float> last = run(decoder, {ids[7]}, 1), all = run(whole, ids, 8);
  expect_near(last, std::span(all).last(vocab_), vocab_, rounding_bound(config_, GetParam().int8));
}

// Keys and values in 8 bits cost little: each is within half a step, 1/254 of its head's largest,
// and softmax averages them.
// The dense kernels on expanded tiles: the same operations in the same order.
TEST(Decoder, APrunedPackageGivesTheBitsOfTheDenseOne) {
  for (const char* format : {"w4a8:g32:bitmask", "w4a8:g64:asym:bitmask", "w4a8:row:2of4",
                             "int4:g32:bitmask", "int4:g32:asym:bitmask", "int4:g128:2of4"}) {
    SCOPED_TRACE(format);
    const test::TemporaryFolder sparse_folder, dense_folder;
    const auto sparse = test::tiny_package(pruned(format), sparse_folder);
    const auto dense = test::tiny_package(pruned(format, true), dense_folder);
    ASSERT_NE(sparse->sparse("model.layers.0.mlp.up_proj.weight"), nullptr);
    ASSERT_LT(sparse->size_bytes(), dense->size_bytes());
    DecoderOptions options;
    options.threads = 2;
    options.context = 48;
    options.max_batch_tokens = 40;
    const std::vector<int32_t> ids = random_ids(40, dense->config().vocab_size);
    for (const int64_t piece : {1, 3, 8, 9, 40}) {
      Decoder a(sparse, options), b(dense, options);
      EXPECT_EQ(run(a, ids, piece), run(b, ids, piece)) << "pieces of " << piece;
    }
  }
}

TEST(Decoder, APrunedEmbeddingIsRefused) {
  const test::TemporaryFolder folder;
  const auto package = test::tiny_package(with_format("w4a8:g32:bitmask", smollm_like()), folder);
  EXPECT_THROW(Decoder(package, {}), Error);
}

TEST(Decoder, Int8CacheStaysCloseToF16) {
  test::TemporaryFolder folder;
  const auto package = test::tiny_package(with_format("f16", smollm_like()), folder);
  const int64_t vocab = package->config().vocab_size;
  const std::vector<int32_t> ids = random_ids(30, vocab);
  DecoderOptions options;
  options.threads = 2;
  options.context = 32;
  Decoder f16(package, options);
  options.kv = kernels::KvType::kInt8;
  Decoder int8(package, options);
  EXPECT_LT(int8.kv_cache_bytes(), f16.kv_cache_bytes() * 0.6);
  expect_near(run(int8, ids, 30), run(f16, ids, 30), vocab, std::sqrt(3.0) * 2 / 254);
}

template <class F>
ErrorCode code_of(F&& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& e) {
    if (message != nullptr) *message = e.what();
    return e.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

class DecoderErrors : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  std::shared_ptr<const io::Package> package_ =
      test::tiny_package({tiny_config(), nullptr}, folder_);
  DecoderOptions options_ = {.threads = 2, .context = 6, .sequences = 2, .max_batch_tokens = 4};
};

TEST_F(DecoderErrors, ARefusedCallChangesNothing) {
  Decoder decoder(package_, options_);
  const std::vector<float> want = run(decoder, {5, 6, 7}, 3);
  decoder.truncate(0, 0);
  run(decoder, {5, 6}, 2);
  using Tokens = std::vector<DecoderToken>;
  const std::vector<Tokens> refused = {
      {{7, 0, true}, {301, 0, true}},  // no such token
      {{-1, 0, true}},                 //
      {{7, 2, true}},                  // no such sequence
      {{7, -1, true}},                 //
      {{7, 1, true},
       {7, 1, true},
       {7, 1, true},
       {7, 1, true},
       {7, 1, true}},  // more than max_batch_tokens
  };
  for (const Tokens& tokens : refused) {
    EXPECT_EQ(code_of([&] { decoder.forward(tokens); }), ErrorCode::kInvalidArgument);
    EXPECT_EQ(decoder.length(0), 2);
    EXPECT_EQ(decoder.length(1), 0);
  }
  const std::vector<float> last = run(decoder, {7}, 1);
  expect_near(last, std::span(want).last(301), 301, rounding_bound(package_->config(), true));
}

TEST_F(DecoderErrors, AFullContextIsRefused) {
  Decoder decoder(package_, options_);
  run(decoder, {1, 2, 3, 4, 5, 6}, 3);
  std::string message;
  const std::vector<DecoderToken> one = {{7, 0, true}};
  EXPECT_EQ(code_of([&] { decoder.forward(one); }, &message), ErrorCode::kInvalidArgument);
  EXPECT_NE(message.find("context is 6"), std::string::npos) << message;
  run(decoder, {1}, 1, 1);  // the other sequence has room
}

TEST_F(DecoderErrors, OptionsOutOfRangeAreRefused) {
  const auto refused = [&](auto change) {
    DecoderOptions options = options_;
    change(options);
    return code_of([&] { Decoder(package_, options); });
  };
  EXPECT_EQ(refused([](DecoderOptions& o) { o.context = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](DecoderOptions& o) { o.sequences = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](DecoderOptions& o) { o.threads = -1; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](DecoderOptions& o) { o.max_batch_tokens = 0; }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](DecoderOptions& o) {
              o.context = int64_t{1} << 28;
              o.sequences = 1 << 16;
            }),
            ErrorCode::kOutOfMemory);
}

TEST_F(DecoderErrors, SequencesAndLengthsOutOfRangeAreRefused) {
  Decoder decoder(package_, options_);
  run(decoder, {1, 2}, 2);
  EXPECT_EQ(code_of([&] { decoder.truncate(0, 3); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { decoder.truncate(0, -1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { decoder.truncate(2, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { decoder.copy_sequence(0, 5); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(decoder.length(0), 2);
}

}  // namespace
}  // namespace packlight::runtime
