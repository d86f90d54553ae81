#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/generic/elementwise.h"
#include "kernels/isa.h"

// Attention over the operations of a vector type V, with online softmax over blocks of positions.
// Many query rows (prefill): rows are lanes, so a block of K and V is converted to floats once for
// 64 rows, and maxima and sums need no step across lanes. Few rows (decode): a head's elements are
// lanes, K and V are read where they lie. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

inline int64_t padded_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Queries {
  const float* q;
  float* out;
  const int64_t* offset;
  const int32_t* first;
  const int32_t* end;
};

// Positions [begin, begin + n) of keys or values as floats, rows padded with zeros to padded_dim.
// Returns whether all are finite.
template <class V>
bool convert_block(const KvView& kv, const void* data, const float* scales, int64_t begin,
                   int64_t n, float* out) {
  const int64_t dim = kv.head_dim, padded = padded_dim(dim);
  typename V::I largest = V::no_magnitude();
  for (int64_t p = 0; p < n; ++p) {
    const int64_t at = (begin + p) * kv.position_stride;
    float* row = out + p * padded;
    for (int64_t i = 0; i < padded; i += V::kLanes) {
      const int64_t left = dim - i;
      typename V::F x;
      if (left <= 0) {
        x = V::zero();
      } else if (kv.type == KvType::kF16) {
        const auto* from = static_cast<const uint16_t*>(data) + at + i;
        uint16_t part[V::kLanes] = {};
        if (left < V::kLanes) {
          __builtin_memcpy(part, from, static_cast<size_t>(left) * 2);
          from = part;
        }
        x = V::load_f16(from);
      } else {
        const auto* from = static_cast<const int8_t*>(data) + at + i;
        int8_t part[V::kLanes] = {};
        if (left < V::kLanes) {
          __builtin_memcpy(part, from, static_cast<size_t>(left));
          from = part;
        }
        x = V::mul(V::load_i8(from), V::set1(scales[begin + p]));
      }
      largest = V::max_magnitude(largest, x);
      V::store(row + i, x);
    }
  }
  return V::reduce_magnitude(largest) < 0x7f800000u;
}

// ---- many rows ----

constexpr int kRowVectors = 2;  // vectors of query rows that share a broadcast element

