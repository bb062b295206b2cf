// Shell completions and the man page, from the same declarations as --help.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "commands.h"
#include "core/version.h"

namespace attnscale {
namespace {

/// A command with the words that lead to it: `bench attention`.
struct Command {
  std::string words;
  const CLI::App* app;
};

void collect_commands(const CLI::App& app, const std::string& words, std::vector<Command>& into) {
  for (const auto* command : app.get_subcommands([](const CLI::App* one) { return !one->get_group().empty(); })) {
    const auto name = words.empty() ? command->get_name() : words + " " + command->get_name();
    into.push_back({name, command});
    collect_commands(*command, name, into);
  }
}

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
  return flags;
}

std::vector<std::string> subcommands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* one : app.get_subcommands([](const CLI::App* c) { return !c->get_group().empty(); }))
    names.push_back(one->get_name());
  return names;
}

/// What may stand behind these words: names of commands, then flags.
std::vector<std::string> words_behind(const CLI::App& app) {
  auto words = subcommands_of(app);
  const auto flags = flags_of(app);
  words.insert(words.end(), flags.begin(), flags.end());
  return words;
}

std::string first_sentence(const std::string& text) { return text.substr(0, text.find('\n')); }

/// In single quotes of a shell.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text)
    if (c == '\'') result += "'\\''";
    else result += c;
  return result + "'";
}

std::string bash_script(const CLI::App& app, const std::vector<Command>& commands) {
  std::string cases;
  for (const auto& command : commands)
    cases += fmt::format("    {}) words={} ;;\n", quoted(command.words),
                         quoted(fmt::format("{}", fmt::join(words_behind(*command.app), " "))));
  return fmt::format(
      R"(# bash completion of attnscale {}: source <(attnscale completions bash)
_attnscale() {{
  local word words place="" current="${{COMP_WORDS[COMP_CWORD]}}" i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word="${{COMP_WORDS[i]}}"
    if [[ $word != -* && (-z $place || $place == bench) ]]; then place="${{place:+$place }}$word"; fi
  done
  case "$place" in
    '') words={} ;;
{}    *) words='' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ -n $place && $current != -* ]]; then COMPREPLY+=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _attnscale attnscale
)",
      version, quoted(fmt::format("{}", fmt::join(words_behind(app), " "))), cases);
}

/// zsh reads bash's completions through bashcompinit.
std::string zsh_script(const CLI::App& app, const std::vector<Command>& commands) {
  return "#compdef attnscale\n# zsh: source <(attnscale completions zsh)\nautoload -U +X bashcompinit && "
         "bashcompinit\n" +
         bash_script(app, commands);
}

std::string fish_script(const std::vector<Command>& commands) {
  std::string text = fmt::format(
      "# fish completion of attnscale {}: attnscale completions fish > ~/.config/fish/completions/attnscale.fish\n",
      version);
  for (const auto& [words, app] : commands) {
    const auto space = words.rfind(' ');
    const auto parent = space == std::string::npos ? "" : words.substr(0, space);
    text += fmt::format(
        "complete -c attnscale {} -a {} -d {}\n",
        parent.empty() ? "-n __fish_use_subcommand" : fmt::format("-n '__fish_seen_subcommand_from {}'", parent),
        app->get_name(), quoted(first_sentence(app->get_description())));
    for (const auto* option : app->get_options())
      for (const auto& name : option->get_lnames())
        text +=
            fmt::format("complete -c attnscale -n '__fish_seen_subcommand_from {}' -l {}{} -d {}\n", app->get_name(),
                        name, option->get_items_expected_max() > 0 ? " -r" : "", quoted(option->get_description()));
  }
  return text;
}

/// Text for troff: no line begins with a control character, backslashes and dashes are themselves.
std::string troff(const std::string& text) {
  std::string result;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) result += "\\&";
    if (c == '\\') result += "\\e";
    else if (c == '-') result += "\\-";
    else result += c;
    line_begins = c == '\n';
  }
  return result;
}

std::string man_page(const CLI::App& app, const std::vector<Command>& commands) {
  auto text = fmt::format(
      ".TH ATTNSCALE 1 \"\" \"attnscale {}\"\n.SH NAME\nattnscale \\- scaling laws of attention variants\n"
      ".SH SYNOPSIS\n.B attnscale\n.I command\n.RI [ options ]\n.SH DESCRIPTION\n{}\n.SH COMMANDS\n",
      version, troff(app.get_description()));
  for (const auto& [words, command] : commands) {
    text += fmt::format(".SS {}\n{}\n", troff("attnscale " + words), troff(command->get_description()));
    for (const auto* option : command->get_options()) {
      if (option->get_lnames().empty() && !option->get_positional()) continue;
      const auto name = option->get_positional() ? option->get_name(true) : "--" + option->get_lnames().front();
      text += fmt::format(".TP\n.B {}\n{}\n", troff(name), troff(option->get_description()));
    }
    if (!command->get_footer().empty()) text += fmt::format(".PP\n.nf\n{}\n.fi\n", troff(command->get_footer()));
  }
  return text + fmt::format(".SH EXIT STATUS\n.nf\n{}\n.fi\n", troff(app.get_footer()));
}

ExitCode completions(const CLI::App& app, const std::string& what) {
  std::vector<Command> commands;
  collect_commands(app, "", commands);
  print(what == "bash"   ? bash_script(app, commands)
        : what == "zsh"  ? zsh_script(app, commands)
        : what == "fish" ? fish_script(commands)
                         : man_page(app, commands));
  return ExitCode::done;
}

}  // namespace

void add_completions(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("completions", "Prints completions for a shell, or the man page");
  auto what = std::make_shared<std::string>();
  command->add_option("what", *what, "bash, zsh, fish or man")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "man"}));
  command->footer("Example: source <(attnscale completions bash)\nattnscale completions man | man -l -");
  command->callback([=, &action, &app] { action = [=, &app] { return completions(app, *what); }; });
}

}  // namespace attnscale
