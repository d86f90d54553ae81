#include <algorithm>
#include <array>
#include <cmath>

#include "codec/tile.h"
#include "runtime/forward_pass.h"

// The attention half of a layer.

namespace packlight::runtime {

void ForwardPass::attention_block(int64_t layer, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  const bool last = layer + 1 == config_.layers();
  InputForms forms;
  for (const Linear* linear : {&w.q, &w.k, &w.v}) forms.add(*linear);
  project(layer, normalized(worker, w.attention_norm, forms), worker);
  pool_.barrier();
  store_keys(layer, worker);
  if (last && worker == 0) keep_wanted_rows(layer);
  pool_.barrier();
  if (rows_->size() == 0) return;
  attend(layer, worker);
  pool_.barrier();
  add_to_residual(w.o, attention_output(layer, worker), worker);
  pool_.barrier();
}

void ForwardPass::project(int64_t layer, const LinearInput& input, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t ldq = codec::padded_cols(w.q.w.rows), ldkv = w.k.w.rows;
  struct Output {
    const Linear& linear;
    float* y;
    int64_t ld;
  };
  const std::array<Output, 3> outputs = {{{w.q, q_, ldq}, {w.k, k_, ldkv}, {w.v, v_, ldkv}}};
  int64_t all = 0;
  for (const Output& o : outputs) all += codec::row_tiles(o.linear.w.rows);
  const Span mine = split(all, worker, pool_.size());
  int64_t begin = 0;
  for (const Output& o : outputs) {
    const int64_t end = begin + codec::row_tiles(o.linear.w.rows);
    const Span tiles = part_of(mine, begin, end);
    multiply(kernels_, o.linear, input, tiles, o.y + tiles.begin * codec::kTileRows, o.ld,
             workers_[worker].expanded);
    begin = end;
  }
}

void ForwardPass::store_keys(int64_t layer, int worker) {
  const int64_t heads = weights_.layers[layer].kv_heads, dim = config_.head_dim;
  const BatchRows& rows = batch_->all;
  const Span mine = split(rows.size() * heads, worker, pool_.size());
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    const int64_t t = i / heads, head = i % heads;
    float* k = k_ + i * dim;
    kernels_.rotary(k, cosine_ + t * (dim / 2), sine_ + t * (dim / 2), dim);
    cache_.store(kernels_, layer, rows.sequence[t], head, rows.end[t] - 1, k, v_ + i * dim);
  }
}

// After the last layer's keys are stored only the rows with wanted logits matter: moves them to the
// front.
void ForwardPass::keep_wanted_rows(int64_t layer) {
  const BatchRows& wanted = batch_->wanted;
  rows_ = &wanted;
  const int64_t hidden = config_.hidden_size,
                ldq = codec::padded_cols(weights_.layers[layer].q.w.rows);
  for (int64_t i = 0; i < wanted.size(); ++i) {
    const int64_t from = wanted.source[i];
    if (from == i) continue;
    std::copy_n(x_ + from * hidden, hidden, x_ + i * hidden);
    std::copy_n(q_ + from * ldq, ldq, q_ + i * ldq);
  }
}

// Attention rows are numbered (KV head, row of the batch, query head of the group). They are shared
// out by their number of positions, so that causal batches and few KV heads leave no worker idle.
int64_t ForwardPass::first_attention_row(const LayerWeights& w, int worker) const {
  const int64_t group = w.heads / w.kv_heads, rows = rows_->size();
  const std::vector<int64_t>& cost = rows_->cost;
  const int64_t per_head = cost[rows] * group,
                target = per_head * w.kv_heads * worker / pool_.size();
  const int64_t head = std::min(target / per_head, w.kv_heads - 1),
                within = target - head * per_head;
  if (head * per_head + within >= per_head * w.kv_heads) return w.heads * rows;
  // The batch row whose group of query heads contains the target, then the query head in it.
  const auto after = std::upper_bound(cost.begin(), cost.end(), within / group);
  const int64_t row = std::min<int64_t>(after - cost.begin() - 1, rows - 1);
  const int64_t row_cost = cost[row + 1] - cost[row];
  const int64_t query = std::min(group, (within - cost[row] * group + row_cost / 2) / row_cost);
  return head * rows * group + nearest_attention_cut(row * group + query, group);
}

