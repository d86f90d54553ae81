#include "text/jinja_budget.h"

#include "text/jinja_syntax.h"

namespace packlight::text::jinja {
namespace {

constexpr uint64_t kOverhead = 64;  // of a text in memory, roughly

struct CountedText {
  CountedText(std::string the_text, uint64_t the_bytes, uint64_t* the_live)
      : text(std::move(the_text)), bytes(the_bytes), live(the_live) {}
  CountedText(const CountedText&) = delete;
  CountedText& operator=(const CountedText&) = delete;
  ~CountedText() { *live -= bytes; }

  std::string text;
  uint64_t bytes;
  uint64_t* live;
};

}  // namespace

void Budget::hold(uint64_t bytes) {
  charge_copy(bytes);
  check_room(bytes);
  live_ += bytes;
}

Text Budget::text(std::string text) {
  const uint64_t bytes = text.capacity() + kOverhead;
  hold(bytes);
  const auto counted = std::make_shared<const CountedText>(std::move(text), bytes, &live_);
  return {counted, &counted->text};
}

void Budget::run_away() { refuse("a template that runs away (more than a million steps)"); }
void Budget::overflow() { refuse("a template that runs away (more than 64 MB of text)"); }

}  // namespace packlight::text::jinja
