#include "bench/sweeping.h"

#include <algorithm>
#include <optional>

#include <sys/resource.h>

#include <fmt/format.h>

#include "bench/python_training.h"
#include "bench/timing.h"
#include "core/error.h"
#include "core/files.h"
#include "sweep/sweep.h"
#include "tensor/kernels/kernels.h"

namespace attnscale {
namespace {

/// Wall-clock seconds, and seconds that processes which have ended by now spent on processors.
struct Spent {
  double seconds = 0, processor_seconds = 0;
  Spent& operator+=(const Spent& other) {
    seconds += other.seconds;
    processor_seconds += other.processor_seconds;
    return *this;
  }
};

double processor_seconds_of_children() {
  struct rusage usage {};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

template <class Work>
Spent spent_on(const Work& work) {
  const double begin = now_ms(Clock::wall), processor = processor_seconds_of_children();
  work();
  return {(now_ms(Clock::wall) - begin) * 1e-3, processor_seconds_of_children() - processor};
}

Json run_json(const SweepBench& bench, int64_t depth, int64_t width) {
  const int64_t heads = std::max<int64_t>(1, width / bench.head_dim);
  return {{"model", {{"depth", depth}, {"model_dim", width}, {"num_heads", heads}, {"bias", false}}},
          {"data", {{"source", "zipf_memory"}, {"num_keys", 49}, {"num_labels", 16}, {"context", bench.context}}},
          {"train",
           {{"steps", bench.steps},
            {"batch_size", bench.batch_size},
            {"dtype", bench.dtype},
            {"eval_every", bench.steps},
            {"eval_tokens", 16384}}}};
}

/// Ours of one size, in a folder of their own.
Spent sweep_size(const SweepBench& bench, int64_t depth, int64_t width) {
  const auto folder = bench.folder / fmt::format("{}x{}", depth, width);
  make_folder(folder);
  const Json document = {{"name", "bench"},
                         {"base", run_json(bench, depth, width)},
                         {"grid", {{"train.learning_rate", bench.learning_rates}}}};
  write_file_atomically(folder / "bench.json", document.dump());
  const auto time = spent_on([&] {
    const Spec spec = read_spec(folder / "bench.json", {});
    const auto outcome =
        run_sweep(spec, make_plan(spec), {.folder = folder / "results", .program = bench.program, .jobs = bench.jobs});
    if (outcome.interrupted) throw ConfigError("bench sweep: interrupted");
    if (outcome.done != std::ssize(bench.learning_rates))
      throw ConfigError(fmt::format("bench sweep: of {} runs with {} layers of {} only {} came to their end",
                                    bench.learning_rates.size(), depth, width, outcome.done));
  });
  std::filesystem::remove_all(folder);
  return time;
}

/// One way for a loop of Python processes to make a run.
struct Way {
  std::string mode;
  int threads = 1;
  Spent time = {};
};

/// One process from its start to its last step.
Spent python_run(const SweepBench& bench, const Json& run, const Way& way) {
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(run, problems);
  if (!problems.empty()) throw ConfigError(problems.front().path + ": " + problems.front().message);
  return spent_on([&] {
    PythonTraining process(config, {.python = bench.python, .modes = {way.mode}, .threads = way.threads});
    process.train(way.mode, bench.steps);
  });
}

/// @param all  what all runs of the size take is added to it
Json python_side(const SweepBench& bench, int64_t depth, int64_t width, Spent& all) {
  auto run = run_json(bench, depth, width);
  const auto rate = [&](size_t i) -> const Json& { return run["train"]["learning_rate"] = bench.learning_rates[i]; };
  rate(0);
  std::vector<Way> ways;
  for (const auto& mode : bench.modes) {
    ways.push_back({mode, 1});
    if (bench.jobs > 1) ways.push_back({mode, bench.jobs});
  }
  Json tried = Json::array();
  for (auto& way : ways) {
    way.time = python_run(bench, run, way);
    tried.push_back({{"mode", way.mode}, {"threads", way.threads}, {"seconds", way.time.seconds}});
  }
  const auto& best = *std::min_element(ways.begin(), ways.end(),
                                       [](const Way& a, const Way& b) { return a.time.seconds < b.time.seconds; });
  Spent made = best.time;
  for (int64_t i = 1; i < bench.python_runs; ++i) {
    rate(static_cast<size_t>(i));
    made += python_run(bench, run, best);
  }
  const double count = static_cast<double>(bench.python_runs),
               of_all = static_cast<double>(bench.learning_rates.size());
  all += {made.seconds * of_all / count, made.processor_seconds * of_all / count};
  return {{"mode", best.mode},
          {"threads", best.threads},
          {"runs", bench.python_runs},
          {"seconds", made.seconds / count},
          {"processor_seconds", made.processor_seconds / count},
          {"tried", std::move(tried)}};
}

}  // namespace

Json bench_sweep(const SweepBench& bench) {
  const int64_t rates = std::ssize(bench.learning_rates), sizes = std::ssize(bench.depths) * std::ssize(bench.widths);
  if (bench.python_runs < 1 || bench.python_runs > rates)
    throw ConfigError(
        fmt::format("bench sweep: Python can make 1 to {} runs of each size, received {}", rates, bench.python_runs));
  Spent ours, python;
  Json rows = Json::array();
  for (const auto depth : bench.depths)
    for (const auto width : bench.widths) {
      const auto time = sweep_size(bench, depth, width);
      ours += time;
      rows.push_back({{"depth", depth},
                      {"model_dim", width},
                      {"runs", rates},
                      {"seconds", time.seconds},
                      {"processor_seconds", time.processor_seconds}});
      if (!bench.python.empty()) rows.back()["python"] = python_side(bench, depth, width, python);
    }
  Json result = {{"runs", sizes * rates},
                 {"jobs", bench.jobs},
                 {"dtype", bench.dtype},
                 {"kernels", kernels_in_use()},
                 {"steps", bench.steps},
                 {"seconds", ours.seconds},
                 {"processor_seconds", ours.processor_seconds},
                 {"sizes", std::move(rows)}};
  if (!bench.python.empty())
    result["python"] = {{"runs", sizes * bench.python_runs},
                        {"extrapolated", bench.python_runs < rates},
                        {"seconds", python.seconds},
                        {"processor_seconds", python.processor_seconds},
                        {"times_slower", python.seconds / ours.seconds}};
  return result;
}

}  // namespace attnscale
