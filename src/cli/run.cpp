#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "cli/option_scope.h"
#include "cli/verbs.h"
#include "io/hf_folder.h"
#include "packlight/session.h"

namespace packlight::cli {
namespace {

struct RunFlags {
  std::string model, prompt, system, kv = "f16";
  NetworkRunFlags network;
  bool has_prompt = false, chat = false, raw = false, json = false;
  SessionOptions session;
  Request request;
};

// Lines of standard input; a signal ends the wait, which std::getline would sit out.
class LineReader {
 public:
  // Nothing at the end of the input or when the user interrupts.
  std::optional<std::string> next() {
    while (true) {
      const size_t newline = buffer_.find('\n');
      if (newline != std::string::npos) {
        std::string line = buffer_.substr(0, newline);
        buffer_.erase(0, newline + 1);
        return line;
      }
      if (!fill()) break;
    }
    if (buffer_.empty() || base::interrupted()) return std::nullopt;
    return std::exchange(buffer_, {});
  }

  std::string rest() {
    while (fill()) {
    }
    base::check_interrupt();
    return std::exchange(buffer_, {});
  }

 private:
  bool fill() {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    while (poll(&input, 1, -1) < 0) {
      if (base::interrupted()) return false;
    }
    if (base::interrupted()) return false;
    char bytes[4096];
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
    if (count <= 0) return false;
    buffer_.append(bytes, count);
    return true;
  }

