// Sections of the page that read as tables and lists.

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "core/units.h"
#include "report/compare.h"
#include "report/page.h"
#include "report/text.h"
#include "report/verdict.h"

namespace attnscale {
namespace {

std::string tile(const std::string& name, const std::string& value, const std::string& detail) {
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>", html_escape(name),
                     html_escape(value), html_escape(detail));
}

/// A cell that sorts by number: the exact value beside what is shown.
std::string number_cell(const std::optional<double>& value, const std::string& shown) {
  if (!value) return "<td class=\"n\">–</td>";
  return fmt::format("<td class=\"n\" data-value=\"{}\">{}</td>", exact_text(*value), html_escape(shown));
}
std::string whole_cell(const std::optional<double>& value) {
  return number_cell(value, value ? exact_text(*value) : "");
}
std::string count_cell(const std::optional<double>& value) {
  return number_cell(value, value ? count_text(*value) : "");
}
std::string loss_cell(const std::optional<double>& value) { return number_cell(value, loss_text(value)); }
std::string text_cell(const std::string& text) { return "<td>" + html_escape(text) + "</td>"; }

/// A column's heading; numbers stand right.
struct Head {
  std::string title;
  bool number = false;
};

std::string heads(const std::vector<Head>& columns, bool sortable = false) {
  std::string row;
  for (const Head& column : columns) {
    const std::string shown = html_escape(column.title);
    row += fmt::format("<th scope=\"col\"{}>{}</th>", column.number ? " class=\"n\"" : "",
                       sortable ? "<button type=\"button\">" + shown + "</button>" : shown);
  }
  return "<thead><tr>" + row + "</tr></thead>";
}

std::string table(const std::string& caption, const std::string& head, const std::string& body, bool sortable = false) {
  return fmt::format(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"{0}\"><table{1}><caption>{0}</caption>{2}<tbody>{3}</tbody></table></div>",
      html_escape(caption), sortable ? " class=\"sortable\"" : "", head, body);
}

std::string interval_cell(const Law& law, const std::string& name, double value, bool used) {
  if (!used) return "<td class=\"n\">–</td>";
  std::string text = fmt::format("{:.4g}", value);
  if (const auto interval = law.intervals.find(name); interval != law.intervals.end())
    text += fmt::format(" <span>[{:.4g}, {:.4g}]</span>", interval->second.first, interval->second.second);
  return fmt::format("<td class=\"n estimate\">{}</td>", text);
}

/// Distinct values of a path over all rows, with how many rows have each when they differ.
std::string distinct_text(const std::vector<Json>& rows, const std::string& path) {
  std::map<std::string, size_t> values;
  for (const Json& row : rows)
    if (const std::string value = text_at(row, path); !value.empty()) ++values[value];
  std::string text;
  for (const auto& [value, count] : values) {
    text += text.empty() ? "" : "; ";
    text += values.size() == 1 ? value : fmt::format("{} ({})", value, counted(count, "run"));
  }
  return text;
}

std::string status_cell(const Run& run) {
  const bool known = run.status == "done" || run.status == "diverged" || run.status == "failed" ||
                     run.status == "oom" || run.status == "stopped";
  if (run.done() && !run.flags.empty())
    return fmt::format("<td><span class=\"status other\">flagged: {}</span></td>",
                       html_escape(joined(run.flags, "; ")));
  return fmt::format("<td><span class=\"status {}\">{}</span></td>", known ? run.status : "other",
                     html_escape(run.status));
}

}  // namespace

