#include <limits>

#include "kernels/isa_test.h"

namespace packlight::kernels {
namespace {

class ProductTest : public IsaTest {};
PACKLIGHT_EVERY_ISA(ProductTest);

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kUntouched = -12345;

// Around every tile: rows of 8, 4, 2 and 1, columns of 3 and 8 vectors of 4, 8 and 16 lanes.
const std::vector<int64_t> kRowCounts = {1, 2, 3, 5, 8, 15, 17};
const std::vector<int64_t> kColumnCounts = {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 47, 48, 49, 100, 129};

// Rows of B scattered over a buffer that ends with the last of them, so that a sanitizer sees any
// element read behind it.
struct Scattered {
  std::vector<int64_t> rows;
  int64_t size = 0;
  Scattered(int64_t inner, int64_t width, std::mt19937& rng) {
    rows.resize(inner);
    for (int64_t k = 0; k < inner; ++k) rows[k] = k * (width + 1);
    std::shuffle(rows.begin(), rows.end(), rng);
    size = inner == 0 ? 0 : (inner - 1) * (width + 1) + width;
  }
};

double activated(const Activation& it, double x) {
  switch (it.kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kClamp:
      return std::min<double>(std::max<double>(x, it.a), it.b);
    case ActivationKind::kLeakyRelu:
      return x > 0 ? x : it.a * x;
    case ActivationKind::kHardSigmoid:
      return std::clamp<double>(it.a * x + it.b, 0, 1);
    case ActivationKind::kHardSwish:
      return x * std::clamp<double>(x + 3, 0, 6) / 6;
    case ActivationKind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
  }
  return NAN;
}

const Activation kActivations[] = {{},
                                   {ActivationKind::kClamp, 0, 6},
                                   {ActivationKind::kClamp, -kInf, 0.5f},
                                   {ActivationKind::kLeakyRelu, 0.1f},
                                   {ActivationKind::kHardSigmoid, 0.2f, 0.5f},
                                   {ActivationKind::kHardSwish},
                                   {ActivationKind::kSigmoid},
                                   {ActivationKind::kSilu}};

// What rounding may move an activation by, for |x| <= size: a few units in the last place of the
// largest intermediate; its slope is below 1.5.
double activation_bound(const Activation& it, double size) {
  return 16 * kEps * std::max({1.0, size, std::isinf(it.a) ? 0.0 : std::abs(double{it.a})});
}

TEST_P(ProductTest, ActivationsAreTheirFormulas) {
  std::mt19937 rng(1);
  for (const Activation& it : kActivations) {
    for (const int64_t n : kColumnCounts) {
      std::vector<float> x = random_floats(n, rng, 4), y(n + 1, kUntouched);
      x[0] = n % 2 == 0 ? 100.f : -100.f;
      isa().activate(it, x.data(), n, y.data());
      for (int64_t i = 0; i < n; ++i)
        ASSERT_TRUE(near(y[i], activated(it, x[i]), activation_bound(it, std::abs(x[i])), i))
            << "kind " << static_cast<int>(it.kind) << " of " << x[i];
      ASSERT_EQ(y[n], kUntouched);
    }
  }
}

TEST_P(ProductTest, ActivationsKeepNan) {
  for (const Activation& it : kActivations) {
    std::vector<float> x(19, 1.f);
    x[2] = x[18] = NAN;
    isa().activate(it, x.data(), 19, x.data());
    for (int64_t i = 0; i < 19; ++i)
      ASSERT_EQ(std::isnan(x[i]), i == 2 || i == 18)
          << "kind " << static_cast<int>(it.kind) << " index " << i;
  }
}

struct FloatCase {
  int64_t rows, columns, inner;
  bool transposed = false, accumulate = false, bias = true;
  Activation activation = {};
};

void expect_product(const Kernels& isa, const FloatCase& c, std::mt19937& rng) {
  const Scattered at(c.inner, c.columns, rng);
  const std::vector<float> a = random_floats(c.rows * c.inner, rng),
                           b = random_floats(at.size, rng), bias = random_floats(c.rows, rng);
  const int64_t stride = c.columns + 3;
  std::vector<float> y = random_floats(c.rows * stride, rng);
  const std::vector<float> before = y;
  ProductF32 it;
  it.rows = c.rows;
  it.columns = c.columns;
  it.inner = c.inner;
  it.a = a.data();
  it.a_row_stride = c.transposed ? 1 : c.inner;
  it.a_column_stride = c.transposed ? c.rows : 1;
  it.b = b.data();
  it.b_row = at.rows.data();
  it.bias = c.bias ? bias.data() : nullptr;
  it.accumulate = c.accumulate;
  it.y = y.data();
  it.y_stride = stride;
  it.activation = c.activation;

  isa.product_f32(it);

  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = 0; j < stride; ++j) {
      const int64_t index = r * stride + j;
      if (j >= c.columns) {
        ASSERT_EQ(y[index], before[index]) << "written beyond column " << c.columns;
        continue;
      }
      double want = c.accumulate ? before[index] : c.bias ? bias[r] : 0, size = std::abs(want);
      for (int64_t k = 0; k < c.inner; ++k) {
        const double term = static_cast<double>(a[r * it.a_row_stride + k * it.a_column_stride]) *
                            b[at.rows[k] + j];
        want += term;
        size += std::abs(term);
      }
      const double bound = 1.5 * static_cast<double>(c.inner + 1) * kEps * size +
                           activation_bound(c.activation, std::abs(want));
      ASSERT_TRUE(near(y[index], activated(c.activation, want), bound, index))
          << c.rows << " x " << c.columns << " x " << c.inner;
    }
  }
}

