#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// One option: everything that its JSON form, `--set`, help, schema, docs and hash need.
struct Field {
  enum class Type { boolean, integer, number, text };

  std::string name;
  Type type;
  bool optional = false;  ///< may be left out; then its doc says what is derived
  std::string doc, unit;
  std::optional<double> minimum, maximum;
  bool exclusive_minimum = false;
  std::vector<std::string> choices;
  Json default_value;  ///< null for an optional field
  std::string condition;  ///< when the option has an effect, in words; empty: always
  std::function<bool(const void*)> in_effect;  ///< of the struct as it was read; empty: always

  std::function<Json(const void*)> get;
  std::function<void(void*, const Json&)> set;  ///< the value has passed `problem_with`

  /// Refinements, written behind `field(...)`. Bounds are inclusive except `above`.
  Field between(double low, double high) &&;
  Field at_least(double low) &&;
  Field above(double low) &&;
  Field one_of(std::vector<std::string> names) &&;
  Field in(std::string unit_name) &&;

  /// The option has an effect only when the other options of its struct say so. Given without effect it is refused, and
  /// then it is not written out. @param words  behind "only with", such as "schedule step"
  template <class Struct>
  Field only_with(std::string words, bool (*effect)(const Struct&)) && {
    condition = std::move(words);
    in_effect = [effect](const void* options) { return effect(*static_cast<const Struct*>(options)); };
    return std::move(*this);
  }

  /// Why a JSON value cannot be this option; empty when it can.
  std::string problem_with(const Json& value) const;

  /// `a whole number from 1 to 64`, for messages and help.
  std::string expected() const;
};
using Fields = std::vector<Field>;

namespace detail {
template <class T>
struct FieldValue {
  using type = T;
  static constexpr bool optional = false;
};
template <class T>
struct FieldValue<std::optional<T>> {
  using type = T;
  static constexpr bool optional = true;
};
}  // namespace detail

/// Declares the option `name` held in `member`; its default is the member's own initialiser.
template <class Struct, class Member>
Field field(Member Struct::*member, std::string name, std::string doc) {
  using Value = typename detail::FieldValue<Member>::type;
  constexpr bool optional = detail::FieldValue<Member>::optional;
  Field result;
  result.name = std::move(name);
  result.doc = std::move(doc);
  result.optional = optional;
  if constexpr (std::is_same_v<Value, bool>) result.type = Field::Type::boolean;
  else if constexpr (std::is_integral_v<Value>) result.type = Field::Type::integer;
  else if constexpr (std::is_floating_point_v<Value>) result.type = Field::Type::number;
  else result.type = Field::Type::text;
  result.get = [member](const void* from) -> Json {
    const auto& value = static_cast<const Struct*>(from)->*member;
    if constexpr (optional) return value ? Json(*value) : Json(nullptr);
    else return Json(value);
  };
  result.set = [member](void* to, const Json& value) {
    static_cast<Struct*>(to)->*member = value.template get<Value>();
  };
  const Struct defaults{};
  result.default_value = result.get(&defaults);
  return result;
}

/// Reads an object into a struct through its field list; collects every problem and goes on. If there was none, refuses
/// the options that have no effect beside the others.
/// @param path  JSON path of the object, for messages
void read_fields(const Json& object, const std::string& path, const Fields& fields, void* into,
                 std::vector<Problem>& problems);

/// The struct as a JSON object in declaration order, without unset optional fields and options that have no effect.
Json write_fields(const Fields& fields, const void* from);

/// JSON Schema of the object that `read_fields` takes.
Json schema_of(const Fields& fields);

/// The options as JSON for `list --json` and `describe --json`: name, type, default, unit, range, only_with, doc.
Json describe_fields(const Fields& fields);

/// Markdown table of the options, for the docs.
std::string table_of(const Fields& fields);

/// Sets the value at a dotted path (`model.depth`), creating objects on the way.
/// @throws ConfigError if the path passes through something that is not an object
void set_path(Json& object, const std::string& path, Json value);

/// Value of a `--set path=value` argument: JSON if it parses as such, otherwise text.
/// @throws Error with ExitCode::usage if there is no `=`, or no path of names between dots before it
std::pair<std::string, Json> parse_assignment(const std::string& text);

/// Typed forms; `Struct::fields()` is the field list.
template <class Struct>
void read_options(const Json& object, const std::string& path, Struct& into, std::vector<Problem>& problems) {
  read_fields(object, path, Struct::fields(), &into, problems);
}
template <class Struct>
Json write_options(const Struct& from) {
  return write_fields(Struct::fields(), &from);
}

}  // namespace attnscale
