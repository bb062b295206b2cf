#include "sweep/ranges.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/hash.h"
#include "core/nearest.h"
#include "sweep/spec.h"

namespace attnscale {
namespace {

/// Whole numbers up to here, and a step beyond, are exact.
constexpr double largest_multiple = 0x1p52;

/// A low-high interval, walked linearly or in the logarithm.
struct Interval {
  double low = 0, high = 0;
  bool logarithmic = false;
  double multiple_of = 0;  ///< 0: no rounding

  /// @param at  0 at the low end, 1 at the high end
  Json value(double at) const {
    const double exact = at <= 0       ? low
                         : at >= 1     ? high
                         : logarithmic ? low * std::pow(high / low, at)
                                       : low + at * (high - low);
    if (multiple_of == 0) return exact;
    return static_cast<int64_t>(std::max(1.0, std::round(exact / multiple_of)) * multiple_of);
  }
};

bool read_interval(const Json& range, const std::string& where, std::vector<Problem>& problems, Interval& into) {
  into.logarithmic = range.contains("log");
  const auto* key = into.logarithmic ? "log" : "linear";
  const Json& ends = range.at(key);
  const bool two_numbers = ends.is_array() && ends.size() == 2 && ends[0].is_number() && ends[1].is_number();
  if (!two_numbers || ends[0].get<double>() >= ends[1].get<double>() ||
      (into.logarithmic && ends[0].get<double>() <= 0)) {
    problems.push_back(
        {join_path(where, key), fmt::format("expected [low, high] with {}low < high", into.logarithmic ? "0 < " : "")});
    return false;
  }
  into.low = ends[0].get<double>();
  into.high = ends[1].get<double>();
  if (!std::isfinite(into.logarithmic ? into.high / into.low : into.high - into.low)) {
    problems.push_back({join_path(where, key), "low and high lie too far apart for a double to hold what is between"});
    return false;
  }
  if (range.contains("multiple_of")) {
    const Json& multiple = range["multiple_of"];
    if (!multiple.is_number_unsigned() || multiple.get<uint64_t>() == 0 || multiple.get<uint64_t>() > 1'000'000) {
      problems.push_back(
          {join_path(where, "multiple_of"),
           fmt::format("received {}, expected a whole number from 1 to 1000000", describe_value(multiple))});
      return false;
    }
    into.multiple_of = multiple.get<double>();
    if (std::max(-into.low, into.high) > largest_multiple) {
      problems.push_back({join_path(where, key), "expected numbers within 2^52 where multiples are asked for"});
      return false;
    }
  }
  return true;
}

bool check_keys(const Json& range, const std::string& where, const std::vector<std::string>& kinds,
                std::vector<std::string> others, std::vector<Problem>& problems) {
  if (!range.is_object()) {
    problems.push_back(
        {where, fmt::format("received {}, expected a list of values or a range such as {{\"log\": [1e-4, 1e-2]}}",
                            describe_value(range))});
    return false;
  }
  int given = 0;
  others.insert(others.end(), kinds.begin(), kinds.end());
  const size_t before = problems.size();
  for (const auto& [key, value] : range.items()) {
    if (std::find(kinds.begin(), kinds.end(), key) != kinds.end()) ++given;
    else if (std::find(others.begin(), others.end(), key) == others.end())
      problems.push_back({join_path(where, key), "unknown key" + suggestion(key, others)});
  }
  if (problems.size() == before && given != 1)
    problems.push_back({where, fmt::format("expected exactly one of {}", fmt::join(kinds, ", "))});
  return problems.size() == before;
}

}  // namespace

std::vector<Json> expand_values(const Json& values, const std::string& where, std::vector<Problem>& problems) {
  if (values.is_array()) {
    if (values.empty())
      problems.push_back({where, "is an empty list, so the sweep would have no runs; give it values or remove it"});
    return {values.begin(), values.end()};
  }
  if (!check_keys(values, where, {"log", "linear"}, {"points", "multiple_of"}, problems)) return {};
  const auto points = values.value("points", Json());
  if (!points.is_number_unsigned() || points.get<uint64_t>() < 2 ||
      points.get<uint64_t>() > static_cast<uint64_t>(max_runs)) {
    problems.push_back(
        {values.contains("points") ? join_path(where, "points") : where,
         fmt::format("\"points\": received {}, expected a whole number from 2 to 1000000", describe_value(points))});
    return {};
  }
  Interval interval;
  if (!read_interval(values, where, problems, interval)) return {};
  std::vector<Json> result;
  const auto count = points.get<uint64_t>();
  for (uint64_t i = 0; i < count; ++i) {
    auto value = interval.value(static_cast<double>(i) / static_cast<double>(count - 1));
    if (result.empty() || result.back() != value) result.push_back(std::move(value));  // rounding may repeat one
  }
  return result;
}

std::vector<Json> draw_values(const Json& range, const std::string& where, uint64_t seed, const std::string& path,
                              int64_t samples, std::vector<Problem>& problems) {
  if (!check_keys(range, where, {"log", "linear", "choice"}, {"multiple_of"}, problems)) return {};
  Interval interval;
  const bool choice = range.contains("choice");
  if (choice && (!range["choice"].is_array() || range["choice"].empty())) {
    problems.push_back({join_path(where, "choice"), "expected a list with at least one value"});
    return {};
  }
  if (!choice && !read_interval(range, where, problems, interval)) return {};
  std::vector<Json> result;
  for (int64_t i = 0; i < samples; ++i) {
    const double uniform =
        static_cast<double>(stream_seed(seed, "random/" + path, static_cast<uint64_t>(i)) >> 11) * 0x1p-53;
    if (choice) {
      const auto& list = range["choice"];
      result.push_back(list[static_cast<size_t>(uniform * static_cast<double>(list.size()))]);
    } else {
      result.push_back(interval.value(uniform));
    }
  }
  return result;
}

}  // namespace attnscale