// Where the rows of one head may be cut near `row` without changing a result: at whole blocks of
// the kernel, counted from the beginning of a run, whoever gets them.
int64_t ForwardPass::nearest_attention_cut(int64_t row, int64_t group) const {
  if (row == rows_->size() * group) return row;
  const BatchRows::Run& run = rows_->runs[rows_->run[row / group]];
  const int64_t begin = run.begin * group, end = run.end * group;
  if (end - begin <= kSeparateRows) return row;
  const int64_t blocks = (row - begin + kAttentionRows / 2) / kAttentionRows;
  return std::min(end, begin + blocks * kAttentionRows);
}

void ForwardPass::attend(int64_t layer, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t group = w.heads / w.kv_heads, per_head = rows_->size() * group;
  const int64_t end = first_attention_row(w, worker + 1);
  int64_t row = first_attention_row(w, worker);
  while (row < end) {
    const int64_t head = row / per_head, begin = row - head * per_head;
    const BatchRows::Run& run = rows_->runs[rows_->run[begin / group]];
    const int64_t stop = std::min({end - head * per_head, run.end * group, begin + kAttentionRows});
    attend_rows(layer, head, {begin, stop}, worker);
    row = head * per_head + stop;
  }
}

// Rows of one KV head and one sequence, counted (row of the batch, query head of the group).
void ForwardPass::attend_rows(int64_t layer, int64_t head, Span rows, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  const int64_t group = w.heads / w.kv_heads, dim = config_.head_dim, half = dim / 2;
  const int64_t ldq = codec::padded_cols(w.q.w.rows);
  std::array<int64_t, kAttentionRows> offset;
  std::array<int32_t, kAttentionRows> first, end;
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    const int64_t t = i / group, n = i - rows.begin, source = rows_->source[t];
    offset[n] = t * ldq + (head * group + i % group) * dim;
    first[n] = rows_->first[t];
    end[n] = rows_->end[t];
    kernels_.rotary(q_ + offset[n], cosine_ + source * half, sine_ + source * half, dim);
  }
  const kernels::KvView view = cache_.view(layer, rows_->sequence[rows.begin / group], head);
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  kernels_.attention(q_, attended_.f32, offset.data(), first.data(), end.data(),
                     rows.end - rows.begin, view, scale, workers_[worker].attention);
  if (!w.o.int8_activations || dim % codec::kColumnAlign != 0) return;
  InputForms forms;
  forms.add(w.o);
  const LinearInput out = narrow(attended_, rows_->size(), w.q.w.rows, forms);
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    quantize_columns(kernels_, attended_.f32 + offset[i - rows.begin],
                     (head * group + i % group) * dim, dim, i / group, out.int8);
  }
}

// Heads that are no whole number of blocks were left for here: a block then spans two heads.
LinearInput ForwardPass::attention_output(int64_t layer, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  InputForms forms;
  forms.add(w.o);
  const LinearInput out = narrow(attended_, rows_->size(), w.q.w.rows, forms);
  const int64_t cols = w.q.w.rows;
  if (cols == out.ld && (!forms.int8 || config_.head_dim % codec::kColumnAlign == 0)) return out;
  const Span rows = split(rows_->size(), worker, pool_.size());
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    float* row = out.f32 + t * out.ld;
    std::fill(row + cols, row + out.ld, 0.f);
    if (forms.int8) kernels_.quantize_activations(row, cols, t, out.int8);
  }
  pool_.barrier();
  return out;
}

}  // namespace packlight::runtime
