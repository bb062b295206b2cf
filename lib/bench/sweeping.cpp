#include "bench/sweeping.h"

#include <algorithm>
#include <limits>
#include <map>
#include <sstream>

#include <sys/resource.h>

#include <fmt/format.h>

#include "bench/python_training.h"
#include "bench/timing.h"
#include "core/error.h"
#include "core/files.h"
#include "sweep/sweep.h"
#include "tensor/kernels/kernels.h"
#include "tensor/memory.h"

namespace attnscale {
namespace {

/// Seconds that this process and those of its children which have ended by now spent on processors.
double processor_seconds_of_all() {
  const auto of = [](auto whose) {
    struct rusage usage {};
    ::getrusage(whose, &usage);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  };
  return of(RUSAGE_SELF) + of(RUSAGE_CHILDREN);
}

template <class Work>
Spent spent_on(const Work& work) {
  const double begin = now_ms(Clock::wall), processor = processor_seconds_of_all();
  work();
  return {(now_ms(Clock::wall) - begin) * 1e-3, processor_seconds_of_all() - processor};
}

int64_t count_of(const SweepBench& bench) {
  return std::ssize(bench.depths) * std::ssize(bench.widths) * std::ssize(bench.learning_rates);
}

int64_t heads_of(const SweepBench& bench, int64_t width) { return std::max<int64_t>(1, width / bench.head_dim); }

Json run_json(const SweepBench& bench, int64_t depth, int64_t width) {
  return {{"model", {{"depth", depth}, {"model_dim", width}, {"num_heads", heads_of(bench, width)}, {"bias", false}}},
          {"data", {{"source", "zipf_memory"}, {"num_keys", 49}, {"num_labels", 16}, {"context", bench.context}}},
          {"train",
           {{"steps", bench.steps},
            {"batch_size", bench.batch_size},
            {"dtype", bench.dtype},
            {"eval_every", bench.steps},
            {"eval_tokens", 16384}}}};
}

using Size = std::pair<int64_t, int64_t>;  // layers, width

/// What a sweep took, and the seconds that its runs lasted, by size.
struct SweepTime {
  Spent whole;
  std::map<Size, double> runs;

