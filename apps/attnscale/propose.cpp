// What to train for a budget: sizes and their costs from the spec, the design from lib/scaling, a spec for `sweep`.

#include "propose.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "bench/forecast.h"
#include "core/files.h"
#include "core/units.h"
#include "scaling/design.h"
#include "scaling/scaling.h"

namespace attnscale {
namespace {

const std::string width_path = "model.model_dim", steps_path = "train.steps";
constexpr int64_t sample_steps = 1000;  // of the plan that costs are read from
constexpr int num_widths = 16;          // candidates, a factor of about 1.4 apart

/// `90s`, `30m`, `2h`, `1h30m` in seconds.
double seconds_of(const std::string& text) {
  double total = 0;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    double value = 0;
    const auto [stop, error] = std::from_chars(at, end, value);
    const double unit = stop == end ? 0 : *stop == 's' ? 1 : *stop == 'm' ? 60 : *stop == 'h' ? 3600 : 0;
    if (error != std::errc() || unit == 0 || !(value > 0) || !std::isfinite(value))
      throw Error(fmt::format("--budget: received \"{}\"; expected a time such as 90s, 30m, 2h or 1h30m", text),
                  ExitCode::usage);
    total += value * unit;
    at = stop + 1;
  }
  return total;
}

/// The spec's smallest width and multiples of its heads from there, a factor of about 1.4 apart.
std::vector<int64_t> candidate_widths(const Plan& plan) {
  int64_t smallest = 0, step = 1;
  for (const auto& run : plan.runs) {
    const auto width = run.model().model_dim;
    smallest = smallest == 0 ? width : std::min(smallest, width);
    step = std::max(step, 2 * run.model().num_heads);
  }
  std::set<int64_t> widths;
  for (int i = 0; i < num_widths; ++i) {
    const double wanted = static_cast<double>(smallest) * std::pow(1.41421356, i);
    widths.insert(i == 0 ? smallest : std::max<int64_t>(step, std::llround(wanted / static_cast<double>(step)) * step));
  }
  return {widths.begin(), widths.end()};
}

struct Sizes {
  std::vector<SizeOption> options;
  size_t variants = 1;  ///< runs per cell and seed
};

/// What each width has and costs, over all that the spec varies beside width, steps and seeds.
Sizes sizes_of(const SpecArguments& spec, const std::vector<int64_t>& widths, bool measure) {
  auto set = spec.set;
  set.push_back(fmt::format("grid.{}=[{}]", width_path, fmt::join(widths, ",")));
  set.push_back(fmt::format("{}={}", steps_path, sample_steps));
  set.push_back("seeds=1");
  const Plan plan = make_plan(read_spec(spec.spec, set));
  std::optional<MeasuredSteps> costs;
  if (measure) costs = measure_steps(plan);
  std::map<int64_t, SizeOption> by_width;
  for (const auto& run : plan.runs) {
    auto& option = by_width[run.model().model_dim];
    option.width = run.model().model_dim;
    if (option.N == 0) option.N = static_cast<double>(run.cost.parameters.total);
    option.tokens_per_step = run.tokens() / static_cast<double>(run.train.steps);
    const double flops = run.training_flops() / static_cast<double>(run.train.steps);
    if (option.run_flops_per_step == 0) option.run_flops_per_step = flops;
    option.flops_per_step += flops;
    if (costs) option.seconds_per_step += costs->seconds(run) * steps_with_evaluations(run) / sample_steps;
  }
  Sizes sizes{.options = {}, .variants = std::max<size_t>(1, plan.runs.size() / by_width.size())};
  for (const auto& [width, option] : by_width) sizes.options.push_back(option);
  return sizes;
}

/// L(N, D) of a sweep or table as the prior, with the noise it showed.
DesignPrior prior_from(const std::string& path, double noise) {
  const Json fit = fit_of_path(path, {}, {.replicates = 0});
  const auto& forms = fit["forms"];
  const auto law = forms.find("L(N,D)");
  if (law == forms.end() || law->contains("no_law") || !law->contains("A") || !law->contains("B") ||
      !((*law)["E"].get<double>() > 0))
    throw DataError(path + ": has no law L(N, D) with a floor to plan by (see attnscale fit); plan without it first");
  DesignPrior prior{.law = {.log_floor = std::log((*law)["E"].get<double>()),
                            .terms = {{std::log((*law)["A"].get<double>()), (*law)["alpha"].get<double>()},
                                      {std::log((*law)["B"].get<double>()), (*law)["beta"].get<double>()}}},
                    .noise = law->value("seed_noise", noise),
                    .source = "L(N, D) of " + path};
  prior.misfit =
      misfit_between_cells((*law)["rms_log_residual"], (*law)["n_points"], (*law)["n_cells"], 5, prior.noise);
  return prior;
}

/// What nobody measured yet: half a nat above a floor of one at the smallest size and the shortest training each,
/// falling with the square root.
DesignPrior assumed_prior(const Sizes& sizes, double noise, int64_t min_steps) {
  const auto& smallest = sizes.options.front();
  const double D = smallest.tokens_per_step * static_cast<double>(min_steps);
  return {
      .law = {.log_floor = 0,
              .terms = {{std::log(0.5) + 0.5 * std::log(smallest.N), 0.5}, {std::log(0.5) + 0.5 * std::log(D), 0.5}}},
      .noise = noise,
      .source =
          "an assumed law (E 1; .5 nats above it at the smallest size and at the shortest training, both "
          "exponents .5): give --like a sweep or table of yours for one that was measured"};
}

void erase_axes(Json& document, const std::set<std::string>& paths) {
  for (const char* section : {"grid", "random"})
    if (document.contains(section)) {
      for (const auto& path : paths) document[section].erase(path);
      if (document[section].empty()) document.erase(section);
    }
  if (!document.contains("zip")) return;
  const auto holds = [&](const Json& zip) {
    return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) { return zip.contains(path); });
  };
  auto zips = document["zip"].is_array() ? document["zip"] : Json::array({document["zip"]});
  Json kept = Json::array();
  for (auto& zip : zips)
    if (!holds(zip)) kept.push_back(zip);
  if (kept.empty()) document.erase("zip");
  else document["zip"] = kept;
}

