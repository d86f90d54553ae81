#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <thread>

#include "base/fail.h"
#include "exec/executor.h"

namespace packlight::exec {
namespace {

// OpenBLAS keeps threads of its own, which LibTorch does not set.
void set_blas_threads(int threads) {
  using SetThreads = void (*)(int);
  auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set != nullptr) set(threads);
}

// Compares one product of each kind that matrix code paths differ in (plain, transposed, odd sizes)
// with a loop in double. Bound: k additions and products of numbers below 1, each rounded to 2^-24
// of a partial sum below k.
void check_product(int64_t m, int64_t n, int64_t k) {
  const auto fill = [](int64_t rows, int64_t cols, int64_t salt) {
    at::Tensor t = at::arange(rows * cols, at::kLong);
    return (t * 7919 + salt).remainder(1009).to(at::kFloat).div(1009).sub(0.5).view({rows, cols});
  };
  const at::Tensor a = fill(m, k, 1), b = fill(n, k, 2);
  const at::Tensor want =
      at::matmul(a.to(at::kDouble).unsqueeze(1), b.to(at::kDouble).t().unsqueeze(0)).squeeze(1);
  const double bound = static_cast<double>(k) * static_cast<double>(k) * 0x1p-24;
  for (const at::Tensor& got :
       {at::mm(a, b.t()), at::mm(a, b.t().contiguous()), at::mm(b, a.t()).t()}) {
    const double error = (got.to(at::kDouble) - want).abs().max().item<double>();
    if (error <= bound) continue;  // false for NaN
    fail(ErrorCode::kInternal,
         "[exec] this machine's BLAS computes a {}x{}x{} product wrongly (error {:.3g}, bound "
         "{:.3g}): set the environment "
         "variable OPENBLAS_CORETYPE to Haswell (or SkylakeX) and start again",
         m, n, k, error, bound);
  }
}

// What LibTorch warns of concerns its own development; users of the command cannot act on it.
class NoWarnings : public c10::WarningHandler {
  void process(const c10::SourceLocation&, const std::string&, bool) override {}
};

}  // namespace

void initialise(int threads) {
  if (threads < 0)
    fail(ErrorCode::kInvalidArgument, "[exec] {} threads; 0 means one per processor", threads);
  if (threads == 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  static NoWarnings no_warnings;
  c10::Warning::set_warning_handler(&no_warnings);
  at::set_num_threads(threads);
  set_blas_threads(threads);
  static bool checked = false;
  if (checked) return;
  check_product(128, 96, 160);
  check_product(67, 33, 577);
  check_product(1, 130, 65);
  checked = true;
}

}  // namespace packlight::exec