// c[n][lane] = c[n][lane] * shrink[lane] + sum over k of a[n * n_stride + k * k_stride] *
// b[k][lane], n < kRows.
template <class V, bool kAccumulate>
inline void multiply_rows(const float* a, int64_t n_stride, int64_t k_stride, const float* b,
                          int64_t k_count, const typename V::F (&shrink)[kRowVectors], float* c) {
  constexpr int kRows = V::kAttentionRows, kWidth = kRowVectors * V::kLanes;
  typename V::F sum[kRows][kRowVectors];
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
#pragma GCC unroll 2
    for (int v = 0; v < kRowVectors; ++v) {
      if constexpr (kAccumulate)
        sum[n][v] = V::mul(V::load(c + n * kWidth + v * V::kLanes), shrink[v]);
      else
        sum[n][v] = V::zero();
    }
  }
  for (int64_t k = 0; k < k_count; ++k) {
    typename V::F row[kRowVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kRowVectors; ++v) row[v] = V::load(b + k * kWidth + v * V::kLanes);
#pragma GCC unroll 8
    for (int n = 0; n < kRows; ++n) {
      const auto element = V::set1(a[n * n_stride + k * k_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < kRowVectors; ++v) sum[n][v] = V::fma(element, row[v], sum[n][v]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < kRows; ++n) {
#pragma GCC unroll 2
    for (int v = 0; v < kRowVectors; ++v) V::store(c + n * kWidth + v * V::kLanes, sum[n][v]);
  }
}

// A group of kRowVectors * kLanes query rows and what it has gathered so far.
template <class V>
struct RowGroup {
  static constexpr int kWidth = kRowVectors * V::kLanes;
  const float* queries;  // [dim][kWidth], scaled
  float* sums;           // [padded_dim][kWidth]
  float* largest;        // [kWidth]
  float* total;          // [kWidth]
  const int32_t* first;  // [kWidth]; rows that do not exist see nothing
  const int32_t* end;
};

// sums += weights * values where a row sees the position: for values that are not finite, which a
// weight of zero would turn into NaN for rows that must not see them.
template <class V>
void add_visible_only(const RowGroup<V>& group, const float* weights, const float* values,
                      int64_t begin, int64_t n, int64_t padded, const float* shrink) {
  constexpr int kWidth = RowGroup<V>::kWidth;
  for (int lane = 0; lane < kWidth; ++lane) {
    for (int64_t d = 0; d < padded; ++d) {
      float sum = group.sums[d * kWidth + lane] * shrink[lane];
      for (int64_t p = 0; p < n; ++p) {
        if (begin + p < group.first[lane] || begin + p >= group.end[lane]) continue;
        sum += weights[p * kWidth + lane] * values[p * padded + d];
      }
      group.sums[d * kWidth + lane] = sum;
    }
  }
}

// One block of positions [begin, begin + n) for one group. keys, values:
// [kPositionBlock][padded_dim]. Scores past n are computed from whatever lies there and never read.
template <class V>
void attend_block(const RowGroup<V>& group, const float* keys, const float* values, bool finite,
                  int64_t begin, int64_t n, int64_t dim, bool all_visible, float* scores) {
  using F = typename V::F;
  constexpr int kWidth = RowGroup<V>::kWidth, kRows = V::kAttentionRows;
  const int64_t padded = padded_dim(dim);
  const F none[kRowVectors] = {};
  for (int64_t p = 0; p < n; p += kRows) {
    multiply_rows<V, false>(keys + p * padded, padded, 1, group.queries, dim, none,
                            scores + p * kWidth);
  }
  F shrink[kRowVectors];
  for (int v = 0; v < kRowVectors; ++v) {
    float* column = scores + v * V::kLanes;
    const int at = v * V::kLanes;
    const F before = V::load(group.largest + at);
    F largest = before;
    for (int64_t p = 0; p < n; ++p) {
      F score = V::load(column + p * kWidth);
      if (!all_visible) {
        score = V::keep_visible(score, group.first + at, group.end + at,
                                static_cast<int32_t>(begin + p));
        V::store(column + p * kWidth, score);
      }
      largest = V::max(score, largest);
    }
    V::store(group.largest + at, largest);
    // A row that has seen nothing but -infinity: any finite number makes its weights exp(-infinity)
    // = 0.
    const F reference = V::max(V::set1(-3.4e38f), largest);
    shrink[v] = exp_of<V>(V::sub(before, reference));
    F total = V::mul(V::load(group.total + at), shrink[v]);
    for (int64_t p = 0; p < n; ++p) {
      const F weight = exp_of<V>(V::sub(V::load(column + p * kWidth), reference));
      total = V::add(total, weight);
      V::store(column + p * kWidth, weight);
    }
    V::store(group.total + at, total);
  }
  if (!finite && !all_visible) {
    float factors[kWidth];
    for (int v = 0; v < kRowVectors; ++v) V::store(factors + v * V::kLanes, shrink[v]);
    add_visible_only<V>(group, scores, values, begin, n, padded, factors);
    return;
  }
  for (int64_t d = 0; d < padded; d += kRows) {
    multiply_rows<V, true>(values + d, 1, padded, scores, n, shrink, group.sums + d * kWidth);
  }
}

// What a group's rows see: positions [begin, end) in all, [full_begin, full_end) every one of them.
struct Visible {
  int64_t begin, end, full_begin, full_end;
};

// Fills a group from its `count` rows; lanes without a row repeat the last one's queries, and
// nobody reads what they get.
template <class V>
Visible load_group(const Queries& rows, int64_t row0, int64_t count, int64_t dim, float scale,
                   float* queries, int32_t* first, int32_t* end, RowGroup<V>& group) {
  constexpr int kWidth = RowGroup<V>::kWidth;
  Visible seen = {rows.first[row0], rows.end[row0], rows.first[row0], rows.end[row0]};
  const float* from[kWidth];
  for (int64_t r = 0; r < kWidth; ++r) {
    const int64_t row = row0 + smaller(r, count - 1);
    from[r] = rows.q + rows.offset[row];
    group.largest[r] = -__builtin_inff();
    group.total[r] = 0;
    if (r >= count) continue;
    first[r] = rows.first[row];
    end[r] = rows.end[row];
    seen.begin = smaller(seen.begin, first[r]);
    seen.end = larger(seen.end, end[r]);
    seen.full_begin = larger(seen.full_begin, first[r]);
    seen.full_end = smaller(seen.full_end, end[r]);
  }
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t r = 0; r < kWidth; ++r) queries[d * kWidth + r] = from[r][d] * scale;
  }
  for (int64_t i = 0; i < padded_dim(dim) * kWidth; i += V::kLanes)
    V::store(group.sums + i, V::zero());
  return seen;
}