/// The spec with width, steps and seeds of the design in place of its own.
Json proposed_spec(const Spec& spec, const std::vector<SizeOption>& sizes, const std::vector<Design::Cell>& cells,
                   const DesignOptions& options, bool one_seed_each, const std::vector<int64_t>& seeds) {
  Json document = spec.document.value;
  erase_axes(document, {width_path, steps_path, "train.seed"});
  document.erase("seeds");
  document["name"] = spec.name + (one_seed_each ? "-next" : "-planned");
  if (document.contains("$schema")) document.erase("$schema");  // a path from where the spec was
  std::set<int64_t> widths, steps;
  Json listed_widths = Json::array(), listed_steps = Json::array();
  for (const auto& cell : cells) {
    widths.insert(sizes[cell.size].width);
    steps.insert(cell.steps);
    listed_widths.push_back(sizes[cell.size].width);
    listed_steps.push_back(cell.steps);
  }
  if (!one_seed_each && options.kind == DesignKind::grid) {
    document["grid"][width_path] = widths;
    document["grid"][steps_path] = steps;
  } else {
    Json zip = {{width_path, listed_widths}, {steps_path, listed_steps}};
    if (one_seed_each) zip["train.seed"] = seeds;
    if (document.contains("zip")) document["zip"].push_back(zip);
    else document["zip"] = Json::array({zip});
  }
  if (!one_seed_each) document["seeds"] = options.seeds;
  return document;
}

struct Proposal {
  Json document;                  ///< the spec
  std::vector<DesignCell> cells;  ///< all that will be known then
  double cost = 0;
  size_t runs = 0;
  std::vector<double> budgets;
};

Proposal fresh(const Spec& spec, const Sizes& sizes, const DesignPrior& prior, const DesignOptions& options) {
  const auto design = propose_design(sizes.options, prior, options);
  if (!design)
    throw ConfigError(
        fmt::format("the budget does not reach for the smallest {} design (4 sizes, {} of at least {} steps, {} seeds, "
                    "{} runs each); "
                    "spend more, or begin with a smaller width or fewer tokens per step",
                    options.kind == DesignKind::grid ? "grid" : "IsoFLOP",
                    options.kind == DesignKind::grid ? "4 trainings" : "3 budgets", options.min_steps, options.seeds,
                    sizes.variants));
  Proposal proposal{.document = proposed_spec(spec, sizes.options, design->cells, options, false, {}),
                    .cells = {},
                    .cost = design->cost,
                    .runs = design->cells.size() * static_cast<size_t>(options.seeds) * sizes.variants,
                    .budgets = design->budgets};
  for (const auto& cell : design->cells)
    proposal.cells.push_back({.N = sizes.options[cell.size].N,
                              .D = static_cast<double>(cell.steps) * sizes.options[cell.size].tokens_per_step,
                              .seeds = options.seeds});
  return proposal;
}

/// What is trained, by (width, steps): how many seeds, and the highest.
struct Trained {
  std::map<std::pair<int64_t, int64_t>, std::pair<int, int64_t>> cells;
  std::set<int64_t> widths, steps;
};

