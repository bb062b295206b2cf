#include "core/expression_lists.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace attnscale {
namespace {

std::optional<std::vector<double>> numbers_of(const std::string& name, const Json& list) {
  std::vector<double> numbers;
  for (const auto& item : list) {
    if (item.is_null()) return std::nullopt;
    if (!item.is_number())
      throw ConfigError(fmt::format("{} of a list with {} in it; expected numbers", name, describe_value(item)));
    numbers.push_back(item.get<double>());
  }
  return numbers;
}

Json mean_of(const std::vector<double>& y) {
  if (y.empty()) return nullptr;
  double sum = 0;
  for (const double value : y) sum += value;
  return sum / static_cast<double>(y.size());
}

Json slope_of(const std::vector<double>& y) {
  if (y.size() < 2) return nullptr;
  const double centre = static_cast<double>(y.size() - 1) / 2, middle = mean_of(y).get<double>();
  double above = 0, below = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double x = static_cast<double>(i) - centre;
    above += x * (y[i] - middle);
    below += x * x;
  }
  return above / below;
}

Json part_of(const Json& list, const Json& from, const Json& to) {
  const auto place = [&](const Json& bound) {
    if (!bound.is_number_integer())
      throw ConfigError(fmt::format("part of a list takes two whole numbers, received {}", describe_value(bound)));
    const auto size = static_cast<int64_t>(list.size());
    const auto at = bound.get<int64_t>();
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  };
  Json items = Json::array();
  for (int64_t i = place(from); i < place(to); ++i) items.push_back(list[static_cast<size_t>(i)]);
  return items;
}

}  // namespace

bool is_list_function(const std::string& name) {
  return name == "first" || name == "last" || name == "mean" || name == "part" || name == "slope";
}

Json list_function(const std::string& name, const std::vector<Json>& values) {
  const auto& list = values.front();
  if (list.is_null()) return nullptr;
  if (!list.is_array()) throw ConfigError(fmt::format("{} of {}; expected a list", name, describe_value(list)));
  if (name == "part") return part_of(list, values[1], values[2]);
  if (name == "first") return list.empty() ? Json() : list.front();
  if (name == "last") return list.empty() ? Json() : list.back();
  const auto numbers = numbers_of(name, list);
  if (!numbers) return nullptr;
  return name == "mean" ? mean_of(*numbers) : slope_of(*numbers);
}

}  // namespace attnscale
