#include <limits>
#include <numeric>

#include "kernels/isa_test.h"

namespace packlight::kernels {
namespace {

struct Case {
  int64_t n_q, dim, positions;
  KvType type;
  bool causal;
  int64_t window = 0;  // 0: from the start
};

// Queries and a cache in buffers of exactly the size they may be read in, and the double-precision
// answer.
struct Problem {
  Case c;
  int64_t stride, width;
  std::vector<float> q, out, k, v, k_scale, v_scale, scratch;
  std::vector<uint16_t> k16, v16;
  std::vector<int8_t> k8, v8;
  std::vector<int64_t> offset;
  std::vector<int32_t> first, end;
  KvView kv;
  float scale;

  Problem(const Case& given, std::mt19937& rng) : c(given), stride(c.dim + 3), width(c.dim + 5) {
    scale = 1 / std::sqrt(static_cast<float>(c.dim));
    q = random_floats(c.n_q * width, rng, 2);
    const int64_t size = (c.positions - 1) * stride + c.dim;
    k = random_floats(size, rng, 2);
    v = random_floats(size, rng);
    std::vector<int64_t> order(c.n_q);  // rows may come in any order; every other time they do
    std::iota(order.rbegin(), order.rend(), 0);
    if (rng() % 2 == 0) std::shuffle(order.begin(), order.end(), rng);
    for (int64_t i = 0; i < c.n_q; ++i) {
      offset.push_back((c.n_q - 1 - i) * width);  // any order
      const int64_t last =
          c.causal ? std::max<int64_t>(1, c.positions - order[i] / 3) : c.positions;
      end.push_back(static_cast<int32_t>(last));
      first.push_back(
          static_cast<int32_t>(c.window > 0 ? std::max<int64_t>(0, last - c.window - i % 2) : 0));
    }
    store();
  }

  // k and v become what the cache holds, exactly.
  void store() {
    kv.type = c.type;
    kv.head_dim = c.dim;
    kv.position_stride = stride;
    if (c.type == KvType::kF16) {
      for (float& x : k) k16.push_back(codec::f32_to_f16(x)), x = codec::f16_to_f32(k16.back());
      for (float& x : v) v16.push_back(codec::f32_to_f16(x)), x = codec::f16_to_f32(v16.back());
      kv.k = k16.data();
      kv.v = v16.data();
      return;
    }
    const auto quantize = [&](std::vector<float>& x, std::vector<int8_t>& q8,
                              std::vector<float>& scales) {
      q8.resize(x.size());
      for (int64_t p = 0; p < c.positions; ++p) {
        scales.push_back(0.01f + 0.003f * static_cast<float>(p % 7));
        for (int64_t i = 0; i < c.dim; ++i) {
          const int64_t at = p * stride + i;
          q8[at] =
              static_cast<int8_t>(std::clamp(std::nearbyint(x[at] / scales[p]), -127.f, 127.f));
          x[at] = static_cast<float>(q8[at]) * scales[p];
        }
      }
    };
    quantize(k, k8, k_scale);
    quantize(v, v8, v_scale);
    kv.k = k8.data();
    kv.v = v8.data();
    kv.k_scale = k_scale.data();
    kv.v_scale = v_scale.data();
  }

  void run(const Kernels& isa) {
    out.assign(q.size(), -9);
    scratch.assign(attention_scratch_floats(c.n_q, c.dim), std::nanf(""));
    isa.attention(q.data(), out.data(), offset.data(), first.data(), end.data(), c.n_q, kv, scale,
                  scratch.data());
  }

