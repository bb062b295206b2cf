// Conformance, fourth theme: options. What JSON gives back, and what must be refused.

#include <fmt/format.h>

#include "attention/conformance_case.h"

namespace attnscale::conformance {
namespace {

bool accepts(const VariantInfo& variant, const Json& options) {
  try {
    variant.resolve(options);
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

/// Values that a field must refuse: of another kind, past its bounds, outside its choices.
std::vector<Json> illegal_values(const Field& field) {
  using Type = Field::Type;
  switch (field.type) {
    case Type::boolean:
      return {1, "true"};
    case Type::text:
      return field.choices.empty() ? std::vector<Json>{1} : std::vector<Json>{1, field.choices.front() + "?"};
    case Type::integer:
    case Type::number:
      break;
  }
  std::vector<Json> values = {"1", true};
  const auto past = [&](double bound, int direction) -> Json {
    if (field.type == Type::integer) return static_cast<int64_t>(bound) + direction;
    return bound + direction * std::max(1.0, std::abs(bound)) * 1e-9;
  };
  if (field.type == Type::integer) values.push_back(1.5);
  if (field.minimum && field.exclusive_minimum) values.push_back(*field.minimum);
  if (field.minimum) values.push_back(past(*field.minimum, -1));
  if (field.maximum) values.push_back(past(*field.maximum, 1));
  return values;
}

void check_bounds(const VariantInfo& variant, Recorder& record) {
  const auto refuse = [&](const Json& options) {
    record.note("bounds_enforced", accepts(variant, options), 0, "accepts " + options.dump());
  };
  refuse({{"no such option", 1}});
  for (const auto& field : variant.fields) {
    // Whole numbers count or measure something here: without a bound, -1 would be legal.
    const bool unbounded = field.type == Field::Type::integer && !field.minimum;
    record.note("bounds_enforced", unbounded, 0, fmt::format("{} has no minimum", field.name));
    for (const auto& value : illegal_values(field)) refuse({{field.name, value}});
    if (!field.optional) refuse({{field.name, nullptr}});  // elsewhere it stands for leaving the option out
  }
}

void check_round_trip(const VariantInfo& variant, const Json& options, Recorder& record) {
  const auto resolved = variant.resolve(options);
  const auto again = variant.resolve(Json::parse(resolved.dump()));
  record.note("options_round_trip", resolved.dump() != again.dump(), 0, resolved.dump() + " became " + again.dump());
  for (const auto& [name, value] : options.items())
    record.note("options_round_trip", !resolved.contains(name) || resolved[name] != value, 0,
                fmt::format("{} = {} was not kept", name, value.dump()));
  for (const auto& field : variant.fields)
    record.note("options_round_trip", !field.optional && !resolved.contains(field.name), 0,
                fmt::format("{} has no resolved value", field.name));
}

}  // namespace

void check_options(const VariantInfo& variant, const std::vector<Json>& options, Recorder& record) {
  check_bounds(variant, record);
  for (const auto& choice : options) check_round_trip(variant, choice, record);
}

}  // namespace attnscale::conformance