TEST_P(ProductTest, FloatsOfEveryTile) {
  std::mt19937 rng(2);
  for (const int64_t rows : kRowCounts) {
    for (const int64_t columns : kColumnCounts)
      ASSERT_NO_FATAL_FAILURE(expect_product(isa(), {rows, columns, 7}, rng));
  }
}

TEST_P(ProductTest, FloatsOverBlocksOfInnerAndColumns) {
  std::mt19937 rng(3);
  const Activation swish = {ActivationKind::kHardSwish};
  ASSERT_NO_FATAL_FAILURE(expect_product(isa(), {9, 300, 600, false, false, true, swish}, rng));
  ASSERT_NO_FATAL_FAILURE(expect_product(isa(), {3, 20, 1100, true, true, true, swish}, rng));
  ASSERT_NO_FATAL_FAILURE(expect_product(isa(), {1, 700, 512, false, false, false}, rng));
}

TEST_P(ProductTest, FloatsWithoutInnerAreTheirStart) {
  std::mt19937 rng(4);
  ASSERT_NO_FATAL_FAILURE(
      expect_product(isa(), {3, 20, 0, false, false, true, {ActivationKind::kClamp, 0, 1}}, rng));
  ASSERT_NO_FATAL_FAILURE(expect_product(isa(), {3, 20, 0, false, true}, rng));
}

struct CodeCase {
  int64_t rows, columns, quads;
  bool weights_in_b = false, bias = true, extreme = false;
  Activation activation = {};
};

// Codes as bytes that the table takes.
uint8_t stored(const Kernels& isa, int code) {
  return static_cast<uint8_t>(isa.signed_codes ? code - 128 : code);
}

void expect_int8_product(const Kernels& isa, const CodeCase& c, std::mt19937& rng) {
  const Scattered at(c.quads, c.columns, rng);
  const auto code = [&] { return c.extreme ? (rng() % 8 == 0 ? 0 : 255) : int(rng() % 256); };
  const auto weight = [&] {
    return c.extreme ? (rng() % 8 == 0 ? 127 : -128) : int(rng() % 256) - 128;
  };
  std::vector<int> a(c.rows * c.quads * 4), b(4 * at.size);
  for (int& v : a) v = c.weights_in_b ? code() : weight();
  for (int& v : b) v = c.weights_in_b ? weight() : code();
  std::vector<uint8_t> a_bytes(a.size()), b_bytes(b.size());
  for (size_t i = 0; i < a.size(); ++i)
    a_bytes[i] = c.weights_in_b ? stored(isa, a[i]) : static_cast<uint8_t>(a[i]);
  for (size_t i = 0; i < b.size(); ++i)
    b_bytes[i] = c.weights_in_b ? static_cast<uint8_t>(b[i]) : stored(isa, b[i]);
  const int64_t outputs = c.weights_in_b ? c.columns : c.rows;
  std::vector<int32_t> start(outputs);
  for (int32_t& v : start) v = static_cast<int32_t>(rng() % 20001) - 10000;
  const std::vector<float> scale = random_floats(outputs, rng, 0.01f),
                           bias = random_floats(outputs, rng);
  const int64_t stride = c.columns + 2;
  std::vector<float> y(c.rows * stride, kUntouched);
  ProductInt8 it;
  it.rows = c.rows;
  it.columns = c.columns;
  it.quads = c.quads;
  it.a = a_bytes.data();
  it.a_stride = 4 * c.quads;
  it.b = b_bytes.data();
  it.b_quad = at.rows.data();
  it.weights_in_b = c.weights_in_b;
  it.start = start.data();
  it.scale = scale.data();
  it.bias = c.bias ? bias.data() : nullptr;
  it.y = y.data();
  it.y_stride = stride;
  it.activation = c.activation;

  isa.product_int8(it);

  const int offset = isa.signed_codes ? 128 : 0;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = 0; j < stride; ++j) {
      const int64_t index = r * stride + j, output = c.weights_in_b ? j : r;
      if (j >= c.columns) {
        ASSERT_EQ(y[index], kUntouched) << "written beyond column " << c.columns;
        continue;
      }
      int64_t sum = start[output];
      for (int64_t k = 0; k < 4 * c.quads; ++k) {
        const int64_t left = a[r * 4 * c.quads + k], right = b[4 * (at.rows[k / 4] + j) + k % 4];
        sum += c.weights_in_b ? (left - offset) * right : left * (right - offset);
      }
      const double product = static_cast<double>(sum) * scale[output],
                   want = product + (c.bias ? bias[output] : 0);
      const double bound = 6 * kEps * (std::abs(product) + std::abs(want)) +
                           activation_bound(c.activation, std::abs(want));
      ASSERT_TRUE(near(y[index], activated(c.activation, want), bound, index))
          << c.rows << " x " << c.columns << " x " << c.quads << " quads";
    }
  }
}

