// What several commands share: spec arguments and standard output.

#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "commands.h"

namespace attnscale {

void SpecArguments::add_to(CLI::App& command) {
  command.add_option("spec", spec, "spec file (JSON)")->required();
  command.add_option("--set", set, "path=value, overrides the spec; repeatable (model.depth=4)")
      ->type_name("PATH=VALUE")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void print(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) std::exit(static_cast<int>(ExitCode::done));
    if (written < 0) throw IoError(std::string("standard output: ") + std::strerror(errno));
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

void print_json(const Json& document) { print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); }

}  // namespace attnscale
