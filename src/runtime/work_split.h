#pragma once

#include <cstdint>

namespace packlight::runtime {

struct Span {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

// The contiguous share of [0, count) that falls to `worker` of `workers`; shares differ by at most
// one.
inline Span split(int64_t count, int worker, int workers) {
  return {count * worker / workers, count * (worker + 1) / workers};
}

// The part of `span` inside [begin, end), counted from `begin`.
inline Span part_of(Span span, int64_t begin, int64_t end) {
  const int64_t first = span.begin > begin ? span.begin : begin;
  const int64_t last = span.end < end ? span.end : end;
  return first < last ? Span{first - begin, last - begin} : Span{};
}

}  // namespace packlight::runtime
