#include <iostream>

#include <fmt/format.h>

#include "commands.h"
#include "core/files.h"

namespace attnscale {
namespace {

/// Small enough to end in a minute; every key explained once.
constexpr const char* commented_spec =
    R"(// A spec of attnscale. `attnscale plan FILE` shows the runs and their cost, `attnscale sweep FILE` trains them.
// Comments are allowed. All options: `attnscale describe softmax`, docs/reference/options.md.
{
  "name": "my-sweep",  // results go to results/my-sweep

  // What every run shares. What is left out has its default.
  "base": {
    "model": {
      "depth": 2,
      "model_dim": 32,
      "num_heads": 2,
      "ffn_dim": "= 4 * model_dim"  // derived: follows the axes below
    },
    // A source of known entropy. For a text of yours: {"source": "text", "path": "corpus.txt", "context": 64}
    "data": {"source": "zipf_memory", "context": 32},
    "train": {"steps": 300, "batch_size": 8, "learning_rate": 0.003, "warmup_steps": "= steps // 10"}
  },

  // Axes that multiply: path -> values, or a range {"log": [low, high], "points": n, "multiple_of": m}.
  "grid": {
    "attention": [{"variant": "softmax"}, {"variant": "linear"}],  // `attnscale list variants` names all
    "model.model_dim": [16, 32]
  },

  // Other specs beneath this one, relative to this file; what is said here counts.
  // "include": "common.json",

  // Several grids in one sweep, each above what stands beside it; `runs`, `compare` and `draw` know them by name.
  // "groups": {"wide": {"grid": {"model.model_dim": [64]}}, "deep": {"base": {"model": {"depth": 4}}}},

  // Points to leave out. Conditions know == != < <= > >= in, and or not.
  // "exclude": ["model_dim == 16 and variant == 'linear'"],

  // At equal size: each run gets the ffn_dim at which it has as many parameters as softmax in its place.
  // (Take "ffn_dim" out of the base then.)
  // "match": {"quantity": "parameters", "as": {"attention": {"variant": "softmax"}}, "by": "model.ffn_dim"},

  // Runs of one size and seed that do worse than others on the way are ended early.
  // "stopping": {"rule": "asha", "first": 100, "reduction": 3, "by": ["train.learning_rate"]},

  "seeds": 2  // three and more give comparisons that can be trusted
}
)";

ExitCode init(const std::string& file) {
  if (file == "-") {
    print(commented_spec);
    return ExitCode::done;
  }
  if (std::filesystem::exists(file))
    throw Error(fmt::format("{}: is there already; name another file, or - to print the spec", file), ExitCode::usage);
  write_file_atomically(file, commented_spec);
  std::cerr << fmt::format("wrote {}; next: attnscale plan {}\n", file, file);
  return ExitCode::done;
}

}  // namespace

void add_init(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("init", "Writes a spec to begin with, every key explained");
  auto file = std::make_shared<std::string>("spec.json");
  command->add_option("file", *file, "where to; - prints it")->capture_default_str();
  command->footer("Example: attnscale init my-sweep.json");
  command->callback([=, &action] { action = [=] { return init(*file); }; });
}

}  // namespace attnscale
