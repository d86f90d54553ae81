#include <memory>

#include "base/fail.h"
#include "bindings/call.h"
#include "packlight/session.h"

struct packlight_language_model {
  packlight::Session session;
};

namespace {

using packlight::ErrorCode;
using packlight::bindings::call;
using packlight::bindings::expect_given;

constexpr const char* kGenerate = "packlight_language_model_generate";

packlight::Request request_of(const packlight_request& from, const packlight::Session& session) {
  packlight::Request request;
  if (from.message_count > 0) {
    expect_given(from.messages, kGenerate, "messages");
    if (from.prompt != nullptr)
      packlight::fail(ErrorCode::kInvalidArgument, "[c] {}: both a prompt and messages", kGenerate);
    std::vector<packlight::ChatMessage> messages;
    for (size_t i = 0; i < from.message_count; ++i) {
      expect_given(from.messages[i].role, kGenerate, "role");
      expect_given(from.messages[i].content, kGenerate, "content");
      messages.push_back({from.messages[i].role, from.messages[i].content});
    }
    request.prompt = session.render_chat(messages);
    request.add_bos = false;
  } else {
    expect_given(from.prompt, kGenerate, "prompt");
    request.prompt = from.prompt;
  }
  request.max_tokens = from.max_tokens;
  request.sampling.temperature = from.temperature;
  request.sampling.top_k = from.top_k;
  request.sampling.top_p = from.top_p;
  request.sampling.min_p = from.min_p;
  request.sampling.repeat_penalty = from.repeat_penalty;
  request.sampling.seed = from.seed;
  return request;
}

packlight_end_reason reason_of(packlight::EndReason reason) {
  switch (reason) {
    case packlight::EndReason::kEndToken:
      return PACKLIGHT_END_TOKEN;
    case packlight::EndReason::kStopText:
      return PACKLIGHT_END_STOP_TEXT;
    case packlight::EndReason::kMaxTokens:
      return PACKLIGHT_END_MAX_TOKENS;
    case packlight::EndReason::kContextFull:
      return PACKLIGHT_END_CONTEXT_FULL;
    case packlight::EndReason::kCancelled:
      return PACKLIGHT_END_CANCELLED;
  }
  return PACKLIGHT_END_CANCELLED;
}

}  // namespace

extern "C" {

packlight_status packlight_language_model_open(const char* path,
                                               const packlight_language_model_options* options,
                                               packlight_language_model** model) {
  return call([&] {
    expect_given(path, "packlight_language_model_open", "path");
    expect_given(model, "packlight_language_model_open", "model");
    packlight::SessionOptions session;
    if (options != nullptr) {
      session.threads = options->threads;
      session.context = options->context;
      if (options->int8_kv_cache != 0) session.kv = packlight::KvCacheFormat::kInt8;
    }
    *model = new packlight_language_model{packlight::Session(path, session)};
  });
}

void packlight_language_model_close(packlight_language_model* model) { delete model; }

void packlight_request_init(packlight_request* request) {
  if (request == nullptr) return;
  const packlight::Request defaults;
  *request = {};
  request->max_tokens = defaults.max_tokens;
  request->temperature = defaults.sampling.temperature;
  request->top_k = defaults.sampling.top_k;
  request->top_p = defaults.sampling.top_p;
  request->min_p = defaults.sampling.min_p;
  request->repeat_penalty = defaults.sampling.repeat_penalty;
  request->seed = defaults.sampling.seed;
}

packlight_status packlight_language_model_generate(packlight_language_model* model,
                                                   const packlight_request* request,
                                                   packlight_text_callback on_text, void* user,
                                                   packlight_generation* result) {
  return call([&] {
    expect_given(model, kGenerate, "model");
    expect_given(request, kGenerate, "request");
    const packlight::Generation made =
        model->session.generate(request_of(*request, model->session), [&](std::string_view text) {
          return on_text == nullptr || on_text(text.data(), text.size(), user) != 0;
        });
    if (result == nullptr) return;
    *result = {reason_of(made.end),  made.prompt_tokens,
               made.reused_tokens,   static_cast<int64_t>(made.tokens.size()),
               made.prefill_seconds, made.decode_seconds};
  });
}

void packlight_language_model_cancel(packlight_language_model* model) {
  if (model != nullptr) model->session.cancel();
}

}  // extern "C"
