#include <fmt/format.h>

#include "scaling/fit.h"
#include "scaling/flags.h"

namespace attnscale {
namespace {

std::string in_brackets(const Json& interval) {
  return fmt::format(" [{:.4g}, {:.4g}]", interval[0].get<double>(), interval[1].get<double>());
}

/// The interval of E is the one that the verdict on the truth rests on, as in the report: with the error of what
/// validation tokens say about the source.
std::string with_interval(const Json& form, const std::string& name) {
  const auto text = fmt::format("{:.5g}", form[name].get<double>());
  const auto intervals = form.find("intervals");
  if (intervals == form.end() || !intervals->contains(name)) return text;
  const auto truth = form.find("truth");
  const bool judged = name == "E" && truth != form.end() && truth->contains("interval");
  return text + in_brackets(judged ? (*truth)["interval"] : (*intervals)[name]);
}

std::string formula(const std::string& name) {
  if (name == "L(N,D)") return "L(N,D) = E + A N^-alpha + B D^-beta";
  const auto variable = name.substr(2, 1);
  return fmt::format("{} = E + A {}^-alpha", name, variable);
}

/// `irreducible loss: fitted x [lo, hi] / true y (covered)`, and what the paired fit says where there is one.
std::string floor_line(const std::string& name, const Json& form) {
  auto line = "irreducible loss: fitted " + with_interval(form, "E");
  const auto verdict = [](const Json& truth) -> std::string {
    if (!truth.contains("covered")) return "";
    return truth["covered"].get<bool>() ? " (covered)" : " (NOT covered)";
  };
  if (const auto known = form.find("truth"); known != form.end()) {
    line += fmt::format(" / true {:.5g}", (*known)["bayes_loss"].get<double>()) + verdict(*known);
    if (const auto paired = known->find("paired"); paired != known->end() && paired->contains("E")) {
      line += fmt::format("; sharper, from the paired excess: {:.5g}", (*paired)["E"].get<double>());
      if (paired->contains("interval")) line += in_brackets((*paired)["interval"]);
      line += verdict(*paired);
    }
  }
  if (name != "L(N,D)") line += fmt::format("; from {} alone", name);
  return line;
}

/// How sure the optimum itself is: the walk's end, its condition, and whether variable projection ends there too.
std::string certificate(const Json& form) {
  auto text = fmt::format("  objective {:.6g}, gradient {:.1e}, rms residual {:.2g} in ln L, {} starts",
                          form["objective"].get<double>(), form["gradient_norm"].get<double>(),
                          form["rms_log_residual"].get<double>(), form["starts"].get<int64_t>());
  if (form.contains("condition_number"))
    text += fmt::format(", condition {:.1e}", form["condition_number"].get<double>());
  if (const auto opinion = form.find("second_opinion"); opinion != form.end())
    text += (*opinion)["agrees"].get<bool>() ? "; variable projection agrees" : "; variable projection DISAGREES";
  return text + "\n";
}

std::string best_budgets(const Json& form) {
  if (!form.contains("compute_optimal")) return "";
  std::string text;
  for (const auto& budget : form["compute_optimal"]["budgets"]) {
    text += fmt::format("  best for C = {:.2g} ({:.3g}x the largest run): N {:.3g}", budget["C"].get<double>(),
                        budget["extrapolation"].get<double>(), budget["N"].get<double>());
    const bool bounded = budget.contains("intervals") && budget["intervals"].contains("N");
    if (bounded)
      text += fmt::format(" [{:.3g}, {:.3g}]", budget["intervals"]["N"][0].get<double>(),
                          budget["intervals"]["N"][1].get<double>());
    text += fmt::format(", D {:.3g}, {:.3g} tokens per parameter, loss {:.4g}\n", budget["D"].get<double>(),
                        budget["tokens_per_parameter"].get<double>(), budget["loss"].get<double>());
  }
  return text;
}

std::string isoflop_text(const Json& fit) {
  if (!fit.contains("isoflop")) return "";
  std::string text = "\nIsoFLOP: best size of each budget\n";
  for (const auto& [method, found] : fit["isoflop"].items()) {
    if (found.contains("N")) {
      const auto& law = found["N"];
      text += fmt::format("  {:<9} N = {:.3g} C^{:.4g}", method, law["coefficient"].get<double>(),
                          law["exponent"].get<double>());
      if (law.contains("exponent_interval"))
        text += fmt::format(" [{:.3g}, {:.3g}]", law["exponent_interval"][0].get<double>(),
                            law["exponent_interval"][1].get<double>());
      text += fmt::format(", {} budgets\n", found["budgets"].size());
    }
  }
  return text;
}

std::string envelope_text(const Json& fit) {
  if (!fit.contains("envelope") || !fit["envelope"].contains("N")) return "";
  const auto& envelope = fit["envelope"];
  return fmt::format("\nEnvelope of {} learning curves: N = {:.3g} C^{:.4g}, D = {:.3g} C^{:.4g}\n",
                     envelope["curves"].get<int>(), envelope["N"]["coefficient"].get<double>(),
                     envelope["N"]["exponent"].get<double>(), envelope["D"]["coefficient"].get<double>(),
                     envelope["D"]["exponent"].get<double>());
}

/// `    E 1.64 [1.6, 1.66], A 3.1, alpha .5`
std::string parameters_text(const Json& law) {
  std::string text;
  for (const auto& [name, value] : law["fitted"].items()) {
    text += fmt::format("{}{} {:.4g}", text.empty() ? "      " : ", ", name, value.get<double>());
    if (law.contains("intervals") && law["intervals"].contains(name))
      text += fmt::format(" [{:.3g}, {:.3g}]", law["intervals"][name][0].get<double>(),
                          law["intervals"][name][1].get<double>());
  }
  return text + "\n";
}

constexpr size_t spelled_out = 3;  // the best laws, with their parameters

std::string laws_text(const Json& fit) {
  if (!fit.contains("laws")) return "";
  std::string text =
      "\nLaws compared (0 is best; held out: rms error in ln L, and its mean, where the law did not look)\n";
  size_t place = 0;
  for (const auto& law : fit["laws"]) {
    text += fmt::format("  {:<38} BIC +{:<8.3g} AIC +{:<8.3g}", law["law"].get<std::string>(),
                        law["delta_BIC"].get<double>(), law["delta_AIC"].get<double>());
    if (law.contains("held_out"))
      text += fmt::format(" held out {:.2g} ({:+.2g}, {} points)", law["held_out"].get<double>(),
                          law["held_out_bias"].get<double>(), law["held_out_points"].get<int>());
    if (const auto opinion = law.find("second_opinion"); opinion != law.end() && !(*opinion)["agrees"].get<bool>())
      text += " variable projection DISAGREES";
    if (!(law["gradient_norm"].get<double>() < 1e-8)) text += " NOT CONVERGED";
    text += "\n";
    if (place++ < spelled_out) text += parameters_text(law);
  }
  return text;
}

}  // namespace

std::string fit_text(const Json& fit) {
  auto text = fmt::format("{} points, {} runs, {} distinct (N, D); intervals are 95 %\n",
                          fit["n_points"].get<int64_t>(), fit["n_runs"].get<int64_t>(), fit["n_cells"].get<int64_t>());
  std::string floor;
  for (const auto& [name, form] : fit["forms"].items()) {
    text += fmt::format("\n{}   ({} points: {})\n", formula(name), form["n_points"].get<int64_t>(),
                        form["points"].get<std::string>());
    for (const char* quantity : {"E", "A", "B", "alpha", "beta"})
      if (form.contains(quantity))
        text += fmt::format("  {:<6} {}{}\n", quantity, with_interval(form, quantity),
                            std::string(quantity) == "E" && form.contains("E_fixed") ? " (fixed)" : "");
    text += certificate(form) + best_budgets(form);
    // The first form is the one with the fewest unlearned remainders: L(N,D) where it exists.
    if (floor.empty() && form.contains("E") && !form.contains("E_fixed") && !form.contains("no_law"))
      floor = floor_line(name, form);
  }
  text += isoflop_text(fit) + envelope_text(fit) + laws_text(fit);
  if (fit.contains("collapse")) text += "\nCollapse: " + fit["collapse"]["verdict"].get<std::string>() + "\n";
  if (fit.contains("doubts") && !fit["doubts"].empty())
    text += "\nWhat to doubt, and what to run next\n" + doubts_text(fit["doubts"]);
  if (!floor.empty()) text += "\n" + floor + "\n";
  return text;
}

}  // namespace attnscale