template <class V>
void store_group(const Queries& rows, int64_t row0, int64_t count, int64_t dim,
                 const RowGroup<V>& group) {
  constexpr int kWidth = RowGroup<V>::kWidth;
  float* to[kWidth];
  for (int64_t r = 0; r < count; ++r) to[r] = rows.out + rows.offset[row0 + r];
  alignas(64) float mean[kWidth];
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t r = 0; r < kWidth; r += V::kLanes) {
      V::store(mean + r, V::div(V::load(group.sums + d * kWidth + r), V::load(group.total + r)));
    }
    for (int64_t r = 0; r < count; ++r) to[r][d] = mean[r];
  }
}

// At most kQueryBlock rows.
template <class V>
void attend_many(const Queries& rows, int64_t n_q, const KvView& kv, float scale, float* scratch) {
  constexpr int kWidth = RowGroup<V>::kWidth, kMaxGroups = kQueryBlock / kWidth;
  const int64_t dim = kv.head_dim, padded = padded_dim(dim);
  const int64_t groups = (n_q + kWidth - 1) / kWidth;
  alignas(64) int32_t first[kQueryBlock] = {}, end[kQueryBlock] = {};
  alignas(64) float largest[kQueryBlock], total[kQueryBlock];
  float* queries = scratch;
  float* sums = queries + kQueryBlock * padded;
  float* keys = sums + kQueryBlock * padded;
  float* values = keys + kPositionBlock * padded;
  float* scores = values + kPositionBlock * padded;
  RowGroup<V> group[kMaxGroups];
  Visible seen[kMaxGroups];
  int64_t begin = rows.first[0], stop = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t row0 = g * kWidth;
    group[g] = {queries + row0 * padded,
                sums + row0 * padded,
                largest + row0,
                total + row0,
                first + row0,
                end + row0};
    seen[g] = load_group<V>(rows, row0, smaller(kWidth, n_q - row0), dim, scale,
                            queries + row0 * padded, first + row0, end + row0, group[g]);
    begin = smaller(begin, seen[g].begin);
    stop = larger(stop, seen[g].end);
  }
  for (int64_t p = begin; p < stop; p += kPositionBlock) {
    const int64_t n = smaller(kPositionBlock, stop - p);
    convert_block<V>(kv, kv.k, kv.k_scale, p, n, keys);
    const bool finite = convert_block<V>(kv, kv.v, kv.v_scale, p, n, values);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t last = smaller(p + n, seen[g].end);
      if (last <= p || p + n <= seen[g].begin) continue;
      const bool all_visible = seen[g].full_begin <= p && last <= seen[g].full_end;
      attend_block<V>(group[g], keys, values, finite, p, last - p, dim, all_visible, scores);
    }
  }
  for (int64_t g = 0; g < groups; ++g) {
    store_group<V>(rows, g * kWidth, smaller(kWidth, n_q - g * kWidth), dim, group[g]);
  }
}

// ---- few rows ----

// Where a block's keys or values are read: in place, or converted (rows that do not fill whole
// vectors).
struct F16Rows {
  const uint16_t* data;
  int64_t stride;
  template <class V>
  typename V::F load(int64_t p, int64_t i) const {
    return V::load_f16(data + p * stride + i);
  }
};
struct Int8Rows {
  const int8_t* data;
  int64_t stride;
  template <class V>
  typename V::F load(int64_t p, int64_t i) const {
    return V::load_i8(data + p * stride + i);
  }
};
struct FloatRows {
  const float* data;
  int64_t stride;
  template <class V>
  typename V::F load(int64_t p, int64_t i) const {
    return V::load(data + p * stride + i);
  }
};

