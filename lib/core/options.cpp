#include "core/options.h"

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/idle_option.h"
#include "core/nearest.h"

namespace attnscale {
namespace {

const char* type_name(Field::Type type) {
  switch (type) {
    case Field::Type::boolean:
      return "boolean";
    case Field::Type::integer:
      return "integer";
    case Field::Type::number:
      return "number";
    case Field::Type::text:
      return "string";
  }
  return "";
}

/// Bounds print without an exponent where they are whole: 1048576, not 1.04858e+06.
std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return fmt::format("{}", static_cast<int64_t>(value));
  return fmt::format("{}", value);
}

std::vector<std::string> names_of(const Fields& fields) {
  std::vector<std::string> names;
  for (const auto& field : fields) names.push_back(field.name);
  return names;
}

std::string range_text(const Field& field) {
  if (!field.choices.empty()) return fmt::format("{}", fmt::join(field.choices, ", "));
  if (field.minimum && field.maximum)
    return fmt::format("{} to {}", number_text(*field.minimum), number_text(*field.maximum));
  if (field.minimum)
    return fmt::format("{} {}", field.exclusive_minimum ? "above" : "at least", number_text(*field.minimum));
  return "";
}

/// What the option means, and when.
std::string doc_of(const Field& field) {
  return field.condition.empty() ? field.doc : fmt::format("{}; only with {}", field.doc, field.condition);
}

}  // namespace

Field Field::between(double low, double high) && {
  minimum = low;
  maximum = high;
  return std::move(*this);
}
Field Field::at_least(double low) && {
  minimum = low;
  return std::move(*this);
}
Field Field::above(double low) && {
  minimum = low;
  exclusive_minimum = true;
  return std::move(*this);
}
Field Field::one_of(std::vector<std::string> names) && {
  choices = std::move(names);
  return std::move(*this);
}
Field Field::in(std::string unit_name) && {
  unit = std::move(unit_name);
  return std::move(*this);
}

std::string Field::expected() const {
  switch (type) {
    case Type::boolean:
      return "true or false";
    case Type::text:
      return choices.empty() ? "a text" : fmt::format("one of {}", fmt::join(choices, ", "));
    case Type::integer:
    case Type::number:
      break;
  }
  std::string text = type == Type::integer ? "a whole number" : "a number";
  if (minimum && maximum) text += fmt::format(" from {} to {}", number_text(*minimum), number_text(*maximum));
  else if (minimum) text += fmt::format(" {} {}", exclusive_minimum ? "above" : "of at least", number_text(*minimum));
  return text;
}

std::string Field::problem_with(const Json& value) const {
  if (optional && value.is_null()) return "";  // as if left out, so that an axis can have that value
  const auto wrong = [&](const std::string& hint = "") {
    return fmt::format("received {}, expected {}{}", describe_value(value), expected(), hint);
  };
  switch (type) {
    case Type::boolean:
      return value.is_boolean() ? "" : wrong();
    case Type::text: {
      if (!value.is_string()) return wrong();
      const auto& text = value.get_ref<const std::string&>();
      for (const unsigned char c : text)
        if (c < 0x20 || c == 0x7f) return "received a text with control characters, expected plain text; remove them";
      if (choices.empty()) return "";
      for (const auto& choice : choices)
        if (choice == text) return "";
      const auto near = nearest_name(text, choices);
      return wrong(near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near));
    }
    case Type::integer:
      if (!value.is_number_integer()) return wrong(value.is_string() ? "; write it without quotes" : "");
      if (value.is_number_unsigned() &&
          value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return wrong();
      break;
    case Type::number:
      if (!value.is_number()) return wrong(value.is_string() ? "; write it without quotes" : "");
      break;
  }
  const double number = value.get<double>();
  if (minimum && (number < *minimum || (exclusive_minimum && number == *minimum))) return wrong();
  if (maximum && number > *maximum) return wrong();
  return "";
}

void read_fields(const Json& object, const std::string& path, const Fields& fields, void* into,
                 std::vector<Problem>& problems) {
  if (!object.is_object()) {
    problems.push_back({path, fmt::format("received {}, expected an object of options", describe_value(object))});
    return;
  }
  const size_t before = problems.size();
  for (const auto& [key, value] : object.items()) {
    const auto where = join_path(path, key);
    const auto found =
        std::find_if(fields.begin(), fields.end(), [&, &name = key](const Field& f) { return f.name == name; });
    if (found == fields.end()) {
      problems.push_back({where, "unknown key" + suggestion(key, names_of(fields))});
      continue;
    }
    if (const auto problem = found->problem_with(value); !problem.empty()) problems.push_back({where, problem});
    else if (!value.is_null()) found->set(into, value);
  }
  if (problems.size() != before) return;  // what an option depends on may be among the faults
  for (const auto& field : fields)
    if (object.contains(field.name) && !object[field.name].is_null() && field.in_effect && !field.in_effect(into))
      problems.push_back(idle_option(field, path, object[field.name]));
}

