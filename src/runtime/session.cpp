#include "packlight/session.h"

#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "io/hf_folder.h"
#include "io/package.h"
#include "runtime/generator.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace packlight {
namespace {

constexpr int64_t kDefaultContext = 2048;

// Tokens that end a turn in the chat formats we know, whatever the model's own list says.
constexpr std::string_view kEndOfTurn[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>",
                                           "<|endoftext|>", "<|end_of_text|>"};

std::shared_ptr<const io::Package> open_package(const std::string& path) {
  const io::ModelKind kind = io::detect_model_kind(path);
  if (kind == io::ModelKind::kNetworkPackage)
    fail(ErrorCode::kUnsupported, "[session] {} holds a network, not a language model", path);
  if (kind != io::ModelKind::kPackage) {
    fail(ErrorCode::kUnsupported,
         "[session] {} is of the kind {}, the runtime runs packages: make one with 'packlight quantize {} -o "
         "model.plk --scheme w4a8 "
         "--group-size 32'",
         path, io::model_kind_name(kind), path);
  }
  return std::make_shared<const io::Package>(io::Package::open(path));
}

text::Tokenizer open_tokenizer(const io::Package& package) {
  const std::span<const std::byte> blob = package.blob("tokenizer");
  if (blob.empty())
    fail(ErrorCode::kCorrupt, "[session] {} holds no tokenizer", package.path().string());
  return text::Tokenizer::from_blob(blob, package.owner(), package.path().string());
}

runtime::DecoderOptions decoder_options(const SessionOptions& options) {
  runtime::DecoderOptions result;
  result.threads = options.threads;
  result.context = options.context;
  result.sequences = options.sequences;
  result.kv = options.kv == KvCacheFormat::kInt8 ? kernels::KvType::kInt8 : kernels::KvType::kF16;
  result.max_batch_tokens = options.max_batch_tokens;
  return result;
}

SessionOptions with_context(SessionOptions options, const io::Package& package) {
  const int64_t most = package.config().max_positions;
  if (options.context == 0) options.context = std::min(kDefaultContext, most);
  if (options.context > most) {
    fail(ErrorCode::kInvalidArgument, "[session] context {}: {} was trained for {} positions",
         options.context, package.path().string(), most);
  }
  options.max_batch_tokens =
      std::min(options.max_batch_tokens, std::max<int64_t>(options.context, options.sequences));
  return options;
}

std::vector<int32_t> find_end_tokens(const io::DecoderConfig& config,
                                     const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids(config.eos_tokens.begin(), config.eos_tokens.end());
  if (tokenizer.eos() >= 0) ids.push_back(tokenizer.eos());
  for (const std::string_view piece : kEndOfTurn) {
    const text::TokenId id = tokenizer.find(piece);
    if (id >= 0 && tokenizer.kind(id) == text::TokenKind::kControl) ids.push_back(id);
  }
  return ids;
}

}  // namespace

const char* end_reason_name(EndReason reason) noexcept {
  switch (reason) {
    case EndReason::kEndToken:
      return "end_token";
    case EndReason::kStopText:
      return "stop_text";
    case EndReason::kMaxTokens:
      return "max_tokens";
    case EndReason::kContextFull:
      return "context_full";
    case EndReason::kCancelled:
      return "cancelled";
  }
  return "";
}

struct Session::Impl {
  Impl(const std::string& path, const SessionOptions& asked)
      : package(open_package(path)),
        options(with_context(asked, *package)),
        tokenizer(open_tokenizer(*package)),
        decoder(package, decoder_options(options)),
        generator(decoder, tokenizer, find_end_tokens(package->config(), tokenizer)) {
    options.threads = decoder.options().threads;
    const io::DecoderConfig& config = package->config();
    facts = {config.name,
             config.family,
             config.layers(),
             config.hidden_size,
             config.vocab_size,
             config.max_positions,
             package->size_bytes(),
             decoder.weight_bytes_per_token(),
             decoder.kv_cache_bytes(),
             !tokenizer.chat_template().empty()};
  }

  text::ChatTemplate chat_template() const {
    if (!facts.has_chat_template) {
      fail(ErrorCode::kUnsupported, "[session] {} holds no chat template: use --raw",
           package->path().string());
    }
    const auto piece = [&](text::TokenId id) {
      return id >= 0 ? tokenizer.piece(id) : std::string_view();
    };
    return text::ChatTemplate::recognise(tokenizer.chat_template(), piece(tokenizer.bos()),
                                         piece(tokenizer.eos()));
  }

  std::shared_ptr<const io::Package> package;
  SessionOptions options;
  text::Tokenizer tokenizer;
  runtime::Decoder decoder;
  runtime::Generator generator;
  ModelFacts facts;
};

Session::Session(const std::string& path, SessionOptions options)
    : impl_(std::make_unique<Impl>(path, options)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Generation Session::generate(const Request& request,
                             const std::function<bool(std::string_view)>& on_text) {
  runtime::TextCallback callback;
  if (on_text) callback = [&](size_t, std::string_view text) { return on_text(text); };
  return generate_together({&request, 1}, callback).front();
}

std::vector<Generation> Session::generate_together(
    std::span<const Request> requests,
    const std::function<bool(size_t request, std::string_view text)>& on_text) {
  std::vector<runtime::Generator::Input> inputs;
  for (const Request& request : requests)
    inputs.push_back({&request, tokenize(request.prompt, request.add_bos)});
  return impl_->generator.run(std::move(inputs), on_text);
}

void Session::cancel() noexcept { impl_->generator.cancel(); }

std::string Session::render_chat(std::span<const ChatMessage> messages) const {
  std::vector<text::ChatMessage> copies;
  for (const ChatMessage& m : messages) copies.push_back({m.role, m.content});
  return impl_->chat_template().render(copies, true);
}

std::vector<int32_t> Session::tokenize(std::string_view text, bool add_bos) const {
  return impl_->tokenizer.encode(text, {.add_special = add_bos, .parse_special = true});
}

std::string Session::detokenize(std::span<const int32_t> tokens) const {
  return impl_->tokenizer.decode(tokens);
}

const ModelFacts& Session::facts() const { return impl_->facts; }
const SessionOptions& Session::options() const { return impl_->options; }

}  // namespace packlight