// scores[r][p] = queries[r] · keys[p]; four positions at a time share the sum across lanes.
template <class V, int kRows, class Rows>
void score_few(const float* queries, const Rows& keys, int64_t n, int64_t padded, float* scores) {
  for (int64_t p = 0; p < n; p += 4) {
    typename V::F sum[kRows][4];
    for (int r = 0; r < kRows; ++r) {
      for (int k = 0; k < 4; ++k) sum[r][k] = V::zero();
    }
    for (int64_t i = 0; i < padded; i += V::kLanes) {
      for (int k = 0; k < 4; ++k) {
        const auto key = keys.template load<V>(p + k < n ? p + k : n - 1, i);
        for (int r = 0; r < kRows; ++r)
          sum[r][k] = V::fma(key, V::load(queries + r * padded + i), sum[r][k]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      V::sum4(sum[r][0], sum[r][1], sum[r][2], sum[r][3], scores + r * kPositionBlock + p);
    }
  }
}

// sums[r] = sums[r] * shrink[r] + weights[r] · values, kVectors vectors of the head from element i.
template <class V, int kRows, int kVectors, class Rows>
void weigh_few(const float* weights, const Rows& values, int64_t n, int64_t i, int64_t padded,
               const float* shrink, float* sums) {
  typename V::F sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = V::mul(V::load(sums + r * padded + i + v * V::kLanes), V::set1(shrink[r]));
    }
  }
  for (int64_t p = 0; p < n; ++p) {
    typename V::F value[kVectors];
    for (int v = 0; v < kVectors; ++v) value[v] = values.template load<V>(p, i + v * V::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const auto weight = V::set1(weights[r * kPositionBlock + p]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(weight, value[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) V::store(sums + r * padded + i + v * V::kLanes, sum[r][v]);
  }
}

// Scores of one row to weights (times value_scale where given). Returns the factor for what was
// gathered before.
template <class V>
float softmax_block(float* scores, int64_t n, const float* key_scale, const float* value_scale,
                    float* largest, float* total) {
  using F = typename V::F;
  const F nothing = V::set1(-__builtin_inff());
  F block_largest = nothing;
  for (int64_t i = 0; i < n; i += V::kLanes) {
    F score = V::load(scores + i);
    if (key_scale != nullptr) score = V::mul(score, load_up_to<V>(key_scale + i, n - i));
    V::store(scores + i, score);
    if (n - i < V::kLanes) {
      for (int64_t k = n; k < i + V::kLanes; ++k) scores[k] = -__builtin_inff();
      score = V::load(scores + i);
    }
    block_largest = V::max(score, block_largest);
  }
  const float block_max = V::reduce_max(block_largest), before = *largest;
  if (block_max > before) *largest = block_max;
  const float reference = *largest < -3.4e38f ? -3.4e38f : *largest;
  F sum = V::zero();
  for (int64_t i = 0; i < n; i += V::kLanes) {
    F weight = exp_of<V>(V::sub(V::load(scores + i), V::set1(reference)));
    sum = V::add(sum, weight);
    if (value_scale != nullptr) weight = V::mul(weight, load_up_to<V>(value_scale + i, n - i));
    V::store(scores + i, weight);
  }
  alignas(64) float factor[V::kLanes];
  V::store(factor, exp_of<V>(V::set1(before - reference)));
  *total = *total * factor[0] + V::reduce_add(sum);
  return factor[0];
}

struct FewScratch {
  float *queries, *sums, *scores, *keys, *values;
};

template <class V, int kRows, class Rows>
void attend_few_block(const FewScratch& s, const Rows& keys, const Rows& values, int64_t n,
                      int64_t padded, const float* key_scale, const float* value_scale,
                      float* largest, float* total) {
  score_few<V, kRows>(s.queries, keys, n, padded, s.scores);
  float shrink[kRows];
  for (int r = 0; r < kRows; ++r) {
    shrink[r] = softmax_block<V>(s.scores + r * kPositionBlock, n, key_scale, value_scale,
                                 largest + r, total + r);
  }
  constexpr int kStep = V::kDimUnroll * V::kLanes;
  int64_t i = 0;
  for (; i + kStep <= padded; i += kStep) {
    weigh_few<V, kRows, V::kDimUnroll>(s.scores, values, n, i, padded, shrink, s.sums);
  }
  for (; i < padded; i += V::kLanes)
    weigh_few<V, kRows, 1>(s.scores, values, n, i, padded, shrink, s.sums);
}

// kRows rows that see the same positions.
template <class V, int kRows>
void attend_few(const Queries& rows, int64_t row0, const KvView& kv, float scale, float* scratch) {
  const int64_t dim = kv.head_dim, padded = padded_dim(dim);
  FewScratch s;
  s.queries = scratch;
  s.sums = s.queries + kFewQueryRows * padded;
  s.scores = s.sums + kFewQueryRows * padded;
  s.keys = s.scores + kFewQueryRows * kPositionBlock;
  s.values = s.keys + kPositionBlock * padded;
  float largest[kRows], total[kRows];
  for (int r = 0; r < kRows; ++r) {
    largest[r] = -__builtin_inff();
    total[r] = 0;
    for (int64_t d = 0; d < padded; ++d) {
      s.queries[r * padded + d] = d < dim ? rows.q[rows.offset[row0 + r] + d] * scale : 0;
      s.sums[r * padded + d] = 0;
    }
  }
  const int64_t stop = rows.end[row0];
  for (int64_t p = rows.first[row0]; p < stop; p += kPositionBlock) {
    const int64_t n = smaller(kPositionBlock, stop - p), at = p * kv.position_stride;
    if (dim != padded) {
      convert_block<V>(kv, kv.k, kv.k_scale, p, n, s.keys);
      convert_block<V>(kv, kv.v, kv.v_scale, p, n, s.values);
      attend_few_block<V, kRows>(s, FloatRows{s.keys, padded}, FloatRows{s.values, padded}, n,
                                 padded, nullptr, nullptr, largest, total);
    } else if (kv.type == KvType::kF16) {
      const F16Rows keys{static_cast<const uint16_t*>(kv.k) + at, kv.position_stride};
      const F16Rows values{static_cast<const uint16_t*>(kv.v) + at, kv.position_stride};
      attend_few_block<V, kRows>(s, keys, values, n, padded, nullptr, nullptr, largest, total);
    } else {
      const Int8Rows keys{static_cast<const int8_t*>(kv.k) + at, kv.position_stride};
      const Int8Rows values{static_cast<const int8_t*>(kv.v) + at, kv.position_stride};
      attend_few_block<V, kRows>(s, keys, values, n, padded, kv.k_scale + p, kv.v_scale + p,
                                 largest, total);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = rows.out + rows.offset[row0 + r];
    for (int64_t d = 0; d < dim; ++d) out[d] = s.sums[r * padded + d] / total[r];
  }
}

template <class V>
void attention_with(const float* q, float* out, const int64_t* q_offset, const int32_t* first,
                    const int32_t* end, int64_t n_q, const KvView& kv, float scale,
                    float* scratch) {
  scratch += (64 - reinterpret_cast<uintptr_t>(scratch) % 64) % 64 / sizeof(float);
  for (int64_t i = 0; i < n_q; i += kQueryBlock) {
    const int64_t n = smaller(kQueryBlock, n_q - i);
    const Queries rows{q, out, q_offset + i, first + i, end + i};
    if (n > kFewQueryRows) {
      attend_many<V>(rows, n, kv, scale, scratch);
      continue;
    }
    for (int64_t r = 0; r < n;) {
      int64_t same = 1;
      while (same < 4 && r + same < n && rows.first[r + same] == rows.first[r] &&
             rows.end[r + same] == rows.end[r]) {
        ++same;
      }
      switch (same) {
        case 1:
          attend_few<V, 1>(rows, r, kv, scale, scratch);
          break;
        case 2:
          attend_few<V, 2>(rows, r, kv, scale, scratch);
          break;
        case 3:
          attend_few<V, 3>(rows, r, kv, scale, scratch);
          break;
        default:
          attend_few<V, 4>(rows, r, kv, scale, scratch);
          break;
      }
      r += same;
    }
  }
}

}  // namespace
}  // namespace packlight::kernels
