#include <cmath>
#include <iostream>
#include <limits>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "commands.h"
#include "core/files.h"
#include "model/attention_choice.h"
#include "train/decode_state.h"
#include "train/trained_model.h"

namespace attnscale {
namespace {

struct GenerateArguments {
  std::string checkpoint, prompt, data_path, state, save_state;
  int64_t tokens = 0, top_k = 0;
  double temperature = 1;
  uint64_t seed = 0;
  bool json = false;
};

void print_generated(const GenerateArguments& arguments, const TrainedModel& trained,
                     const std::vector<int64_t>& prompt, const Generated& made) {
  const auto& config = trained.config;
  const auto text = trained.source->decode(made.tokens);
  const double rate = made.seconds > 0 ? static_cast<double>(std::ssize(made.tokens) - 1) / made.seconds : 0;
  if (arguments.json) {
    print_json({{"schema", "attnscale.generated/1"},
                {"run", config.id()},
                {"step", trained.step},
                {"variant", label_of(config.attention)},
                {"prompt", prompt},
                {"tokens", made.tokens},
                {"text", text},
                {"with_state", made.with_state},
                {"state_bytes", made.state_bytes},
                {"tokens_per_second", rate}});
    return;
  }
  print(arguments.prompt + (text.empty() || config.data.source == "text" ? "" : " ") + text + "\n");
  const auto how = made.with_state ? fmt::format("a state of {} bytes", made.state_bytes)
                                   : std::string("no state: the whole text is read again for each token");
  std::cerr << fmt::format("{} tokens, {:.0f} a second, {}\n", made.tokens.size(), rate, how);
}

ExitCode run_generate(const GenerateArguments& arguments) {
  if (!std::isfinite(arguments.temperature)) {
    std::cerr << "attnscale: --temperature: received no number, expected one from 0 to 1e6\n";
    return ExitCode::usage;
  }
  if (arguments.prompt.empty() && arguments.state.empty()) {
    std::cerr << "attnscale: --prompt is required, unless --state goes on from a saved one\n";
    return ExitCode::usage;
  }
  if (!arguments.save_state.empty()) check_replaceable(arguments.save_state);
  at::set_num_threads(1);  // one sequence: waiting for threads costs more than the work
  const auto trained = load_trained_model(arguments.checkpoint, arguments.data_path);
  const auto& config = trained.config;
  const auto prompt = arguments.prompt.empty() ? std::vector<int64_t>() : trained.source->encode(arguments.prompt);
  std::optional<Continuation> carried;
  if (!arguments.state.empty() || !arguments.save_state.empty()) {
    if (!decodes(config.attention))
      throw ConfigError(fmt::format("{} keeps no decode state, so there is none to save or to go on from",
                                    label_of(config.attention)));
    carried = arguments.state.empty() ? Continuation{trained.model->new_state(1)}
                                      : read_continuation(arguments.state, trained);
  }
  const int64_t before = carried ? carried->state.length + std::ssize(carried->unread) : 0;
  const int64_t room = config.data.context - before - std::ssize(prompt) + 1;
  GenerateOptions options{.count = arguments.tokens,
                          .temperature = arguments.temperature,
                          .top_k = arguments.top_k,
                          .seed = arguments.seed};
  if (options.count == 0) options.count = std::max<int64_t>(1, room);
  const auto made =
      generate(*trained.model, config.attention, config.data.context, prompt, options, carried ? &*carried : nullptr);
  print_generated(arguments, trained, prompt, made);  // first, so that a state that cannot be written costs no tokens
  if (!arguments.save_state.empty()) write_continuation(arguments.save_state, *carried, trained);
  return ExitCode::done;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("generate", "Continues a prompt with a trained run, decoding by its variant's state");
  auto arguments = std::make_shared<GenerateArguments>();
  command->add_option("checkpoint", arguments->checkpoint, "a run's folder, its checkpoint, or a folder with one run")
      ->required();
  command->add_option("--prompt", arguments->prompt,
                      "text, or token numbers for a generated source; with --state it may be left out");
  command->add_option("--tokens", arguments->tokens, "how many to add; left out: to the end of the context")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--temperature", arguments->temperature, "0: the most probable token each time (default 1)")
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--top-k", arguments->top_k, "draw among the k most probable tokens only")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("--seed", arguments->seed, "of the draws (default 0)")
      ->check(CLI::Range(uint64_t{0}, std::numeric_limits<uint64_t>::max()));
  command->add_option("--save-state", arguments->save_state, "write the decode state here, to go on from later")
      ->type_name("FILE");
  command->add_option("--state", arguments->state, "go on from a state that --save-state wrote for this run")
      ->type_name("FILE");
  command->add_option("--data", arguments->data_path, "where the text lies now, if not where it was trained on");
  command->add_flag("--json", arguments->json, "one JSON document on standard output");
  command->footer("Example: attnscale generate results/shakespeare-published --prompt 'KING:' --temperature 0.8");
  command->callback([=, &action] { action = [=] { return run_generate(*arguments); }; });
}

}  // namespace attnscale
