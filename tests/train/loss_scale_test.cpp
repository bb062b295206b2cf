#include "train/loss_scale.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

LossScale scale_of(double start, int64_t growth_every) {
  TrainOptions options;
  options.dtype = "float16";
  options.loss_scale = start;
  options.loss_scale_growth_every = growth_every;
  return LossScale(resolved(options));
}

}  // namespace

TEST_CASE("loss scale: the sequence of torch.amp.GradScaler, found by hand from its rules") {
  auto scale = scale_of(8, 3);
  const auto after = [&](bool overflow) {
    if (overflow) CHECK(scale.overflowed());
    else scale.succeeded();
    return scale.value();
  };
  // growth_factor 2, backoff_factor 0.5, growth_interval 3: a step with overflow starts the count anew.
  CHECK(after(false) == 8);
  CHECK(after(false) == 8);
  CHECK(after(true) == 4);
  CHECK(after(false) == 4);
  CHECK(after(false) == 4);
  CHECK(after(false) == 8);
  CHECK(after(false) == 8);
  CHECK(scale.steps_since_change() == 1);
}

TEST_CASE("loss scale: an overflow at 1 is not for scaling to mend, and other dtypes are not scaled") {
  auto scale = scale_of(2, 100);
  CHECK(scale.overflowed());
  CHECK(scale.value() == 1);
  CHECK_FALSE(scale.overflowed());
  LossScale none{resolved(TrainOptions())};
  for (int i = 0; i < 5000; ++i) none.succeeded();
  CHECK(none.value() == 1);
  CHECK_FALSE(none.overflowed());
}
