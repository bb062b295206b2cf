#include "scaling/flags.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace attnscale {
namespace {

int rank_of(const Json& flag) {
  const auto severity = flag.value("severity", "warning");
  return severity == "error" ? 0 : severity == "warning" ? 1 : 2;
}

}  // namespace

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    default:
      return "error";
  }
}

Json to_json(const Flags& flags) {
  Json list = Json::array();
  for (const auto& flag : flags)
    list.push_back({{"id", flag.id}, {"severity", name_of(flag.severity)}, {"text", flag.text}});
  return list;
}

void Doubts::add(const Json& flags, const std::string& where) {
  for (const auto& flag : flags) {
    const auto same =
        std::find_if(list_.begin(), list_.end(), [&](const Json& each) { return each["id"] == flag["id"]; });
    const auto place = static_cast<size_t>(same - list_.begin());
    if (place == list_.size()) {
      list_.push_back(flag);
      list_.back()["in"] = Json::array();
      list_.back()["times"] = 0;
    }
    auto& doubt = list_[place];
    if (rank_of(flag) < rank_of(doubt)) {
      doubt["severity"] = flag["severity"];
      doubt["text"] = flag["text"];
    }
    doubt["times"] = doubt["times"].get<int>() + 1;
    auto& in = doubt["in"];
    if (!where.empty() && std::find(in.begin(), in.end(), Json(where)) == in.end()) in.push_back(where);
  }
}

Json Doubts::list() const {
  std::vector<Json> sorted(list_.begin(), list_.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const Json& one, const Json& other) {
    if (rank_of(one) != rank_of(other)) return rank_of(one) < rank_of(other);
    return one["times"].get<int>() > other["times"].get<int>();
  });
  Json list = Json::array();
  for (auto& each : sorted) list.push_back(std::move(each));
  return list;
}

void add_doubts(const Json& report, const std::string& prefix, Doubts& doubts) {
  if (report.contains("flags")) doubts.add(report["flags"], prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1));
  if (report.contains("forms"))
    for (const auto& [name, form] : report["forms"].items()) doubts.add(form["flags"], prefix + name);
  if (report.contains("isoflop"))
    for (const auto& [method, found] : report["isoflop"].items())
      doubts.add(found["flags"], prefix + "IsoFLOP " + method);
  if (report.contains("envelope")) doubts.add(report["envelope"]["flags"], prefix + "envelope");
}

std::string doubts_text(const Json& doubts, size_t lines) {
  std::string text;
  size_t shown = 0;
  for (const auto& doubt : doubts) {
    if (shown++ == lines) {
      text += fmt::format("  and {} more, in the JSON document\n", doubts.size() - lines);
      break;
    }
    text += fmt::format("! {}: {}", doubt["severity"].get<std::string>(), doubt["text"].get<std::string>());
    std::vector<std::string> in;
    for (const auto& place : doubt["in"]) in.push_back(place.get<std::string>());
    const size_t named = std::min<size_t>(in.size(), 4);
    if (named > 0)
      text += fmt::format(" ({}{})", fmt::join(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                          in.size() > named ? fmt::format(" and {} more", in.size() - named) : "");
    text += "\n";
  }
  return text;
}

}  // namespace attnscale
