#include "sweep/exclusion.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/json_paths.h"
#include "core/nearest.h"
#include "core/options.h"

namespace attnscale {
namespace {

void collect_options(const Json& value, const std::string& path, std::map<std::string, Json>& into) {
  if (!value.is_object()) into[path] = value;
  else
    for (const auto& [key, inside] : value.items()) collect_options(inside, join_path(path, key), into);
}

}  // namespace

Exclusion::Exclusion(const std::vector<std::pair<std::string, Expression>>& conditions) : conditions_(conditions) {
  for (const auto& [place, condition] : conditions_)
    for (const auto& name : condition.names()) {
      if (std::ranges::find(names_, name) != names_.end()) continue;
      names_.push_back(name);
      const auto& fields = TrainOptions::fields();
      const auto field = std::ranges::find_if(
          fields, [&](const Field& f) { return f.name == name || join_path("train", f.name) == name; });
      in_training_.push_back(field == fields.end() ? nullptr : &*field);
    }
  had_.resize(names_.size());
}

const Exclusion::Shape& Exclusion::shape_of(const ResolvedRun& run) {
  constexpr size_t most_kept = 1024;  // runs of one shape mostly follow each other
  if (shapes_.size() >= most_kept && !shapes_.contains(run.shape.get())) shapes_.clear();
  const auto [place, is_new] = shapes_.try_emplace(run.shape.get());
  auto& shape = place->second;
  if (!is_new) return shape;
  shape.config = run.shape;
  auto sections = run.shape->to_json();
  sections.erase("train");
  collect_options(sections, "", shape.options);
  for (const auto& name : names_) {
    auto& found = shape.found.emplace_back();
    for (const auto& [path, value] : shape.options)
      if (path == name || last_part(path) == name) found.push_back(path);
  }
  return shape;
}

/// Names that are nowhere are told with the nearest that some run had.
void Exclusion::note_known(const ResolvedRun& run) {
  std::map<std::string, Json> options;
  collect_options(run.config().to_json(), "", options);
  for (const auto& [path, value] : options) {
    known_.insert(path);
    known_.insert(last_part(path));
  }
}

bool Exclusion::holds(const ResolvedRun& run) {
  if (conditions_.empty()) return false;
  const auto& shape = shape_of(run);
  std::vector<Json> of_training(names_.size());
  std::vector<const Json*> value_of(names_.size());
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto* field = in_training_[i];
    if (field && (!field->in_effect || field->in_effect(&run.train))) of_training[i] = field->get(&run.train);
    if (!shape.found[i].empty()) value_of[i] = &shape.options.at(shape.found[i].front());
    else if (!of_training[i].is_null()) value_of[i] = &of_training[i];
    if (value_of[i]) had_[i] = true;
  }
  if (std::ranges::find(had_, false) != had_.end()) note_known(run);
  bool left_out = false;
  for (const auto& [place, condition] : conditions_) {
    std::vector<const Json*> values;
    for (const auto& name : condition.names()) {
      const auto i = static_cast<size_t>(std::ranges::find(names_, name) - names_.begin());
      values.push_back(value_of[i]);
      auto found = shape.found[i];
      if (!of_training[i].is_null()) found.push_back(join_path("train", in_training_[i]->name));
      if (found.size() > 1)
        faults_.insert({place, fmt::format("{} may be {}; write one of them", name, fmt::join(found, " or "))});
    }
    try {
      left_out = condition.holds(values) || left_out;
    } catch (const ConfigError& error) {
      faults_.insert({place, error.what()});
    }
  }
  return left_out;
}

void Exclusion::report(std::vector<Problem>& problems) const {
  for (const auto& [place, message] : faults_) problems.push_back({place, message});
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [place, condition] : conditions_)
    for (const auto& name : condition.names()) {
      if (had_[static_cast<size_t>(std::ranges::find(names_, name) - names_.begin())]) continue;
      const auto near = nearest_name(name, known);
      problems.push_back({place, fmt::format("no run has an option {}{}", name,
                                             near.empty() ? "; expected one such as model.depth"
                                                          : fmt::format("; did you mean \"{}\"?", near))});
    }
}

}  // namespace attnscale