Problem idle_option(const Field& field, const std::string& path, const Json& value) {
  return {join_path(path, field.name), fmt::format("received {}, but it has an effect only with {}; leave it out",
                                                   describe_value(value), field.condition)};
}

Json write_fields(const Fields& fields, const void* from) {
  Json object = Json::object();
  auto& members = object.get_ref<Json::object_t&>();  // names differ: none is looked for
  members.reserve(fields.size());
  for (const auto& field : fields) {
    if (field.in_effect && !field.in_effect(from)) continue;
    if (auto value = field.get(from); !value.is_null()) members.emplace_back(field.name, std::move(value));
  }
  return object;
}

Json schema_of(const Fields& fields) {
  Json properties = Json::object();
  for (const auto& field : fields) {
    Json property = {{"type", type_name(field.type)}};
    property["description"] = field.unit.empty() ? doc_of(field) : fmt::format("{} ({})", doc_of(field), field.unit);
    if (!field.choices.empty()) property["enum"] = field.choices;
    if (field.optional) {
      property["type"] = {type_name(field.type), "null"};
      if (!field.choices.empty()) property["enum"].push_back(nullptr);
    }
    if (field.minimum) property[field.exclusive_minimum ? "exclusiveMinimum" : "minimum"] = *field.minimum;
    if (field.maximum) property["maximum"] = *field.maximum;
    if (!field.default_value.is_null()) property["default"] = field.default_value;
    properties[field.name] = std::move(property);
  }
  return {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

Json describe_fields(const Fields& fields) {
  Json list = Json::array();
  for (const auto& field : fields) {
    Json entry = {{"name", field.name}, {"type", type_name(field.type)}};
    if (!field.default_value.is_null()) entry["default"] = field.default_value;
    if (!field.unit.empty()) entry["unit"] = field.unit;
    if (const auto range = range_text(field); !range.empty()) entry["range"] = range;
    if (!field.condition.empty()) entry["only_with"] = field.condition;
    entry["doc"] = field.doc;
    list.push_back(std::move(entry));
  }
  return list;
}

std::string table_of(const Fields& fields) {
  std::string table = "| option | default | range | meaning |\n|---|---|---|---|\n";
  for (const auto& field : fields) {
    const auto shown = field.default_value.is_null() ? "derived" : "`" + field.default_value.dump() + "`";
    table += fmt::format("| `{}` | {} | {} | {}{} |\n", field.name, shown, range_text(field), doc_of(field),
                         field.unit.empty() ? "" : " (" + field.unit + ")");
  }
  return table;
}

void set_path(Json& object, const std::string& path, Json value) {
  Json* at = &object;
  size_t begin = 0;
  while (true) {
    if (!at->is_object())
      throw ConfigError(
          fmt::format("{}: \"{}\" is not a section with options", path, path.substr(0, begin ? begin - 1 : 0)));
    const auto dot = path.find('.', begin);
    const auto key = path.substr(begin, dot == std::string::npos ? dot : dot - begin);
    if (dot == std::string::npos) {
      (*at)[key] = std::move(value);
      return;
    }
    if (!at->contains(key)) (*at)[key] = Json::object();
    at = &(*at)[key];
    begin = dot + 1;
  }
}

std::pair<std::string, Json> parse_assignment(const std::string& text) {
  const auto equals = text.find('=');
  const auto path = text.substr(0, equals);
  const bool named = !path.empty() && path.front() != '.' && path.back() != '.' &&
                     path.find("..") == std::string::npos && path.find_first_of(" \t\n\"'") == std::string::npos;
  if (equals == std::string::npos || !named)
    throw Error(fmt::format("--set {}: expected path=value, for example --set model.depth=4", text), ExitCode::usage);
  const auto value = text.substr(equals + 1);
  Json parsed = Json::parse(value, nullptr, false);
  if (parsed.is_discarded()) parsed = value;
  return {path, std::move(parsed)};
}

}  // namespace attnscale
