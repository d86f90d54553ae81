#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_code.h"
#include "prune/admm.h"
#include "prune/hessian_factor.h"
#include "prune/layer_problem.h"
#include "prune/masked_fit.h"
#include "prune/obs_update.h"

namespace packlight::prune {
namespace {

double largest(const at::Tensor& t) { return t.abs().max().item<double>(); }

TEST(HessianFactor, IsTheFactorOfTheInverse) {
  const at::Tensor h = layer_problem(1, 9, 50).hessian;
  const HessianFactor factor = factor_hessian(h, 0.01, "fc");
  const at::Tensor damped =
      h + at::eye(9, at::kDouble) * (0.01 * h.diagonal().mean().item<double>());
  EXPECT_EQ(factor.damping, 0.01);
  // A few hundred F64 roundings, times a condition below 1e5.
  EXPECT_LT(largest(factor.hessian - damped), 1e-12);
  EXPECT_LT(largest(at::mm(factor.inverse, damped) - at::eye(9, at::kDouble)), 1e-8);
  EXPECT_LT(largest(at::mm(factor.upper.t(), factor.upper) - factor.inverse),
            1e-8 * largest(factor.inverse));
  EXPECT_EQ(largest(factor.upper.tril(-1)), 0);
}

TEST(HessianFactor, DampsMoreWhereItMust) {
  // 20 inputs and 5 tokens: of rank 5.
  const HessianFactor factor = factor_hessian(layer_problem(1, 20, 5).hessian, 0, "fc");
  EXPECT_GT(factor.damping, 0);
  EXPECT_LE(factor.damping, 1e-3);
  EXPECT_TRUE(at::isfinite(factor.upper).all().item<bool>());
}

TEST(HessianFactor, IndefiniteIsAnErrorThatNamesTheLayer) {
  const at::Tensor h = at::tensor({1.0, 3.0, 3.0, 1.0}, at::kDouble).view({2, 2});
  test::expect_error(ErrorCode::kInvalidArgument, {"'fc7'", "positive definite"},
                     [&] { factor_hessian(h, 0.01, "fc7"); });
}

TEST(HessianFactor, DeadInputsCostNothing) {
  at::Tensor h = layer_problem(1, 4, 50).hessian.clone();
  h.select(0, 2).zero_();
  h.select(1, 2).zero_();
  const HessianFactor factor = factor_hessian(h, 0.01, "fc");
  EXPECT_EQ(factor.damping, 0.01);
  EXPECT_EQ(factor.inverse.diagonal().argmax().item<int64_t>(), 2);  // the cheapest to remove
  const HessianFactor dead = factor_hessian(at::zeros({4, 4}, at::kDouble), 0.01, "fc");
  EXPECT_TRUE(dead.upper.equal(at::eye(4, at::kDouble)));
}

// Every removal is made up for by the columns to its right as well as they can, those to its left
// being what they are.
TEST(ObsUpdate, EqualsLeastSquaresColumnByColumn) {
  const LayerProblem p = layer_problem(5, 12, 60);
  const HessianFactor factor = factor_hessian(p.hessian, 0.01, "fc");
  const at::Tensor mask = at::rand({5, 12}).gt(0.5);
  const PrunedMatrix got = prune_with_obs_update(
      p.w, factor, 4,
      [&](const at::Tensor& w, int64_t first) { return mask.slice(1, first, first + w.size(1)); });
  EXPECT_TRUE(got.mask.equal(mask));
  for (int64_t r = 0; r < 5; ++r) {
    const at::Tensor target = p.w[r].to(at::kDouble);
    at::Tensor want = target.clone();
    for (int64_t c = 0; c < 12; ++c) {
      if (mask[r][c].item<bool>()) continue;
      want[c].zero_();
      want = best_row(target, factor.hessian, at::arange(12).gt(c), want);
    }
    // F64 but for the result: rounding to F32 is half a unit of 2^-23.
    EXPECT_LE(largest(got.weight[r] - want), 1e-6 * largest(want)) << r;
    EXPECT_TRUE(got.weight[r].eq(0).equal(mask[r].logical_not()));
  }
}

TEST(ObsUpdate, BlocksOfColumnsChangeNothing) {
  const LayerProblem p = layer_problem(3, 300, 900);
  const HessianFactor factor = factor_hessian(p.hessian, 0.01, "fc");
  const at::Tensor mask = at::rand({3, 300}).gt(0.5);
  const auto choose = [&](const at::Tensor& w, int64_t first) {
    return mask.slice(1, first, first + w.size(1));
  };
  const at::Tensor one =
      prune_with_obs_update(p.w, factor, 300, choose).weight;  // no product between blocks
  EXPECT_LE(largest(one - prune_with_obs_update(p.w, factor, 4, choose).weight),
            1e-5 * largest(one));
}

TEST(ObsUpdate, ChoosesFromWhatTheColumnsBeforeHaveLeft) {
  const LayerProblem p = layer_problem(2, 8, 60);
  const HessianFactor factor = factor_hessian(p.hessian, 0.01, "fc");
  std::vector<int64_t> asked;
  prune_with_obs_update(p.w, factor, 4, [&](const at::Tensor& w, int64_t first) {
    asked.push_back(first);
    EXPECT_EQ(w.sizes(), (at::IntArrayRef{2, 4}));
    EXPECT_EQ(w.equal(p.w.slice(1, first, first + 4)), first == 0);
    return at::zeros({2, 4}, at::kBool);
  });
  EXPECT_EQ(asked, (std::vector<int64_t>{0, 4}));
}

TEST(MaskedFit, EqualsLeastSquaresOnTheMask) {
  const LayerProblem p = layer_problem(6, 10, 80);
  const at::Tensor mask = at::rand({6, 10}).gt(0.4);
  const at::Tensor got = fit_masked(p.w, p.hessian, mask, p.w, 40);
  for (int64_t r = 0; r < 6; ++r) {
    const at::Tensor want =
        best_row(p.w[r].to(at::kDouble), p.hessian, mask[r], at::zeros({10}, at::kDouble));
    // Conjugate gradients in F32 on a Hessian of condition up to some 1e3.
    EXPECT_LE(largest(got[r] - want), 1e-3 * largest(want)) << r;
    EXPECT_TRUE(got[r].masked_select(mask[r].logical_not()).eq(0).all().item<bool>());
  }
}

TEST(MaskedFit, IsNeverWorseThanItsStart) {
  const LayerProblem p = layer_problem(6, 30, 40);
  const at::Tensor mask = at::rand({6, 30}).gt(0.5);
  double before = output_error(p.w * mask, p.w, p.hessian);
  for (const int iterations : {1, 2, 5, 20, 100}) {
    const double after =
        output_error(fit_masked(p.w, p.hessian, mask, p.w, iterations), p.w, p.hessian);
    EXPECT_LE(after, before * (1 + 1e-4)) << iterations;
    before = after;
  }
}

TEST(MaskedFit, RowsWithoutWeightsStayZero) {
  const LayerProblem p = layer_problem(2, 5, 40);
  at::Tensor mask = at::ones({2, 5}, at::kBool);
  mask[0].zero_();
  mask[1][2] = false;
  const at::Tensor got = fit_masked(p.w, p.hessian, mask, p.w, 10);
  EXPECT_EQ(got[0].count_nonzero().item<int64_t>(), 0);
  EXPECT_EQ(got[1].count_nonzero().item<int64_t>(), 4);
}

TEST(Admm, ErrsLessThanTheColumnwiseUpdate) {
  const LayerProblem p = layer_problem(40, 64, 300);
  const HessianFactor factor = factor_hessian(p.hessian, 0.01, "fc");
  const at::Tensor norms = factor.hessian.diagonal().sqrt().to(at::kFloat);
  const PrunedMatrix update =
      prune_with_obs_update(p.w, factor, 64, [&](const at::Tensor& w, int64_t first) {
        return keep_mask(w.abs() * norms.slice(0, first, first + w.size(1)), {}, 0.5,
                         Scope::kMatrix);
      });
  const PrunedMatrix admm =
      prune_with_admm(p.w, factor, {}, [&](const at::Tensor& w, double progress) {
        return keep_mask(w.abs() * norms, {}, 0.5 * progress, Scope::kMatrix);
      });
  EXPECT_EQ(admm.mask.sum().item<int64_t>(), 40 * 32);
  EXPECT_TRUE(admm.weight.masked_select(admm.mask.logical_not()).eq(0).all().item<bool>());
  EXPECT_LT(output_error(admm.weight, p.w, factor.hessian),
            output_error(update.weight, p.w, factor.hessian));
}

}  // namespace
}  // namespace packlight::prune