std::string tiles_section(const Sweep& sweep) {
  std::string tiles =
      tile("runs finished", fmt::format("{} of {}", sweep.count("done"), std::max(sweep.planned, sweep.runs.size())),
           sweep.count("done") == sweep.runs.size() ? "none failed"
           : sweep.count("done") + sweep.count("stopped") == sweep.runs.size()
               ? fmt::format("{} stopped early, none failed", sweep.count("stopped"))
               : "see what went wrong");
  if (const Cell* best = best_cell(sweep)) {
    const std::string spread =
        best->loss->count > 1 ? fmt::format("{:.4f} to {:.4f}", best->loss->low, best->loss->high) : "one seed";
    tiles += tile("lowest loss", loss_text(best->loss->mean), size_text(*best) + "; " + spread);
  }
  if (const Law* law = headline_law(sweep)) {
    const auto interval = law->intervals.find("E");
    const std::string detail =
        interval == law->intervals.end()
            ? "no interval"
            : fmt::format("95 %: {:.4f} to {:.4f}", interval->second.first, interval->second.second);
    tiles += tile("irreducible loss, fitted", loss_text(law->irreducible), law->form + "; " + detail);
  }
  if (sweep.truth)
    tiles += tile("irreducible loss, true", loss_text(sweep.truth->loss), sweep.truth->name + " of the source");
  double flops = 0, seconds = 0;
  for (const Run& run : sweep.runs) flops += run.flops.value_or(0), seconds += run.seconds.value_or(0);
  if (flops > 0)
    tiles += tile("training compute", count_text(flops),
                  seconds > 0 ? "FLOPs; " + duration_text(seconds) + " of training" : "FLOPs");
  return "<dl class=\"tiles\">" + tiles + "</dl>\n";
}

std::string fits_section(const Sweep& sweep) {
  if (sweep.laws.empty()) return "";
  std::string body, warnings;
  for (const Law& law : sweep.laws) {
    body += "<tr>" + text_cell(law.series) + text_cell(law.form + (law.paired ? ", paired" : "")) +
            interval_cell(law, "E", law.irreducible, true) + interval_cell(law, "A", law.a, law.a != 0) +
            interval_cell(law, "alpha", law.alpha, law.alpha != 0) + interval_cell(law, "B", law.b, law.b != 0) +
            interval_cell(law, "beta", law.beta, law.beta != 0) + "</tr>";
  }
  // Each doubt once, however many fits share it; scaling.json has the gravest first.
  constexpr size_t shown_doubts = 6;
  size_t doubts = 0;
  for (const auto& doubt : at_path(sweep.scaling, "doubts")) {
    if (text_at(doubt, "severity") == "note" || ++doubts > shown_doubts) continue;
    std::vector<std::string> in;
    for (const auto& place : at_path(doubt, "in"))
      if (place.is_string() && in.size() < 4) in.push_back(place.get<std::string>());
    const size_t more = at_path(doubt, "in").size() - in.size();
    if (more > 0) in.push_back(fmt::format("{} more", more));
    warnings += "<li><b>" + html_escape(joined(in, ", ")) + "</b>: " + html_escape(text_at(doubt, "text")) + "</li>";
  }
  if (doubts > shown_doubts) warnings += fmt::format("<li>{} more in scaling.json</li>", doubts - shown_doubts);
  if (!warnings.empty())
    warnings = "<details open><summary>What to doubt in these fits</summary><ul>" + warnings + "</ul></details>";
  return "<section class=\"card\" id=\"fits\"><h2>Fits</h2><p>L(N, D) = E + A N<sup>−α</sup> + B D<sup>−β</sup>: loss "
         "in nats "
         "per token, N parameters, D training tokens. Brackets hold 95 % intervals.</p>" +
         table("Fitted laws",
               heads({{"runs"}, {"form"}, {"E", true}, {"A", true}, {"α", true}, {"B", true}, {"β", true}}), body) +
         warnings + "</section>\n";
}

