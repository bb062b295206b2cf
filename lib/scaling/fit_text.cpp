#include <fmt/format.h>

#include "scaling/fit.h"

namespace attnscale {
namespace {

std::string with_interval(const Json& form, const char* name) {
  auto text = fmt::format("{:.5g}", form[name].get<double>());
  if (const auto intervals = form.find("intervals"); intervals != form.end() && intervals->contains(name))
    text += fmt::format(" [{:.4g}, {:.4g}]", (*intervals)[name][0].get<double>(), (*intervals)[name][1].get<double>());
  return text;
}

std::string formula(const std::string& name) {
  if (name == "L(N,D)") return "L(N,D) = E + A N^-alpha + B D^-beta";
  const auto variable = name.substr(2, 1);
  return fmt::format("{} = E + A {}^-alpha", name, variable);
}

void add_flags(const Json& of, std::string& text, const std::string& indent) {
  if (!of.contains("flags")) return;
  for (const auto& flag : of["flags"]) text += fmt::format("{}! {}\n", indent, flag.get<std::string>());
}

/// `irreducible loss: fitted x [lo, hi] / true y (covered)`, and what the paired fit says where there is one.
std::string floor_line(const std::string& name, const Json& form) {
  auto line = "irreducible loss: fitted " + with_interval(form, "E");
  const auto verdict = [](const Json& truth) -> std::string {
    if (!truth.contains("covered")) return "";
    return truth["covered"].get<bool>() ? " (covered)" : " (NOT covered)";
  };
  if (const auto truth = form.find("truth"); truth != form.end()) {
    line += fmt::format(" / true {:.5g}", (*truth)["bayes_loss"].get<double>()) + verdict(*truth);
    if (const auto paired = truth->find("paired"); paired != truth->end() && paired->contains("E")) {
      line += fmt::format("; sharper, from the paired excess: {:.5g}", (*paired)["E"].get<double>());
      if (paired->contains("interval"))
        line += fmt::format(" [{:.4g}, {:.4g}]", (*paired)["interval"][0].get<double>(),
                            (*paired)["interval"][1].get<double>());
      line += verdict(*paired);
    }
  }
  if (name != "L(N,D)") line += fmt::format("; from {} alone", name);
  return line;
}

}  // namespace

std::string fit_text(const Json& fit) {
  auto text = fmt::format("{} points, {} runs, {} distinct (N, D); intervals are 95 %\n",
                          fit["n_points"].get<int64_t>(), fit["n_runs"].get<int64_t>(), fit["n_cells"].get<int64_t>());
  add_flags(fit, text, "");
  std::string floor;
  for (const auto& [name, form] : fit["forms"].items()) {
    text += fmt::format("\n{}   ({} points: {})\n", formula(name), form["n_points"].get<int64_t>(),
                        form["points"].get<std::string>());
    for (const char* quantity : {"E", "A", "B", "alpha", "beta"})
      if (form.contains(quantity))
        text += fmt::format("  {:<6} {}{}\n", quantity, with_interval(form, quantity),
                            std::string(quantity) == "E" && form.contains("E_fixed") ? " (fixed)" : "");
    text += fmt::format("  objective {:.6g}, gradient {:.1e}, rms residual {:.2g} in ln L, {} starts\n",
                        form["objective"].get<double>(), form["gradient_norm"].get<double>(),
                        form["rms_log_residual"].get<double>(), form["starts"].get<int64_t>());
    add_flags(form, text, "  ");
    // The first form is the one with the fewest unlearned remainders: L(N,D) where it exists.
    if (floor.empty() && form.contains("E") && !form.contains("E_fixed") && !form.contains("no_law"))
      floor = floor_line(name, form);
  }
  if (!floor.empty()) text += "\n" + floor + "\n";
  return text;
}

}  // namespace attnscale