Trained trained_in(const std::string& folder) {
  Trained trained;
  std::map<std::pair<int64_t, int64_t>, std::set<int64_t>> seeds;
  for (const auto& [place, row] : read_jsonl(std::filesystem::path(folder) / "results.jsonl", true).rows) {
    if (row.value("status", "") != "done" || !row.contains("config")) continue;
    const auto& config = row["config"];
    const int64_t width = config["model"]["model_dim"], steps = config["train"]["steps"];
    trained.widths.insert(width);
    trained.steps.insert(steps);
    seeds[{width, steps}].insert(config["train"]["seed"].get<int64_t>());
  }
  for (const auto& [cell, used] : seeds) trained.cells[cell] = {static_cast<int>(used.size()), *used.rbegin()};
  if (trained.cells.empty()) throw DataError(folder + ": has no finished runs to go on from; sweep first");
  return trained;
}

Proposal adaptive(const Spec& spec, const Sizes& sizes, const Trained& trained, const DesignPrior& prior,
                  const DesignOptions& options) {
  std::map<int64_t, size_t> place;
  for (size_t i = 0; i < sizes.options.size(); ++i) place[sizes.options[i].width] = i;
  Proposal proposal;
  for (const auto& [cell, seeds] : trained.cells)
    if (place.count(cell.first)) {
      const auto& size = sizes.options[place[cell.first]];
      proposal.cells.push_back(
          {.N = size.N, .D = static_cast<double>(cell.second) * size.tokens_per_step, .seeds = seeds.first});
    }
  auto steps = trained.steps;
  for (int64_t k = 0, longest = *trained.steps.rbegin(); k < 3; ++k) steps.insert(longest *= 2);
  std::vector<Design::Cell> candidates;
  for (size_t i = 0; i < sizes.options.size(); ++i)
    for (const auto count : steps) candidates.push_back({.size = i, .steps = count});
  const auto chosen = next_runs(proposal.cells, sizes.options, candidates, prior, options);
  if (chosen.empty())
    throw ConfigError("the budget pays for no further run: the cheapest candidate costs more; spend more");
  std::vector<Design::Cell> cells;
  std::vector<int64_t> seeds;
  auto used = trained.cells;
  for (const size_t i : chosen) {
    const auto& cell = candidates[i];
    const auto& size = sizes.options[cell.size];
    cells.push_back(cell);
    auto& [count, highest] = used.try_emplace({size.width, cell.steps}, 0, -1).first->second;
    seeds.push_back(++highest);
    proposal.cells.push_back({.N = size.N, .D = static_cast<double>(cell.steps) * size.tokens_per_step, .seeds = 1});
    proposal.cost +=
        (options.in_seconds ? size.seconds_per_step : size.flops_per_step) * static_cast<double>(cell.steps);
  }
  // Seeds of one cell are one cell.
  std::map<std::pair<double, double>, int> merged;
  for (const auto& cell : proposal.cells) merged[{cell.N, cell.D}] += cell.seeds;
  proposal.cells.clear();
  for (const auto& [key, count] : merged) proposal.cells.push_back({.N = key.first, .D = key.second, .seeds = count});
  proposal.runs = cells.size() * sizes.variants;
  proposal.document = proposed_spec(spec, sizes.options, cells, options, true, seeds);
  return proposal;
}