std::string comparison_section(const Sweep& sweep) {
  const ReferenceComparison comparison = compare_with_reference(sweep);
  if (comparison.summaries.empty()) return "";
  const auto interval_text = [](const std::optional<Estimate>& estimate, double level) {
    if (!estimate) return std::string("too few to tell");
    const Interval interval = estimate->interval(level);
    return fmt::format("{:+.4f} to {:+.4f}", interval.low, interval.high);
  };
  std::string body;
  size_t tested = 1;
  for (const PairComparison& summary : comparison.summaries) {
    tested = std::max(tested, summary.comparisons);
    body +=
        "<tr>" + text_cell(summary.a) + number_cell(summary.difference, fmt::format("{:+.4f}", *summary.difference)) +
        "<td class=\"n\">" + html_escape(interval_text(summary.over_sizes, summary.corrected_level())) +
        "</td><td class=\"n\">" + html_escape(interval_text(summary.at_these_sizes, 0.95)) + "</td>" +
        whole_cell(static_cast<double>(summary.cells.size())) + whole_cell(static_cast<double>(summary.pairs)) +
        "<td class=\"n\">" + fmt::format("{:.3f} to {:.3f}", summary.params_low, summary.params_high) + "</td></tr>";
  }
  return fmt::format(
      "<section class=\"card\" id=\"pairs\"><h2>Differences from {0}</h2><p>Mean over sizes of the loss less that of "
      "{0}, paired by seed; negative is better. The first interval takes the sizes for a sample of sizes like "
      "these{1}; "
      "the second comes from the spread between seeds and holds for these sizes only, each by itself at 95 %. The "
      "learning rate is the same on both sides, tuned for neither unless it was swept.</p>{2}</section>\n",
      html_escape(comparison.reference),
      tested == 1 ? std::string(" (95 %)")
                  : fmt::format(" and is wide enough for all {} comparisons of the sweep together (95 %)", tested),
      table("Paired differences",
            heads({{"attention"},
                   {"difference (nats per token)", true},
                   {"interval, sizes like these", true},
                   {"interval, these sizes", true},
                   {"settings", true},
                   {"pairs", true},
                   {"parameters, ratio", true}}),
            body));
}

/// What the runs' own watch found, with what to do next.
std::string alarms_table(const Sweep& sweep) {
  std::string body;
  for (size_t i = 0; i < sweep.runs.size(); ++i) {
    const Json& alarms = at_path(sweep.rows[i], "alarms");
    if (!alarms.is_array()) continue;
    for (const Json& alarm : alarms) {
      const auto text = [&](const char* key) {
        return alarm.contains(key) && alarm[key].is_string() ? alarm[key].get<std::string>() : "";
      };
      body +=
          "<tr>" + text_cell(sweep.runs[i].variant) + text_cell(text("kind")) +
          whole_cell(alarm.contains("step") && alarm["step"].is_number() ? std::optional(alarm["step"].get<double>())
                                                                         : std::nullopt) +
          text_cell(text("layer")) + text_cell(text("advice")) + "<td><code>" + html_escape(sweep.runs[i].id) +
          "</code></td></tr>";
    }
  }
  if (body.empty()) return "";
  return table("Alarms", heads({{"attention"}, {"alarm"}, {"since step", true}, {"layer"}, {"what to do"}, {"run"}}),
               body);
}

std::string trouble_section(const Sweep& sweep, const std::vector<std::string>& notes) {
  std::string body;
  for (const Run& run : sweep.runs) {
    if (run.status == "done" && run.flags.empty()) continue;
    std::string what = run.message.substr(0, 600);
    if (run.diverged_at)
      what = fmt::format("at step {}{}{}", exact_text(*run.diverged_at), what.empty() ? "" : ": ", what);
    body += "<tr>" + text_cell(run.variant) + whole_cell(run.depth) + whole_cell(run.model_dim) + whole_cell(run.seed) +
            status_cell(run) + text_cell(what) + "<td><code>" + html_escape(run.id) + "</code></td></tr>";
  }
  std::string text =
      body.empty()
          ? "<p>Every run finished.</p>"
          : "<p>These runs have no final loss, or one that their flags make doubtful. Fits leave them out and say so, "
            "and no figure shows a number for them.</p>" +
                table("Runs that did not finish, or are flagged",
                      heads({{"attention"},
                             {"depth", true},
                             {"width", true},
                             {"seed", true},
                             {"status"},
                             {"what happened"},
                             {"run"}}),
                      body);
  text += alarms_table(sweep);
  if (sweep.planned > sweep.runs.size())
    text += fmt::format("<p>{} of {} planned runs have no result yet.</p>", sweep.planned - sweep.runs.size(),
                        sweep.planned);
  for (const std::string& note : notes) text += "<p>" + html_escape(note) + "</p>";
  const Json& more = at_path(sweep.scaling, "notes");
  if (more.is_array())
    for (const Json& note : more)
      if (note.is_string()) text += "<p>" + html_escape(note.get<std::string>()) + "</p>";
  return "<section class=\"card\" id=\"trouble\"><h2>What went wrong</h2>" + text + "</section>\n";
}

