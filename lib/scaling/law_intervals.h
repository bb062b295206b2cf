#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "scaling/bootstrap.h"
#include "scaling/profile.h"

namespace attnscale {

/// A quantity of a law by the name that the JSON gives it.
struct LawQuantity {
  std::string name;
  std::function<double(const PowerSum&)> of;
  bool positive = true;  ///< profiled by its logarithm
};

/// E, then the coefficients A, B, .., then the exponents by their names.
std::vector<LawQuantity> law_quantities(const std::vector<std::string>& exponents);

/// 95 % intervals of whatever a law says.
///
/// Where every group of points is one cell of the design, profile t (LawProfile); where groups are whole runs with
/// several checkpoints, or cells are too many, the bootstrap. Measured on simulated sweeps (`attnscale fit
/// --self-test`): profiles cover 94 to 97 % with 9 to 30 cells, and with Student's t3 noise, outliers or noise that is
/// even in L instead of ln L still 91 to 98 %; the bootstrap of residuals covers 93 to 98 %, up to 100 % with
/// outliers, and is 2 to 30 % wider under clean noise. With outliers the profile is the wider one, up to 1.7 times.
class LawIntervals {
 public:
  /// @param profile  may be null
  LawIntervals(const Bootstrap& resampled, const LawProfile* profile) : resampled_(resampled), profile_(profile) {}

  const char* method() const { return profile_ ? "profile t" : "bootstrap"; }

  /// Nothing where the data determine none. An interval by profile is that of least squares. Where it does not hold
  /// `value`, the robust fit's own, the two disagree (outliers, or a law that does not fit): then it is the hull with
  /// the bootstrap's, which is about the robust fit.
  std::optional<Interval> of(const LawQuantity& quantity, double value) const;

  /// By the bootstrap, whatever the method. A replicate in which the quantity has no value counts as failed.
  std::optional<Interval> by_bootstrap(const LawQuantity& quantity) const;

 private:
  const Bootstrap& resampled_;
  const LawProfile* profile_;
};

}  // namespace attnscale
