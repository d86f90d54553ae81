#include "runtime/kv_cache.h"

#include <cstring>

namespace packlight::runtime {

KvCache::KvCache(const io::DecoderConfig& config, kernels::KvType type, int sequences,
                 int64_t context)
    : type_(type),
      sequences_(sequences),
      head_dim_(config.head_dim),
      context_(context),
      kv_heads_(config.kv_heads) {
  int64_t count = 0;
  for (const int64_t heads : kv_heads_) {
    first_head_.push_back(count);
    count += heads * sequences;
  }
  heads_.resize(count);
  memory_ = ZeroedMemory(place(Carver(nullptr)), "the key-value cache");
  place(Carver(memory_.data()));
}

uint64_t KvCache::place(Carver carver) {
  const bool int8 = type_ == kernels::KvType::kInt8;
  const uint64_t bytes = Carver::checked_mul(context_, head_dim_ * (int8 ? 1 : 2));
  for (Head& h : heads_) {
    h.k = carver.take<std::byte>(bytes);
    h.v = carver.take<std::byte>(bytes);
    h.k_scale = int8 ? carver.take<float>(context_) : nullptr;
    h.v_scale = int8 ? carver.take<float>(context_) : nullptr;
  }
  return carver.used();
}

kernels::KvView KvCache::view(int64_t layer, int sequence, int64_t index) const {
  const Head& h = head(layer, sequence, index);
  kernels::KvView view;
  view.type = type_;
  view.head_dim = head_dim_;
  view.k = h.k;
  view.v = h.v;
  view.k_scale = h.k_scale;
  view.v_scale = h.v_scale;
  view.position_stride = head_dim_;
  return view;
}

void KvCache::store(const kernels::Kernels& kernels, int64_t layer, int sequence, int64_t index,
                    int64_t position, const float* k, const float* v) {
  const Head& h = head(layer, sequence, index);
  const int64_t at = position * head_dim_;
  if (type_ == kernels::KvType::kF16) {
    kernels.store_f16(k, head_dim_, reinterpret_cast<uint16_t*>(h.k) + at);
    kernels.store_f16(v, head_dim_, reinterpret_cast<uint16_t*>(h.v) + at);
  } else {
    h.k_scale[position] = kernels.store_int8(k, head_dim_, reinterpret_cast<int8_t*>(h.k) + at);
    h.v_scale[position] = kernels.store_int8(v, head_dim_, reinterpret_cast<int8_t*>(h.v) + at);
  }
}

void KvCache::copy(int from, int to, int64_t length) {
  const uint64_t bytes = length * head_dim_ * (type_ == kernels::KvType::kF16 ? 2 : 1);
  for (size_t layer = 0; layer < kv_heads_.size(); ++layer) {
    for (int64_t i = 0; i < kv_heads_[layer]; ++i) {
      const Head &a = head(layer, from, i), &b = head(layer, to, i);
      std::memcpy(b.k, a.k, bytes);
      std::memcpy(b.v, a.v, bytes);
      if (a.k_scale != nullptr) {
        std::memcpy(b.k_scale, a.k_scale, length * sizeof(float));
        std::memcpy(b.v_scale, a.v_scale, length * sizeof(float));
      }
    }
  }
}

}  // namespace packlight::runtime