TEST_P(ProductTest, CodesOfEveryTile) {
  std::mt19937 rng(5);
  for (const bool weights_in_b : {false, true}) {
    for (const int64_t rows : kRowCounts) {
      for (const int64_t columns : kColumnCounts)
        ASSERT_NO_FATAL_FAILURE(
            expect_int8_product(isa(), {rows, columns, 5, weights_in_b, columns % 2 == 0}, rng));
    }
  }
}

TEST_P(ProductTest, ExtremeCodesDoNotSaturate) {
  std::mt19937 rng(6);
  for (const bool weights_in_b : {false, true}) {
    ASSERT_NO_FATAL_FAILURE(
        expect_int8_product(isa(), {9, 70, 300, weights_in_b, true, true}, rng));
  }
}

TEST_P(ProductTest, CodesOverBlocksOfColumnsWithActivation) {
  std::mt19937 rng(7);
  const Activation relu = {ActivationKind::kClamp, 0, kInf};
  for (const bool weights_in_b : {false, true}) {
    ASSERT_NO_FATAL_FAILURE(
        expect_int8_product(isa(), {9, 500, 400, weights_in_b, true, false, relu}, rng));
    ASSERT_NO_FATAL_FAILURE(
        expect_int8_product(isa(), {2, 50, 0, weights_in_b, true, false, relu}, rng));
  }
}

TEST_P(ProductTest, QuadsAreQuantizedAsDefined) {
  std::mt19937 rng(8);
  const float factors[] = {1.5f, 1, 0.25f, -3};
  for (const bool with_factors : {false, true}) {
    CodeRange range = {0.05f, 100, 3, 250};
    if (with_factors) range.factors = factors;
    for (const int64_t rows : {1, 2, 3, 4}) {
      for (const int64_t n : kColumnCounts) {
        const int64_t stride = n + 1;
        std::vector<float> x = random_floats((rows - 1) * stride + n, rng, 4);
        x[0] = 0.05f * 2.5f;  // a tie
        x.back() = -1e30f;
        std::vector<uint8_t> out(4 * n + 1, 77);

        isa().quantize_quads(x.data(), stride, rows, n, range, out.data());

        for (int64_t i = 0; i < 4 * n; ++i) {
          const int64_t row = i % 4;
          float code = 100;
          if (row < rows) {
            const float v = x[row * stride + i / 4] * (with_factors ? factors[row] : 1);
            code = std::nearbyint(v / range.scale) + 100;
          }
          ASSERT_EQ(out[i], stored(isa(), static_cast<int>(std::clamp(code, 3.f, 250.f))))
              << "index " << i << " of " << rows << " rows of " << n;
        }
        ASSERT_EQ(out[4 * n], 77);
      }
    }
  }
}

TEST_P(ProductTest, CodesInARowAndWhatTheyStandFor) {
  std::mt19937 rng(9);
  for (const bool with_factors : {false, true}) {
    for (const int64_t n : kColumnCounts) {
      std::vector<float> x = random_floats(n, rng, 4), y(n + 1, kUntouched);
      const std::vector<float> factors = random_floats(n, rng);
      x[0] = 0.05f * 2.5f;  // a tie
      x.back() = 1e30f;
      std::vector<uint8_t> out(n + 1, 77);
      CodeRange range = {0.05f, 100, 3, 250};
      isa().round_to_codes(x.data(), n, range, y.data());
      if (with_factors) range.factors = factors.data();
      isa().quantize_codes(x.data(), n, range, out.data());

      const auto code = [&](float v) {
        return std::clamp(std::nearbyint(v / range.scale) + 100, 3.f, 250.f);
      };
      for (int64_t i = 0; i < n; ++i) {
        const float v = with_factors ? x[i] * factors[i] : x[i];
        ASSERT_EQ(out[i], stored(isa(), static_cast<int>(code(v)))) << "index " << i << " of " << n;
        ASSERT_EQ(y[i], (code(x[i]) - 100) * range.scale) << "index " << i << " of " << n;
      }
      ASSERT_EQ(out[n], 77);
      ASSERT_EQ(y[n], kUntouched);
    }
  }
}

}  // namespace
}  // namespace packlight::kernels
