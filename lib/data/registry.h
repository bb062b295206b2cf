#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "data/source.h"

namespace attnscale {

/// A source of tokens as the program knows it.
struct SourceInfo {
  std::string name, summary;
  std::string source;  ///< authors, year, arXiv number, section; or "a file"
  // Filled by RegisterSource.
  Fields fields = {};
  std::vector<std::string> heads = {};  ///< values of `model.head` that it serves
  /// Tokens of a window before the first answer; of a source without answers half of them.
  std::function<int64_t(const Json&, int64_t context)> input_length = {};
  bool has_answers = false;                       ///< at places of its own, which `input_length` lies before
  std::function<Json(const Json&)> resolve = {};  ///< given options -> all options
  /// @throws DataError, IoError
  std::function<std::shared_ptr<const Source>(const Json&)> make = {};
  /// Why these options with this context cannot work (opens no file); empty when they can.
  std::function<std::vector<std::string>(const Json&, int64_t context)> refusals = {};
};

/// Every registered source, by name.
const std::vector<SourceInfo>& all_sources();

/// @throws ConfigError with the nearest known name
const SourceInfo& source_named(const std::string& name);

/// One entry of `list sources --json`: name, summary, source, heads, options.
Json describe_source(const SourceInfo& info);

void register_source(SourceInfo info);

/// Removes a scratch source again (tests).
void unregister_source(const std::string& name);

/// `const RegisterSource<ZipfMemory> register_zipf_memory{{.name = "zipf_memory", ...}};` at the end of a
/// source's file. The class has `struct Options` with `fields()`, a constructor from Options, and
/// optionally the statics `refusals(options, context)` and `input_length(options, context)`, the tokens before the
/// first answer.
template <class Class>
struct RegisterSource {
  explicit RegisterSource(SourceInfo info) {
    using Options = typename Class::Options;
    const auto typed = [](const Json& json) {
      Options options;
      std::vector<Problem> problems;
      read_options(json, "data", options, problems);
      if (!problems.empty()) throw ConfigError(problems.front().path + ": " + problems.front().message);
      return options;
    };
    info.fields = Options::fields();
    info.heads = Class::heads();
    info.has_answers = requires { Class::input_length(Options{}, int64_t{}); };
    info.input_length = [typed](const Json& json, int64_t context) -> int64_t {
      if constexpr (requires { Class::input_length(Options{}, context); })
        return Class::input_length(typed(json), context);
      return std::max<int64_t>(1, context / 2);
    };
    info.resolve = [typed](const Json& json) { return write_options(typed(json)); };
    info.make = [typed](const Json& json) -> std::shared_ptr<const Source> {
      return std::make_shared<const Class>(typed(json));
    };
    info.refusals = [typed](const Json& json, int64_t context) -> std::vector<std::string> {
      if constexpr (requires { Class::refusals(Options{}, context); }) return Class::refusals(typed(json), context);
      return {};
    };
    register_source(std::move(info));
  }
};

}  // namespace attnscale
