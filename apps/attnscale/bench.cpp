#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "bench.h"
#include "bench/attention.h"
#include "bench/crossover.h"
#include "bench/python_training.h"
#include "bench/training.h"
#include "bench/training_memory.h"
#include "commands.h"
#include "core/files.h"
#include "core/table.h"
#include "core/units.h"
#include "report/bench_figure.h"
#include "report/vega_engine.h"
#include "sweep/plan.h"
#include "tensor/kernels/kernels.h"

namespace attnscale {

std::string spread_text(const Json& timing) {
  return fmt::format("{:.3g} ({:.3g} to {:.3g})", timing["median"].get<double>(), timing["minimum"].get<double>(),
                     timing["maximum"].get<double>());
}

void add_against(CLI::App& command, std::string& against, std::string& python, const char* description) {
  auto* comparison = command.add_option("--against", against, description);
  comparison->check(CLI::IsMember({"python"}));
  command.add_option("--python", python, "the interpreter for --against python; it needs torch")
      ->needs(comparison)
      ->capture_default_str()
      ->type_name("PROGRAM");
}

namespace {

/// The published CPU configuration of nanoGPT, on generated tokens with as many symbols.
constexpr const char* default_config = R"({
  "model": {"depth": 4, "model_dim": 128, "num_heads": 4, "bias": false},
  "data": {"source": "zipf_memory", "num_keys": 49, "num_labels": 16, "context": 64},
  "train": {"batch_size": 12, "learning_rate": 0.001}
})";

}  // namespace

RunConfig bench_config(const std::vector<std::string>& assignments, const Json& defaults) {
  Json config = Json::parse(default_config);
  config.merge_patch(defaults);
  for (const auto& text : assignments) {
    auto [path, value] = parse_assignment(text);
    set_path(config, path, std::move(value));
  }
  std::vector<Problem> problems;
  auto result = RunConfig::from_json(config, problems);
  std::string message;
  for (const auto& problem : problems)
    message += fmt::format("{}--set: {}: {}", message.empty() ? "" : "\n", problem.path, problem.message);
  if (!problems.empty()) throw ConfigError(message);
  return result;
}

