#include "sweep/match_options.h"

#include <fmt/format.h>

#include "core/options.h"

namespace attnscale {
namespace {

const std::vector<std::string> quantities = {"parameters", "non_embedding_parameters", "flops", "state_bytes"};

const Fields& fields() {
  static const Fields list = {
      field(&Match::quantity, "quantity",
            "what is made equal: trained numbers, with or without embeddings; executed FLOPs of a token; bytes of "
            "the decode state at full context")
          .one_of(quantities),
      field(&Match::by, "by", "config path of the whole number that is solved for"),
      field(&Match::multiple_of, "multiple_of", "what that number is a multiple of").between(1, 1 << 16),
      field(&Match::tolerance, "tolerance", "largest relative difference that is left; beyond it the run is refused")
          .between(0, 1),
  };
  return list;
}

}  // namespace

Json Match::schema() {
  Json schema = schema_of(fields());
  schema["description"] = "brings every run to the size of the same run with the settings of \"as\"";
  schema["properties"]["as"] = {{"type", "object"},
                                {"description", "config path -> value: what the reference has instead"},
                                {"propertyNames", {{"pattern", "^(model|attention|data|train)(\\.|$)"}}}};
  schema["required"] = {"as"};
  return schema;
}

Match Match::from_json(const Json& json, std::vector<Problem>& problems) {
  Match match;
  if (!json.is_object()) {
    problems.push_back({"match", fmt::format("received {}, expected an object such as {{\"quantity\": \"parameters\", "
                                             "\"as\": {{\"attention\": {{\"variant\": \"softmax\"}}}}, \"by\": "
                                             "\"model.ffn_dim\"}}",
                                             describe_value(json))});
    return match;
  }
  Json own = json;
  own.erase("as");
  read_fields(own, "match", fields(), &match, problems);
  if (!match.by.starts_with("model.") && !match.by.starts_with("attention."))
    problems.push_back({"match.by", fmt::format("received \"{}\", expected the path of a whole number such as "
                                                "\"model.ffn_dim\" or \"attention.window\"",
                                                match.by)});
  if (!json.contains("as") || !json["as"].is_object() || json["as"].empty()) {
    problems.push_back({json.contains("as") ? "match.as" : "match",
                        "\"as\" is missing or empty; expected what the reference has instead, for example "
                        "{\"attention\": {\"variant\": \"softmax\"}}"});
    return match;
  }
  match.as = json["as"];
  return match;
}

}  // namespace attnscale