  /// A size's share of the whole, with what no run's time holds: workers that start, and those that wait at the end.
  double share(const Size& size) const {
    double all = 0;
    for (const auto& [other, seconds] : runs) all += seconds;
    return whole.seconds * runs.at(size) / all;
  }
};

/// All sizes as one sweep, in a folder that is removed.
SweepTime sweep_all(const SweepBench& bench) {
  const auto folder = bench.folder / "sweep";
  make_folder(folder);
  std::vector<int64_t> heads;
  for (const auto width : bench.widths) heads.push_back(heads_of(bench, width));
  const Json document = {{"name", "bench"},
                         {"base", run_json(bench, bench.depths.front(), bench.widths.front())},
                         {"grid", {{"model.depth", bench.depths}, {"train.learning_rate", bench.learning_rates}}},
                         {"zip", {{"model.model_dim", bench.widths}, {"model.num_heads", heads}}}};
  write_file_atomically(folder / "bench.json", document.dump());
  SweepTime time;
  time.whole = spent_on([&] {
    const Spec spec = read_spec(folder / "bench.json", {});
    const auto outcome =
        run_sweep(spec, make_plan(spec), {.folder = folder / "results", .program = bench.program, .jobs = bench.jobs});
    if (outcome.interrupted) throw ConfigError("bench sweep: interrupted");
    if (outcome.done != count_of(bench))
      throw ConfigError(
          fmt::format("bench sweep: of {} runs only {} came to their end", count_of(bench), outcome.done));
  });
  std::istringstream rows(read_file(folder / "results" / "results.jsonl"));
  for (std::string line; std::getline(rows, line);) {
    const auto row = Json::parse(line);
    const auto& model = row.at("config").at("model");
    time.runs[{model.at("depth"), model.at("model_dim")}] += row.at("timing").at("seconds").get<double>();
  }
  std::filesystem::remove_all(folder);
  return time;
}

/// One way for a loop of Python processes to make the runs of a size, and those that it made.
struct Way {
  std::string mode;
  int threads = 1;
  std::vector<Spent> runs = {};
  bool compiles() const { return mode.starts_with("compiled"); }
  Spent all(int64_t count) const { return all_runs(runs, compiles(), count); }
};

/// The next run of a way: one process from its start to its last step. What is compiled is found again by the same way,
/// in a folder that was empty when the bench began.
void make_run(const SweepBench& bench, Json run, Way& way) {
  run["train"]["learning_rate"] = bench.learning_rates[way.runs.size()];
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(run, problems);
  if (!problems.empty()) throw ConfigError(problems.front().path + ": " + problems.front().message);
  auto compiled = fmt::format("{} {}", way.mode, way.threads);
  std::replace(compiled.begin(), compiled.end(), ' ', '-');
  way.runs.push_back(spent_on([&] {
    PythonTraining process(config, {.python = bench.python,
                                    .modes = {way.mode},
                                    .threads = way.threads,
                                    .compiled = bench.folder / "compiled" / compiled});
    process.train(way.mode, bench.steps);
  }));
}

/// @param all  what all runs of the size take is added to it
/// @param made  the number of runs of the way that counts is added to it
Json python_side(const SweepBench& bench, int64_t depth, int64_t width, Spent& all, int64_t& made) {
  const auto run = run_json(bench, depth, width);
  const int64_t count = std::ssize(bench.learning_rates);
  std::vector<Way> ways;
  for (const auto& mode : bench.modes) {
    ways.push_back({mode, 1});
    if (bench.jobs > 1) ways.push_back({mode, bench.jobs});
  }
  for (auto& way : ways)
    for (int64_t i = 0; i < std::min<int64_t>(count, way.compiles() ? 2 : 1); ++i) make_run(bench, run, way);
  auto& best = *std::min_element(ways.begin(), ways.end(), [&](const Way& a, const Way& b) {
    return a.all(count).seconds < b.all(count).seconds;
  });
  while (std::ssize(best.runs) < bench.python_runs) make_run(bench, run, best);
  Json tried = Json::array();
  for (const auto& way : ways) {
    Json seconds = Json::array();
    for (const auto& one : way.runs) seconds.push_back(one.seconds);
    tried.push_back({{"mode", way.mode}, {"threads", way.threads}, {"run_seconds", std::move(seconds)}});
  }
  const auto whole = best.all(count);
  all += whole;
  made += std::ssize(best.runs);
  return {{"mode", best.mode},
          {"threads", best.threads},
          {"runs", best.runs.size()},
          {"seconds", whole.seconds},
          {"processor_seconds", whole.processor_seconds},
          {"tried", std::move(tried)}};
}

}  // namespace

Spent all_runs(const std::vector<Spent>& made, bool first_compiles, int64_t count) {
  Spent sum, typical;
  for (const auto& one : made) sum += one;
  const size_t first = first_compiles && made.size() > 1 ? 1 : 0;
  for (size_t i = first; i < made.size(); ++i) typical += made[i];
  const double others = static_cast<double>(count - std::ssize(made)) / static_cast<double>(made.size() - first);
  return {sum.seconds + others * typical.seconds, sum.processor_seconds + others * typical.processor_seconds};
}

Json bench_sweep(const SweepBench& bench) {
  const int64_t rates = std::ssize(bench.learning_rates), count = count_of(bench);
  if (bench.python_runs < 1 || bench.python_runs > rates)
    throw ConfigError(
        fmt::format("bench sweep: Python can make 1 to {} runs of each size, received {}", rates, bench.python_runs));
  std::vector<SweepTime> ours = {sweep_all(bench)};
  Spent python;
  int64_t made = 0;
  std::map<Size, Json> theirs;
  if (!bench.python.empty()) {
    for (const auto& [size, seconds] : ours.front().runs)
      theirs[size] = python_side(bench, size.first, size.second, python, made);
    ours.push_back(sweep_all(bench));
  }
  std::filesystem::remove_all(bench.folder / "compiled");
  Spent mean;
  std::vector<double> seconds;
  for (const auto& sweep : ours) {
    seconds.push_back(sweep.whole.seconds);
    mean += sweep.whole;
  }
  const auto sweeps = static_cast<double>(ours.size());
  mean = {mean.seconds / sweeps, mean.processor_seconds / sweeps};
  Json rows = Json::array();
  double lowest = std::numeric_limits<double>::infinity(), highest = 0;
  for (const auto& [size, first] : ours.front().runs) {
    double own = 0;
    for (const auto& sweep : ours) own += sweep.share(size) / sweeps;
    rows.push_back({{"depth", size.first}, {"model_dim", size.second}, {"runs", rates}, {"seconds", own}});
    if (bench.python.empty()) continue;
    auto& row = rows.back()["python"] = std::move(theirs.at(size));
    row["times_slower"] = row["seconds"].get<double>() / own;
    lowest = std::min(lowest, row["times_slower"].get<double>());
    highest = std::max(highest, row["times_slower"].get<double>());
  }
  Json result = {{"runs", count},
                 {"jobs", bench.jobs},
                 {"dtype", bench.dtype},
                 {"kernels", kernels_in_use()},
                 {"allocator", allocator_in_use()},
                 {"steps", bench.steps},
                 {"seconds", mean.seconds},
                 {"processor_seconds", mean.processor_seconds},
                 {"sweeps", seconds},
                 {"sizes", std::move(rows)}};
  if (bench.python.empty()) return result;
  result["python"] = {{"runs", made},
                      {"extrapolated", made < count},
                      {"seconds", python.seconds},
                      {"processor_seconds", python.processor_seconds},
                      {"times_slower", python.seconds / mean.seconds},
                      {"lowest", lowest},
                      {"highest", highest}};
  return result;
}

}  // namespace attnscale