  std::string buffer_;
};

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

int64_t decoded_tokens(const Generation& g) {
  // The first token comes from the prompt's logits, so decoding has made one less.
  return g.tokens.empty() ? 0 : static_cast<int64_t>(g.tokens.size()) - 1;
}

Json to_json(const Generation& g) {
  Json json;
  json["text"] = g.text;
  json["end_reason"] = end_reason_name(g.end);
  json["tokens"] = g.tokens;
  json["prompt_tokens"] = g.prompt_tokens;
  json["reused_tokens"] = g.reused_tokens;
  json["generated_tokens"] = g.tokens.size();
  json["prefill_s"] = g.prefill_seconds;
  json["decode_s"] = g.decode_seconds;
  json["prefill_tok_s"] =
      per_second(static_cast<double>(g.prompt_tokens - g.reused_tokens), g.prefill_seconds);
  json["decode_tok_s"] = per_second(static_cast<double>(decoded_tokens(g)), g.decode_seconds);
  return json;
}

void report(const Generation& g) {
  const double prefill =
      per_second(static_cast<double>(g.prompt_tokens - g.reused_tokens), g.prefill_seconds);
  const double decode = per_second(static_cast<double>(decoded_tokens(g)), g.decode_seconds);
  std::fprintf(stderr,
               "[prompt %lld tokens, %.1f tokens/s; answer %zu tokens, %.1f tokens/s; end: %s]\n",
               static_cast<long long>(g.prompt_tokens), prefill, g.tokens.size(), decode,
               end_reason_name(g.end));
}

// Streams one answer to standard output, or prints it whole as a JSON line.
Generation answer(Session& session, const Request& request, bool json) {
  const auto stream = [json](std::string_view text) {
    if (!json && (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
                  std::fflush(stdout) != 0)) {
      fail(ErrorCode::kIo, "[run] cannot write to standard output");
    }
    return !base::interrupted();
  };
  const Generation result = session.generate(request, stream);
  if (json) {
    // Text that stops inside a character is not UTF-8: it is replaced, not refused.
    std::puts(to_json(result).dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    std::fputc('\n', stdout);
  }
  std::fflush(stdout);
  if (!json) report(result);
  return result;
}

void converse(Session& session, const RunFlags& flags) {
  std::vector<ChatMessage> messages;
  if (!flags.system.empty()) messages.push_back({"system", flags.system});
  const bool terminal = isatty(STDIN_FILENO) != 0;
  LineReader lines;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    const std::optional<std::string> line = lines.next();
    if (!line) break;
    if (line->empty()) continue;
    messages.push_back({"user", *line});
    Request request = flags.request;
    request.prompt = session.render_chat(messages);
    request.add_bos = false;
    const Generation result = answer(session, request, flags.json);
    if (result.end == EndReason::kCancelled) break;
    messages.push_back({"assistant", result.text});
  }
  base::check_interrupt();
}

void run(RunFlags flags) {
  if (flags.chat && flags.raw)
    fail(ErrorCode::kInvalidArgument, "[run] --chat and --raw exclude each other");
  if (flags.raw && !flags.system.empty()) {
    fail(ErrorCode::kInvalidArgument, "[run] --system needs a chat format, --raw has none");
  }
  flags.session.kv = flags.kv == "q8" ? KvCacheFormat::kInt8 : KvCacheFormat::kF16;
  Session session(flags.model, flags.session);
  if (flags.chat && !flags.has_prompt) return converse(session, flags);
  const std::string prompt = flags.has_prompt ? flags.prompt : LineReader().rest();
  Request& request = flags.request;
  const bool as_chat = flags.chat || (!flags.raw && session.facts().has_chat_template);
  if (as_chat) {
    std::vector<ChatMessage> messages;
    if (!flags.system.empty()) messages.push_back({"system", flags.system});
    messages.push_back({"user", prompt});
    request.prompt = session.render_chat(messages);
    request.add_bos = false;
  } else {
    if (!flags.system.empty()) {
      fail(ErrorCode::kInvalidArgument, "[run] {} holds no chat template for --system",
           flags.model);
    }
    request.prompt = prompt;
  }
  answer(session, request, flags.json);
  base::check_interrupt();
}

}  // namespace

void add_run(CLI::App& app) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = app.add_subcommand(
      "run", "Generate text with a package (.plk), or run a network (a package or ONNX)");
  OptionScope decoder("a language model's"), network("a network's");
  verb->add_option("model", flags->model, "Package or ONNX file to run")
      ->required()
      ->type_name("MODEL");
  network.add(verb->add_option(
      "--input", flags->network.inputs,
      "NAME=FILE, or FILE for a network of one input: .npy, or a picture (.png, .jpg); may be "
      "given again"));
  network.add(verb->add_option("-o,--output", flags->network.output.path,
                               ".npy file for the output, or a folder for one .npy file each"));
  network.add(verb->add_option("--labels", flags->network.output.labels,
                               "Show so many classes of the largest outputs for each sample; of a "
                               "text recognizer what it reads")
                  ->check(CLI::Range(int64_t{0}, int64_t{1} << 20)));
#if !defined(PACKLIGHT_RUNTIME_ONLY) || defined(PACKLIGHT_HANDS_OVER)
  network.add(verb->add_option("--preprocess", flags->network.preprocess,
                               "How pictures become inputs (default: what the package says, or "
                               "MODEL with the extension .yaml)"));
#endif
  CLI::Option* prompt = verb->add_option("-p,--prompt", flags->prompt,
                                         "Prompt; without it standard input is read: to its end, "
                                         "or with --chat as a conversation, a turn a line");
  decoder.add(prompt);
  decoder.add(verb->add_option(
                      "-n,--max-tokens", flags->request.max_tokens,
                      "Tokens to generate at most; -1: until the model ends or the context is full")
                  ->check(CLI::Range(-1, 1 << 24))
                  ->capture_default_str());
  decoder.add(verb->add_flag(
      "--chat", flags->chat,
      "Put the prompt in the model's chat format (the default when the model has one)"));
  decoder.add(verb->add_option("--system", flags->system, "System message of the chat"));
  decoder.add(verb->add_flag(
      "--raw", flags->raw,
      "Continue the prompt as it is (the default when the model has no chat format)"));
  decoder.add(verb->add_option("--ctx", flags->session.context,
                               "Context in tokens; 0: the model's own, at most 2048")
                  ->check(CLI::NonNegativeNumber)
                  ->capture_default_str());
  decoder.add(verb->add_option("--kv", flags->kv, "Key-value cache: f16 or q8")
                  ->check(CLI::IsMember({"f16", "q8"}))
                  ->capture_default_str());
  SamplingOptions& sampling = flags->request.sampling;
  decoder.add(verb->add_option("--temp", sampling.temperature,
                               "Temperature; 0: always the most probable token")
                  ->capture_default_str());
  decoder.add(verb->add_option("--top-k", sampling.top_k, "Keep the k most probable tokens; 0: all")
                  ->capture_default_str());
  decoder.add(verb->add_option("--top-p", sampling.top_p,
                               "Keep the fewest tokens whose probabilities reach p; 1: all")
                  ->capture_default_str());
  decoder.add(verb->add_option("--min-p", sampling.min_p,
                               "Keep tokens with this share of the largest probability; 0: all")
                  ->capture_default_str());
  decoder.add(verb->add_option("--repeat-penalty", sampling.repeat_penalty,
                               "Penalty on the last 64 tokens; 1: none")
                  ->capture_default_str());
  decoder.add(
      verb->add_option("--seed", sampling.seed, "Seed of the draws")->capture_default_str());
  decoder.add(
      verb->add_option("--stop", flags->request.stop, "End before this text; may be given again")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  verb->add_option("--threads", flags->session.threads, "Threads; 0: one per processor")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--json", flags->json,
                 "One JSON object a turn with the text, token ids, end reason and speeds");
  verb->footer(
      "Samplers act in this order: repetition penalty, temperature, top-k, top-p, min-p.\n"
      "Examples:\n"
      "  packlight run model.plk -p \"Why is the sky blue?\"\n"
      "  packlight run model.plk --chat --system \"You answer in one sentence.\"\n"
      "  packlight run model.plk --raw -p \"Once upon a time\" -n 64 --temp 0.8 --top-p 0.95 "
      "--seed 7\n"
      "  packlight run network.plk --input picture.png --labels 5\n"
      "  packlight run network.onnx --input picture.npy -o scores.npy");
  verb->callback([flags, prompt, decoder, network] {
    const io::ModelKind kind = io::detect_model_kind(flags->model);
    if (io::is_network(kind)) {
      decoder.expect_none("run", flags->model, "a network");
      flags->network.model = flags->model;
      flags->network.threads = flags->session.threads;
      flags->network.output.json = flags->json;
      if (kind == io::ModelKind::kNetworkPackage) return run_network_package(flags->network);
#ifndef PACKLIGHT_RUNTIME_ONLY
      return run_network(flags->network);
#else
      fail(ErrorCode::kUnsupported,
           "[run] '{}' is an ONNX file, which this program does not read: make a package of it "
           "with 'packlight export {} --format plk -o network.plk'",
           flags->model, flags->model);
#endif
    }
    network.expect_none("run", flags->model, "a language model");
    flags->has_prompt = prompt->count() > 0;
    run(*flags);
  });
}

}  // namespace packlight::cli