std::string runs_section(const Sweep& sweep) {
  const bool settings =
      std::any_of(sweep.runs.begin(), sweep.runs.end(), [](const Run& run) { return !run.settings.empty(); });
  const bool excess =
      std::any_of(sweep.runs.begin(), sweep.runs.end(), [](const Run& run) { return run.excess.has_value(); });
  std::string body;
  for (const Run& run : sweep.runs) {
    body += "<tr>" + text_cell(run.variant) + (settings ? text_cell(run.settings) : "") + status_cell(run) +
            whole_cell(run.depth) + whole_cell(run.model_dim) + whole_cell(run.seed) + count_cell(run.params) +
            count_cell(run.tokens) + count_cell(run.flops) + loss_cell(run.done() ? run.loss : std::nullopt) +
            (excess ? loss_cell(run.excess) : "") +
            number_cell(run.seconds, run.seconds ? duration_text(*run.seconds) : "") + "<td><code>" +
            html_escape(run.id) + "</code></td></tr>\n";
  }
  std::vector<Head> columns = {{"attention"}};
  if (settings) columns.push_back({"settings"});
  columns.push_back({"status"});
  for (const char* title : {"depth", "width", "seed", "parameters", "tokens", "FLOPs", "loss"})
    columns.push_back({title, true});
  if (excess) columns.push_back({"excess", true});
  columns.push_back({"time", true});
  columns.push_back({"run"});
  return "<section class=\"card\" id=\"runs\"><h2>Runs</h2><p>Losses in nats per token. A heading sorts.</p>" +
         table("All runs", heads(columns, true), body, true) + "</section>\n";
}

/// One line: which variants are proven, by how many checks, and by which build.
std::string certificate_facts(const Sweep& sweep) {
  const Json& variants = at_path(sweep.certificate, "variants");
  if (!variants.is_array() || variants.empty()) return "";
  std::string text;
  for (const Json& variant : variants) {
    if (!text.empty()) text += ", ";
    const Json& checks = at_path(variant, "checks");
    const bool passed = at_path(variant, "passed") == true;
    text += fmt::format("{} {} ({} checks)", text_at(variant, "name"), passed ? "proven" : "NOT PROVEN",
                        checks.is_array() ? checks.size() : 0);
  }
  const std::string commit = text_at(sweep.certificate, "provenance.commit");
  return fmt::format("<dt>variants</dt><dd>{}; certificate.json, commit {}</dd>", html_escape(text),
                     html_escape(commit.empty() ? "unknown" : commit));
}

std::string provenance_section(const Sweep& sweep) {
  static const std::pair<const char*, const char*> entries[] = {
      {"program", "provenance.version"}, {"commit", "provenance.commit"}, {"compiler", "provenance.compiler"},
      {"LibTorch", "provenance.torch"},  {"processor", "provenance.cpu"}, {"threads", "provenance.threads"},
      {"host", "provenance.host"},       {"data", "provenance.data"},     {"command", "provenance.command"},
      {"source", "config.data.source"},  {"truth", "truth.derivation"}};
  std::string list;
  for (const auto& [name, path] : entries) {
    const std::string text = distinct_text(sweep.rows, path);
    if (!text.empty()) list += fmt::format("<dt>{}</dt><dd>{}</dd>", name, html_escape(text));
  }
  std::set<std::string> started, finished;
  for (const Json& row : sweep.rows) {
    started.insert(text_at(row, "provenance.started"));
    finished.insert(text_at(row, "provenance.finished"));
  }
  started.erase("");
  finished.erase("");
  if (!started.empty() && !finished.empty()) {
    list +=
        fmt::format("<dt>time</dt><dd>{} to {}</dd>", html_escape(*started.begin()), html_escape(*finished.rbegin()));
  }
  list += certificate_facts(sweep);
  std::string spec;
  if (!sweep.spec.empty()) {
    for (const char c : sweep.spec.dump(2, ' ', false, Json::error_handler_t::replace)) {
      spec += c == '\n' ? "\n" : c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
    }
    spec = "<details><summary>spec.json</summary><pre>" + spec + "</pre></details>";
  }
  return "<section class=\"card\" id=\"provenance\"><h2>Provenance</h2><dl class=\"facts\">" + list + "</dl>" + spec +
         "</section>\n";
}

}  // namespace attnscale