void add_set(CLI::App& command, std::vector<std::string>& set) {
  command.add_option("--set", set, "path=value, changes the config (model.depth=6); repeatable")
      ->type_name("PATH=VALUE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

namespace {

/// From which length on a variant beats softmax, in words.
std::string crossover_text(const Json& variant) {
  if (!variant.contains("crossover")) return "";
  const auto& cross = variant["crossover"];
  const auto kind = cross["kind"].get<std::string>();
  if (kind == "never") return fmt::format("not up to {:.0f}", cross["last"].get<double>());
  if (kind == "always") return fmt::format("from {:.0f} or less", cross["first"].get<double>());
  return fmt::format("from {:.0f} ({:.0f} to {:.0f})", cross["length"].get<double>(), cross["low"].get<double>(),
                     cross["high"].get<double>());
}

/// A star for those whose projections are timed too.
std::string name_of(const Json& row) {
  return row["variant"].get<std::string>() + (row["with_projections"] == true ? "*" : "");
}

std::string growth_table(const Json& variants) {
  Table table;
  table.add_column("variant");
  for (const auto* title : {"time per doubling", "time ~", "memory per doubling", "memory ~", "faster than softmax"})
    table.add_column(title, Table::right);
  for (const auto& variant : variants) {
    const auto factor = [&](const char* of) {
      return variant.contains("growth") ? fmt::format("x {:.2f}", variant["growth"][of].get<double>()) : "";
    };
    const auto exponent = [&](const char* of) {
      return variant.contains("exponent") ? fmt::format("T^{:.2f}", variant["exponent"][of].get<double>()) : "";
    };
    table.add_row({name_of(variant), factor("time"), exponent("time"), factor("memory"), exponent("memory"),
                   crossover_text(variant)});
  }
  return table.text(200);
}

void draw(const Json& result, const std::filesystem::path& file) {
  write_file_atomically(file, VegaEngine().svg(attention_cost_figure(result).spec, figure_theme(false)));
}

/// Our time beside PyTorch's.
std::string python_attention_table(const Json& result) {
  Table table;
  table.add_column("PyTorch " + result["python"]["torch"].get<std::string>());
  for (const auto* title : {"T", "forward + backward ms", "times slower than this", "interval"})
    table.add_column(title, Table::right);
  for (const auto& row : result["rows"]) {
    if (!row.contains("python")) continue;
    const auto& slower = row["python"]["times_slower"];
    table.add_row({row["variant"].get<std::string>(), row["length"].dump(),
                   spread_text(row["python"]["forward_backward_ms"]),
                   fmt::format("{:.2f}", slower["median"].get<double>()),
                   fmt::format("{:.2f} to {:.2f}, {:.0f} %", slower["low"].get<double>(), slower["high"].get<double>(),
                               100 * slower["confidence"].get<double>())});
  }
  auto text = table.text(200);
  for (const auto& one : result["python"]["left_out"])
    text += fmt::format("\n{} was left out: {}", one["variant"].get<std::string>(), one["reason"].get<std::string>());
  return text;
}

ExitCode attention(const AttentionBench& bench, const std::string& figure, bool json) {
  for (const auto& name : bench.variants) variant_argument(name);
  const Json result = bench_attention(bench);
  if (!figure.empty()) draw(result, figure);
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  Table table;
  table.add_column("variant");
  for (const auto* title : {"T", "forward ms", "forward + backward ms", "GFLOP/s", "of GEMM peak", "memory", "state"})
    table.add_column(title, Table::right);
  for (const auto& row : result["rows"])
    table.add_row({name_of(row), row["length"].dump(), spread_text(row["forward_ms"]),
                   spread_text(row["forward_backward_ms"]), fmt::format("{:.1f}", row["gflops"].get<double>()),
                   fmt::format("{:.0f} %", 100 * row["of_gemm_peak"].get<double>()),
                   bytes_text(row["peak_bytes"].get<int64_t>()), bytes_text(row["state_bytes"].get<int64_t>())});
  print(table.text(200));
  std::set<std::string> told;
  for (const auto& one : result["left_out"]) {
    const auto name = one["variant"].get<std::string>(), reason = one["reason"].get<std::string>();
    if (!told.insert(name + reason).second) continue;  // the same at every length
    print(fmt::format("{} at {} was left out: {}\n", name, one["length"].dump(), reason));
  }
  const auto& variants = result["variants"];
  if (std::any_of(variants.begin(), variants.end(), [](const Json& one) { return one["with_projections"] == true; }))
    print("* with its own projections, which the others leave to the layer around them\n");
  if (result.contains("python")) print("\n" + python_attention_table(result) + "\n");
  if (bench.lengths.size() > 1) print("\n" + growth_table(result["variants"]) + "\n");
  print(
      fmt::format("{} threads, {}, batch {}, {} heads of width {}; GEMM peak measured {:.0f} GFLOP/s; medians (minimum "
                  "to maximum) of {}\n",
                  bench.threads, bench.dtype, bench.batch, bench.num_heads, bench.head_dim,
                  result["gemm_gflops"].get<double>(), bench.repetitions));
  return ExitCode::done;
}

std::string python_table(const Json& python) {
  Table table;
  table.add_column("PyTorch " + python["torch"].get<std::string>());
  for (const auto* title : {"step ms", "times slower than this", "interval"}) table.add_column(title, Table::right);
  for (const auto& mode : python["modes"]) {
    const auto& slower = mode["times_slower"];
    const auto name = mode["mode"].get<std::string>();
    table.add_row({name + (python["best"] == name ? " (best)" : ""), spread_text(mode["step_time_ms"]),
                   fmt::format("{:.2f}", slower["median"].get<double>()),
                   fmt::format("{:.2f} to {:.2f}, {:.0f} %", slower["low"].get<double>(), slower["high"].get<double>(),
                               100 * slower["confidence"].get<double>())});
  }
  auto text = table.text(200);
  for (const auto& one : python["left_out"])
    text += fmt::format("\n{} was left out: {}", one["mode"].get<std::string>(), one["reason"].get<std::string>());
  return text;
}

/// What takes at least a hundredth of the time, and the rest.
std::string operators_table(const Json& operators) {
  Table table;
  table.add_column("operator");
  for (const auto* title : {"calls", "ms", "share"}) table.add_column(title, Table::right);
  double others = 0, calls = 0, share = 0;
  for (const auto& one : operators["operators"]) {
    if (one["share"].get<double>() < 0.01 && one["operator"] != "rest") {
      others += one["ms"].get<double>();
      calls += one["calls"].get<double>();
      share += one["share"].get<double>();
      continue;
    }
    table.add_row({one["operator"].get<std::string>(), fmt::format("{:.0f}", one["calls"].get<double>()),
                   fmt::format("{:.2f}", one["ms"].get<double>()),
                   fmt::format("{:.0f} %", 100 * one["share"].get<double>())});
  }
  table.add_row({"operators below 1 %", fmt::format("{:.0f}", calls), fmt::format("{:.2f}", others),
                 fmt::format("{:.0f} %", 100 * share)});
  return table.text(200);
}

ExitCode training(const std::vector<std::string>& assignments, const TrainingBench& bench, bool json) {
  const Json result = bench_training(bench_config(assignments), bench);
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  print(
      fmt::format("{:.0f} tokens per second; a step takes {} ms, {} threads, {}, {} parameters\n"
                  "{:.1f} GFLOP/s multiplied, {:.0f} % of this machine's GEMM peak of {:.0f}; {} of memory at most\n",
                  result["tokens_per_second"].get<double>(), spread_text(result["spread"]), bench.threads,
                  result["dtype"].get<std::string>(), count_text(result["params"].get<double>()),
                  result["gflops"].get<double>(), 100 * result["of_gemm_peak"].get<double>(),
                  result["gemm_gflops"].get<double>(), bytes_text(result["peak_memory_bytes"].get<int64_t>())));
  if (result.contains("operators")) print("\n" + operators_table(result["operators"]) + "\n");
  if (result.contains("python")) print("\n" + python_table(result["python"]) + "\n");
  return ExitCode::done;
}

/// Memory of a step at several contexts, and how it grows.
ExitCode training_memory(std::vector<std::string> assignments, const std::vector<int64_t>& contexts, bool json) {
  Json rows = Json::array();
  std::vector<double> lengths, bytes;
  assignments.emplace_back();
  for (const auto context : contexts) {
    assignments.back() = fmt::format("data.context={}", context);
    const int64_t needed = training_step_bytes(bench_config(assignments));
    rows.push_back({{"context", context}, {"step_bytes", needed}});
    lengths.push_back(static_cast<double>(context));
    bytes.push_back(static_cast<double>(needed));
  }
  Json result = {{"rows", std::move(rows)}, {"kernels", kernels_in_use()}};
  if (const auto found = exponent(lengths, bytes)) result["exponent"] = *found;
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  Table table;
  for (const auto* title : {"context", "memory of a step"}) table.add_column(title, Table::right);
  for (const auto& row : result["rows"])
    table.add_row({row["context"].dump(), bytes_text(row["step_bytes"].get<int64_t>())});
  print(table.text(200));
  if (result.contains("exponent"))
    print(
        fmt::format("it grows as context^{:.2f}, by least squares on logarithms\n", result["exponent"].get<double>()));
  return ExitCode::done;
}

void add_bench_attention(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand("attention", "Times forward and backward of the variants, interleaved");
  auto options = std::make_shared<AttentionBench>();
  auto json = std::make_shared<bool>(false);
  auto figure = std::make_shared<std::string>();
  command->add_option("--variants", options->variants, "which (default: all)")->delimiter(',');
  command->add_option("--lengths", options->lengths, "positions")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "sequences")->check(CLI::Range(1, 4096))->capture_default_str();
  command->add_option("--heads", options->num_heads, "heads")->check(CLI::Range(1, 1024))->capture_default_str();
  command->add_option("--head-dim", options->head_dim, "width of a head")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "float32, bfloat16 or float64")->capture_default_str();
  add_timing(*command, *options, "repetitions");
  auto bidirectional = std::make_shared<bool>(false);
  command->add_flag("--bidirectional", *bidirectional, "every query sees every key; left out: causal");
  command->add_option("--most-seconds", options->most_seconds, "leave out what a single call is expected to exceed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto against = std::make_shared<std::string>(), python = std::make_shared<std::string>("python3");
  add_against(*command, *against, *python,
              "python: times PyTorch's form of softmax, sliding_window, linear and performer beside them, in turns");
  command->add_option("--figure", *figure, "draw time, memory and crossover into this SVG file")->type_name("FILE");
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale bench attention --lengths 512,2048,8192 --variants softmax,linear");
  command->callback([=, &action] {
    options->causal = !*bidirectional;
    if (!against->empty()) options->python = *python;
    action = [=] { return attention(*options, *figure, *json); };
  });
}

void add_bench_train(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand("train", "Times whole training steps of one config");
  auto set = std::make_shared<std::vector<std::string>>();
  auto options = std::make_shared<TrainingBench>();
  auto against = std::make_shared<std::string>(), python = std::make_shared<std::string>("python3");
  auto json = std::make_shared<bool>(false);
  add_set(*command, *set);
  add_timing(*command, *options, "steps", 100000);
  auto contexts = std::make_shared<std::vector<int64_t>>();
  auto* memory =
      command->add_option("--contexts", *contexts, "instead of times: the memory that a step needs at these contexts")
          ->delimiter(',')
          ->check(CLI::Range(1, 1 << 20));
  command->add_flag("--operators", options->operators, "also where the time goes, operator by operator");
  add_against(*command, *against, *python, "python: times a plain PyTorch loop on the same work, in turns");
  command
      ->add_option("--modes", options->modes,
                   "of PyTorch: \"eager float32\", \"compiled bfloat16\" (default: all; compiling takes minutes)")
      ->delimiter(',')
      ->check(CLI::IsMember(python_modes));
  command->add_option("--most-seconds", options->most_seconds, "repeat no longer than this, but three times")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  for (const auto* name :
       {"--threads", "--warmup", "--repetitions", "--clock", "--operators", "--against", "--modes", "--most-seconds"})
    memory->excludes(command->get_option(name));
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale bench train --set train.dtype=bfloat16 --against python");
  command->callback([=, &action] {
    if (!against->empty()) options->python = *python;
    action = [=] {
      return contexts->empty() ? training(*set, *options, *json) : training_memory(*set, *contexts, *json);
    };
  });
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("bench", "Measures speed on this machine");
  command->require_subcommand(1);
  command->footer("Example: attnscale bench train --json");
  add_bench_attention(*command, action);
  add_bench_train(*command, action);
  add_bench_curve(*command, action);
  add_bench_generate(*command, action);
  add_bench_sweep(*command, action);
}

}  // namespace attnscale
