#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/fit.h"
#include "scaling/flags.h"

namespace attnscale {

/// One law to be fitted: its variables with their names, and the points.
struct Form {
  std::string name;
  std::vector<std::string> symbols, exponents;  ///< {"N", "D"}, {"alpha", "beta"}
  std::vector<std::vector<double>> x;           ///< one column per variable
  std::vector<double> losses;                   ///< what is fitted, nats per token
  std::vector<Point> points;
  std::string choice;  ///< which points, in words
  Flags flags;
};

/// The form's law with everything that fit_report says about it.
/// @throws NumericsError if no start has a finite objective
Json fit_form(const Form& form, const FitReportOptions& options);

}  // namespace attnscale
