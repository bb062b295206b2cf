// attnscale: parses the command line, calls the library, turns errors into messages and exit codes.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "commands.h"
#include "core/nearest.h"
#include "core/signals.h"
#include "core/version.h"
#include "tensor/memory.h"

namespace {

using namespace attnscale;

/// The long names of a command's flags, or the names of the program's commands.
std::vector<std::string> known_words(const CLI::App& app, bool flags) {
  std::vector<std::string> known;
  if (flags)
    for (const auto* option : app.get_options())
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  else
    for (const auto* command : app.get_subcommands([](const CLI::App* c) { return !c->get_group().empty(); }))
      known.push_back(command->get_name());
  return known;
}

/// CLI11's message, and the nearest command or flag where a word was not known.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const CLI::App* chosen = &app;
  while (!chosen->get_subcommands().empty()) chosen = chosen->get_subcommands().front();
  const std::string message = error.what();
  const auto flags = known_words(*chosen, true);
  const bool expects_command = !chosen->get_subcommands([](const CLI::App*) { return true; }).empty();
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word.rfind("--", 0) == 0) {
      word = word.substr(0, word.find('='));
      // The message may be about a known flag's value; then its name is right.
      const bool known = std::find(flags.begin(), flags.end(), word) != flags.end();
      if (!known && message.find(word) != std::string::npos) return message + suggestion(word, flags);
      continue;
    }
    if (expects_command && word[0] != '-' && word != chosen->get_name())
      return "unknown command " + word + suggestion(word, known_words(*chosen, false));
  }
  return message;
}

int run(int argc, char** argv) {
  CLI::App app{
      "Which attention variant is better, at what size, on what budget, and how sure are you?\n"
      "One JSON spec, one command: scaling laws of attention variants with their uncertainty.",
      "attnscale"};
  app.footer(
      "Example: attnscale sweep experiments/quickstart/spec.json\n"
      "Exit status: 0 done, 1 runs failed or diverged, 2 usage, 65 bad spec or data, 74 disk,\n"
      "75 interrupted (run the same command again).");
  app.set_version_flag("--version", version);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  Action action;
  add_init(app, action);
  add_sweep(app, action);
  add_plan(app, action);
  add_train(app, action);
  add_fit(app, action);
  add_watch(app, action);
  add_compare(app, action);
  add_runs(app, action);
  add_diff(app, action);
  add_why(app, action);
  add_fsck(app, action);
  add_rerun(app, action);
  add_report(app, action);
  add_export(app, action);
  add_list(app, action);
  add_describe(app, action);
  add_verify(app, action);
  add_generate(app, action);
  add_inspect(app, action);
  add_coordinates(app, action);
  add_optimum(app, action);
  add_verdict(app, action);
  add_draw(app, action);
  add_bench(app, action);
  add_schema(app, action);
  add_docs(app, action);
  add_doctor(app, action);
  add_completions(app, action);
  add_worker(app, action);
  add_slurm_task(app, action);
  if (argc < 2) {
    std::cerr << app.help();
    return static_cast<int>(ExitCode::usage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    std::ostringstream text;
    const int code = app.exit(asked, text, text);
    print(text.str());
    std::_Exit(code);  // what LibTorch would tidy up takes longer than the answer
  } catch (const CLI::ParseError& error) {
    std::cerr << "attnscale: " << usage_message(app, error, argc, argv) << "\nRun attnscale --help for the commands.\n";
    return static_cast<int>(ExitCode::usage);
  }
  return static_cast<int>(action());
}

}  // namespace

namespace {

/// Without taking LibTorch down operator by operator, which takes a quarter as long as starting it did. The sanitizers
/// look for leaks on the way out.
int leave(int code) {
#ifndef __SANITIZE_ADDRESS__
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  std::_Exit(code);
#endif
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  ignore_write_signals();
  keep_freed_memory();
  try {
    return leave(run(argc, argv));
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::cerr << "attnscale: " << error.what() << "\n";
    return static_cast<int>(ExitCode::run_failed);
  }
}
