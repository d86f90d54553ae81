#include "runtime/network/indexed_copy.h"

#include <algorithm>
#include <cstring>

#include "runtime/network/operands.h"
#include "runtime/network/strided_view.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

// One row of the output from one of the input. Its longest run of successive elements, usually all
// but an edge, is found once.
class RowPattern {
 public:
  explicit RowPattern(std::span<const int64_t> sources) : sources_(sources) {
    const auto n = static_cast<int64_t>(sources.size());
    for (int64_t begin = 0; begin < n;) {
      int64_t end = begin + 1;
      while (end < n && sources[begin] != kOutside && sources[end] == sources[end - 1] + 1) ++end;
      if (sources[begin] != kOutside && end - begin > run_end_ - run_begin_) {
        run_begin_ = begin;
        run_end_ = end;
      }
      begin = end;
    }
  }

  template <class T>
  void copy(const T* from, T fill, T* to) const {
    each(from, fill, to, 0, run_begin_);
    if (run_end_ > run_begin_)
      std::copy_n(from + sources_[run_begin_], run_end_ - run_begin_, to + run_begin_);
    each(from, fill, to, run_end_, static_cast<int64_t>(sources_.size()));
  }

 private:
  template <class T>
  void each(const T* from, T fill, T* to, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i)
      to[i] = sources_[i] == kOutside ? fill : from[sources_[i]];
  }

  std::span<const int64_t> sources_;
  int64_t run_begin_ = 0, run_end_ = 0;
};

// Where the row of the input begins that output row `row` comes from, or kOutside.
int64_t row_source(int64_t row, const std::vector<std::vector<int64_t>>& sources,
                   const std::vector<int64_t>& strides) {
  int64_t offset = 0;
  for (size_t d = sources.size() - 1; d-- > 0;) {
    const auto size = static_cast<int64_t>(sources[d].size());
    const int64_t source = sources[d][row % size];
    row /= size;
    if (source == kOutside) return kOutside;
    offset += source * strides[d];
  }
  return offset;
}

template <class T>
void copy_rows(const RunCall& call, const Tensor& from,
               const std::vector<std::vector<int64_t>>& sources, T fill, const Tensor& to) {
  const std::vector<int64_t> strides = row_major_strides(from.dims);
  const RowPattern pattern(sources.back());
  const auto width = static_cast<int64_t>(sources.back().size());
  call.parallel(to.elements() / width, grain_of(width), [&](int64_t begin, int64_t end) {
    int64_t last = kOutside;
    for (int64_t row = begin; row < end; ++row) {
      T* target = to.as<T>() + row * width;
      const int64_t offset = row_source(row, sources, strides);
      if (offset == kOutside)
        std::fill_n(target, width, fill);
      else if (row > begin && offset == last)  // an enlarged image repeats its rows
        std::copy_n(target - width, width, target);
      else
        pattern.copy(from.as<T>() + offset, fill, target);
      last = offset;
    }
  });
}

}  // namespace

void copy_by_index(const RunCall& call, const Tensor& from,
                   const std::vector<std::vector<int64_t>>& sources, const std::byte* fill,
                   const Tensor& to) {
  if (to.elements() == 0) return;
  for_element_size(call, to.dtype, [&](auto value) {
    using T = decltype(value);
    if (fill != nullptr) std::memcpy(&value, fill, sizeof(T));
    if (sources.empty())
      *to.as<T>() = *from.as<T>();
    else
      copy_rows<T>(call, from, sources, value, to);
  });
}

}  // namespace packlight::runtime