  // Errors: a score carries (dim + 4) eps of its magnitudes; that, exp's 8 eps and one rounding per
  // position and block move the weights relatively; the weighted mean of |v| carries them over,
  // twice as the total moves too.
  void check(const std::string& what) {
    for (int64_t i = 0; i < c.n_q; ++i) {
      std::vector<double> weight;
      double largest = -INFINITY, score_error = 0, total = 0;
      for (int64_t p = first[i]; p < end[i]; ++p) {
        double score = 0, size = 0;
        for (int64_t d = 0; d < c.dim; ++d) {
          const double term = static_cast<double>(q[offset[i] + d]) * k[p * stride + d] * scale;
          score += term;
          size += std::abs(term);
        }
        weight.push_back(score);
        largest = std::max(largest, score);
        score_error = std::max(score_error, (c.dim + 4) * kEps * size);
      }
      for (double& w : weight) total += w = std::exp(w - largest);
      for (int64_t d = 0; d < c.dim; ++d) {
        double want = 0, size = 0;
        for (size_t p = 0; p < weight.size(); ++p) {
          want += weight[p] / total * v[(first[i] + p) * stride + d];
          size += weight[p] / total * std::abs(v[(first[i] + p) * stride + d]);
        }
        const double relative =
            2 * (2 * score_error + (10 + static_cast<double>(weight.size())) * kEps);
        ASSERT_TRUE(near(out[offset[i] + d], want, relative * size, i * c.dim + d)) << what;
      }
    }
    for (int64_t i = 0; i < c.n_q; ++i) {
      for (int64_t d = c.dim; d < width; ++d)
        ASSERT_EQ(out[offset[i] + d], -9) << what << ": wrote past a row";
    }
  }
};

std::string describe(const Case& c) {
  return std::to_string(c.n_q) + " rows of " + std::to_string(c.dim) + ", " +
         std::to_string(c.positions) + " positions" + (c.type == KvType::kInt8 ? ", INT8" : "") +
         (c.causal ? ", causal" : "") + ", window " + std::to_string(c.window);
}

class AttentionTest : public IsaTest {};
PACKLIGHT_EVERY_ISA(AttentionTest);

TEST_P(AttentionTest, EqualsSoftmaxWithinTheRoundingBound) {
  std::mt19937 rng(1);
  for (const KvType type : {KvType::kF16, KvType::kInt8}) {
    for (const int64_t dim : {2, 6, 16, 20, 32, 64, 80, 128}) {
      for (const int64_t n_q : {1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 64, 67, 130}) {
        for (const int64_t positions : {1, 5, 64, 65, 131}) {
          if (n_q % 2 == 0 && positions == 5) continue;
          const bool causal = n_q > 4;
          const int64_t window = causal && positions == 131 ? 9 : 0;
          Problem problem({n_q, dim, positions, type, causal, window}, rng);
          problem.run(isa());
          ASSERT_NO_FATAL_FAILURE(problem.check(describe(problem.c)));
        }
      }
    }
  }
}

TEST_P(AttentionTest, TheResultMayReplaceTheQueries) {
  std::mt19937 rng(2);
  for (const int64_t n_q : {3, 40}) {
    Problem problem({n_q, 24, 70, KvType::kF16, true}, rng);
    problem.run(isa());
    std::vector<float> q = problem.q;
    isa().attention(q.data(), q.data(), problem.offset.data(), problem.first.data(),
                    problem.end.data(), n_q, problem.kv, problem.scale, problem.scratch.data());
    for (int64_t i = 0; i < n_q; ++i) {
      for (int64_t d = 0; d < 24; ++d)
        ASSERT_EQ(q[problem.offset[i] + d], problem.out[problem.offset[i] + d]);
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  std::mt19937 rng(3);
  for (const int64_t n_q : {3, 40}) {
    Problem problem({n_q, 16, 100, KvType::kF16, false}, rng);
    problem.scale = 300;
    problem.run(isa());
    for (int64_t i = 0; i < n_q; ++i) {
      for (int64_t d = 0; d < 16; ++d)
        ASSERT_TRUE(std::isfinite(problem.out[problem.offset[i] + d]));
    }
  }
}

// NaN at one place of the cache shows in exactly the rows that see it.
TEST_P(AttentionTest, NanShowsWhereItIsSeenAndNowhereElse) {
  std::mt19937 rng(4);
  const uint16_t nan = 0x7e00, infinity = 0x7c00;
  for (const uint16_t bad : {nan, infinity}) {
    for (const bool in_values : {false, true}) {
      for (const int64_t n_q : {6, 90}) {
        for (const int64_t dim : {20, 64}) {
          Problem problem({n_q, dim, 100, KvType::kF16, true, 12}, rng);
          const int64_t at =
              n_q == 6 ? 99 : 75;  // some rows see it, some end before, some begin after
          (in_values ? problem.v16 : problem.k16)[at * problem.stride + 1] = bad;
          problem.run(isa());
          for (int64_t i = 0; i < n_q; ++i) {
            const float* row = problem.out.data() + problem.offset[i];
            const bool sees = problem.first[i] <= at && at < problem.end[i];
            if (!sees) {
              for (int64_t d = 0; d < dim; ++d) ASSERT_TRUE(std::isfinite(row[d])) << "row " << i;
            } else if (bad == nan || in_values) {
              ASSERT_FALSE(std::isfinite(row[1])) << "row " << i;
            }
          }
        }
      }
    }
  }
}

TEST_P(AttentionTest, NanInAQueryStaysInItsRow) {
  std::mt19937 rng(5);
  for (const int64_t n_q : {3, 40}) {
    Problem problem({n_q, 64, 90, KvType::kInt8, false}, rng);
    problem.q[problem.offset[1] + 5] = std::nanf("");
    problem.run(isa());
    for (int64_t i = 0; i < n_q; ++i) {
      EXPECT_EQ(std::isnan(problem.out[problem.offset[i]]), i == 1) << "row " << i << " of " << n_q;
    }
  }
}

}  // namespace
}  // namespace packlight::kernels
