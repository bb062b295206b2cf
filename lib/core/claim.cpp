#include "core/claim.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/nearest.h"

namespace attnscale {
namespace {

struct Key {
  const char *name, *type, *doc;
};

const std::vector<Key> keys = {
    {"claim", "string", "the sentence that the sweep decides"},
    {"measure", "string", "a formula over a run's columns, as `attnscale runs --columns` takes them: loss"},
    {"of", "string", "a condition: the runs that the claim is about; left out: all"},
    {"against", "string", "a condition: the runs that they are compared with; left out: the measure itself is meant"},
    {"as", "string", "what is taken of both: difference (the default) or ratio"},
    {"tune", "string", "config path of an option that each side has at its best value by loss, found on other seeds"},
    {"optimum", "string",
     "config path of a swept number: log2 of its value at which the measure is least, mean over seeds, is meant"},
    {"along", "string", "a formula such as log2(model_dim): the slope of the measure over it is meant"},
    {"diverged", "string", "a formula for what a run counts as that diverged; left out: then there is no verdict"},
    {"above", "number", "the number is expected above this"},
    {"below", "number", "the number is expected below this"}};

class ClaimReader {
 public:
  ClaimReader(const Json& json, std::string place, std::vector<Problem>& problems)
      : json_(json), place_(std::move(place)), problems_(problems) {}

  std::optional<Claim> read() {
    const size_t before = problems_.size();
    if (!json_.is_object()) {
      problem("", fmt::format("received {}, expected an object such as {{\"claim\": \"...\", \"measure\": \"loss\", "
                              "\"of\": \"depth > 2\", \"below\": 0}}",
                              describe_value(json_)));
      return std::nullopt;
    }
    check_keys();
    if (problems_.size() > before) return std::nullopt;
    Claim claim;
    claim.place = place_;
    claim.text = json_["claim"].get<std::string>();
    if (claim.text.empty()) problem("claim", "is empty, expected a sentence");
    claim.measure = formula("measure").value_or(Expression());
    claim.of = formula("of");
    claim.against = formula("against");
    claim.along = formula("along");
    claim.diverged = formula("diverged");
    claim.tune = json_.value("tune", "");
    claim.optimum = json_.value("optimum", "");
    if (!claim.tune.empty() && !claim.optimum.empty())
      problem("optimum", "asks where the measure is least, and tune takes each side there; leave one of them out");
    read_as(claim);
    if (json_.contains("above")) claim.above = json_["above"].get<double>();
    if (json_.contains("below")) claim.below = json_["below"].get<double>();
    if (!claim.above && !claim.below)
      problem("", "says nothing that is expected; give \"above\" or \"below\", or both");
    else if (claim.above && claim.below && *claim.above >= *claim.below)
      problem("below", fmt::format("{} leaves nothing above {}; take a larger one", *claim.below, *claim.above));
    return problems_.size() > before ? std::nullopt : std::optional(std::move(claim));
  }

 private:
  void problem(const std::string& key, std::string message) {
    problems_.push_back({key.empty() ? place_ : join_path(place_, key), std::move(message)});
  }

  void check_keys() {
    std::vector<std::string> known;
    for (const auto& key : keys) known.push_back(key.name);
    for (const auto& [name, value] : json_.items()) {
      const auto key =
          std::find_if(keys.begin(), keys.end(), [&, &own = name](const Key& one) { return own == one.name; });
      if (key == keys.end()) problem(name, "unknown key" + suggestion(name, known));
      else if (const bool number = std::string(key->type) == "number"; number ? !value.is_number() : !value.is_string())
        problem(name, fmt::format("received {}, expected a {}: {}", describe_value(value), number ? "number" : "text",
                                  key->doc));
    }
    for (const auto* name : {"claim", "measure"})
      if (!json_.contains(name)) problem("", fmt::format("\"{}\" is missing", name));
  }

  std::optional<Expression> formula(const char* key) {
    if (!json_.contains(key)) return std::nullopt;
    try {
      return Expression::parse(json_[key].get<std::string>());
    } catch (const ConfigError& error) {
      problem(key, error.what());
      return std::nullopt;
    }
  }

  void read_as(Claim& claim) {
    if (!json_.contains("as")) return;
    const auto as = json_["as"].get<std::string>();
    claim.ratio = as == "ratio";
    if (as != "ratio" && as != "difference")
      problem("as", fmt::format("received \"{}\", expected difference or ratio{}", as,
                                suggestion(as, {"difference", "ratio"})));
    else if (claim.ratio && !claim.optimum.empty())
      problem("as", "octaves are compared by their difference; leave it out");
    else if (!claim.against) problem("as", "there is nothing to compare with; give \"against\", or leave it out");
  }

  const Json& json_;
  std::string place_;
  std::vector<Problem>& problems_;
};

}  // namespace

std::string Claim::expected() const {
  const auto low = above ? fmt::format("above {}", *above) : "", high = below ? fmt::format("below {}", *below) : "";
  return low + (above && below ? " and " : "") + high;
}

std::vector<Claim> read_claims(const Json& json, std::vector<Problem>& problems) {
  std::vector<Claim> claims;
  if (!json.is_array()) {
    problems.push_back({"claims", fmt::format("received {}, expected a list of objects", describe_value(json))});
    return claims;
  }
  for (size_t i = 0; i < json.size(); ++i)
    if (auto claim = ClaimReader(json[i], fmt::format("claims[{}]", i), problems).read())
      claims.push_back(std::move(*claim));
  return claims;
}

std::vector<Claim> readable_claims(const JsonDocument& document) {
  const Json& list = document.value.at("claims");
  std::vector<Problem> problems;
  if (!list.is_array()) read_claims(list, problems);
  document.refuse(problems);
  std::vector<Claim> claims;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto place = fmt::format("claims[{}]", i);
    std::vector<Problem> own;
    if (auto claim = ClaimReader(list[i], place, own).read()) {
      claims.push_back(std::move(*claim));
      continue;
    }
    Claim unread;
    unread.place = unread.text = place;
    if (const auto& text = at_path(list[i], "claim"); text.is_string() && text != "") unread.text = text;
    try {
      document.refuse(own);
    } catch (const ConfigError& error) {
      unread.refused = error.what();
    }
    claims.push_back(std::move(unread));
  }
  return claims;
}

Json Claim::schema() {
  Json properties = Json::object();
  for (const auto& key : keys) properties[key.name] = {{"type", key.type}, {"description", key.doc}};
  properties["as"]["enum"] = {"difference", "ratio"};
  return {{"type", "object"},
          {"properties", properties},
          {"required", {"claim", "measure"}},
          {"anyOf", {{{"required", {"above"}}}, {{"required", {"below"}}}}},
          {"additionalProperties", false}};
}

}  // namespace attnscale