Json intervals_json(const std::vector<IntervalForecast>& forecasts) {
  Json list = Json::array();
  for (const auto& each : forecasts) {
    Json json = {{"name", each.name}, {"value", each.value}, {"promised", each.promised}, {"text", each.text}};
    if (std::isfinite(each.half_width)) json["half_width"] = each.half_width;
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace

void ProposalArguments::add_to(CLI::App& command) {
  command.add_option("--budget", budget, "propose a design for this much time on this machine: 90s, 30m, 2h");
  command.add_option("--flops", flops, "propose a design for this many training FLOPs, all runs together")
      ->check(CLI::PositiveNumber);
  command.add_option("--design", design, "grid of sizes and steps, or isoflop: sizes at equal FLOPs")
      ->check(CLI::IsMember({"grid", "isoflop"}))
      ->capture_default_str();
  command.add_option("--like", like, "sweep folder or table whose fitted L(N, D) the design is judged by");
  command.add_option("--adaptive", adaptive, "folder of a sweep of this spec: choose its next runs");
  command.add_option("--noise", noise, "assumed deviation of ln loss between seeds, where no sweep shows it")
      ->check(CLI::Range(1e-9, 1.0))
      ->capture_default_str();
  command.add_option("--plan-seeds", seeds, "seeds of each proposed cell (default 2)")->check(CLI::Range(1, 1000));
  command.add_option("--write", write, "file for the proposed spec");
}

void ProposalArguments::check() const {
  if (!adaptive.empty() && (design != "grid" || seeds > 0))
    throw CLI::ValidationError(
        "plan", "--adaptive keeps the design and seeds of its sweep: leave --design and --plan-seeds out");
  if (!wanted() && (design != "grid" || noise != ProposalArguments{}.noise))
    throw CLI::ValidationError("plan", "--design and --noise need --budget or --flops");
  if (!budget.empty() && flops > 0) throw CLI::ValidationError("plan", "give --budget or --flops, not both");
  if (!adaptive.empty() && !like.empty())
    throw CLI::ValidationError("plan", "--adaptive judges by its own sweep: leave --like out");
  if (!wanted() && (!like.empty() || !adaptive.empty() || !write.empty() || seeds > 0))
    throw CLI::ValidationError("plan", "--like, --adaptive, --plan-seeds and --write need --budget or --flops");
}

ExitCode propose(const SpecArguments& arguments, const ProposalArguments& wanted, const JobsArgument& jobs, bool json) {
  const Spec spec = read_spec(arguments.spec, arguments.set);
  if (!spec.groups.empty() || spec.stopping)
    spec.document.refuse(
        {{spec.stopping ? "stopping" : "groups",
          "designs are proposed for a spec without groups and without early stopping, which would make "
          "their cost another one; take this out, and put it into the proposed spec"}});
  const Plan plan = make_plan(spec);
  DesignOptions options{.kind = wanted.design == "grid" ? DesignKind::grid : DesignKind::isoflop,
                        .budget = wanted.flops,
                        .in_seconds = !wanted.budget.empty(),
                        .seeds = wanted.seeds > 0 ? wanted.seeds : 2};
  for (const auto& run : plan.runs)
    options.min_steps = std::max(options.min_steps, 3 * run.train.warmup_steps.value_or(0));
  if (options.in_seconds) options.budget = seconds_of(wanted.budget) * jobs.side_by_side(plan);
  std::optional<Trained> trained;
  if (!wanted.adaptive.empty()) trained = trained_in(wanted.adaptive);
  auto widths = candidate_widths(plan);
  if (trained) {
    const int64_t largest = *trained->widths.rbegin();
    std::erase_if(widths, [&](int64_t width) { return width > 4 * largest; });
    widths.insert(widths.end(), trained->widths.begin(), trained->widths.end());
    std::sort(widths.begin(), widths.end());
    widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  }
  const auto sizes = sizes_of(arguments, widths, options.in_seconds);
  const auto& prior_path = trained ? wanted.adaptive : wanted.like;
  const auto prior =
      prior_path.empty() ? assumed_prior(sizes, wanted.noise, options.min_steps) : prior_from(prior_path, wanted.noise);
  const auto proposal = trained ? adaptive(spec, sizes, *trained, prior, options) : fresh(spec, sizes, prior, options);
  const auto forecasts = forecast_intervals(prior, proposal.cells);
  if (!wanted.write.empty()) write_file_atomically(wanted.write, proposal.document.dump(2) + "\n");
  const double cost = options.in_seconds ? proposal.cost / jobs.side_by_side(plan) : proposal.cost;
  if (json) {
    Json document = {{"schema", "attnscale.proposal/1"},
                     {"spec", proposal.document},
                     {"runs", proposal.runs},
                     {options.in_seconds ? "expected_seconds" : "flops", cost},
                     {"prior", {{"source", prior.source}, {"noise", prior.noise}, {"misfit", prior.misfit}}},
                     {"intervals", intervals_json(forecasts)}};
    if (!proposal.budgets.empty()) document["budgets"] = proposal.budgets;
    if (trained)
      document["intervals_before"] = intervals_json(forecast_intervals(prior, [&] {
        std::vector<DesignCell> before;
        for (const auto& size : sizes.options)
          for (const auto& [cell, seeds] : trained->cells)
            if (cell.first == size.width)
              before.push_back(
                  {.N = size.N, .D = static_cast<double>(cell.second) * size.tokens_per_step, .seeds = seeds.first});
        return before;
      }()));
    print_json(document);
    return ExitCode::done;
  }
  std::string text = fmt::format(
      "{} runs, {}; judged by {}\n", proposal.runs,
      options.in_seconds ? "about " + duration_text(cost) + " on this machine" : count_text(cost) + " FLOPs",
      prior.source);
  if (!proposal.budgets.empty()) {
    std::vector<std::string> each;
    for (const double budget : proposal.budgets) each.push_back(count_text(budget));
    text += fmt::format("IsoFLOP budgets: {} FLOPs\n", fmt::join(each, ", "));
  }
  for (const auto& forecast : forecasts) text += "  " + forecast.text + "\n";
  if (wanted.write.empty()) text += "\n" + proposal.document.dump(2) + "\n";
  else text += fmt::format("written: {}; train it with: attnscale sweep {}\n", wanted.write, wanted.write);
  print(text);
  return ExitCode::done;
}

}  // namespace attnscale
