#include "train/checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/lease.h"
#include "train/manifest.h"
#include "train/safetensors.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// A new file in a folder that nobody reads yet; the folder's rename makes it visible.
void write_synced(const fs::path& file, std::string_view content) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  bool good = descriptor >= 0;
  while (good && !content.empty()) {
    const ssize_t written = ::write(descriptor, content.data(), content.size());
    if (written > 0) content.remove_prefix(static_cast<size_t>(written));
    good = written >= 0 || errno == EINTR;
  }
  good = good && ::fsync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!good) throw IoError(fmt::format("{}: cannot write: {}", file.string(), std::strerror(reason)));
}

/// Steps that have a folder here, newest first; `step-12` only, no leftovers of an unfinished write.
std::vector<int64_t> steps_in(const fs::path& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();
    int64_t step = 0;
    if (!name.starts_with("step-")) continue;
    const auto [end, problem] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (problem == std::errc() && end == name.data() + name.size()) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

fs::path folder_of_step(const fs::path& folder, int64_t step) { return folder / fmt::format("step-{}", step); }

/// @throws DataError, ConfigError (JSON), IoError
Json verified_manifest(const fs::path& folder) {
  const auto file = folder / "manifest.json";
  const Json manifest = parse_manifest(read_bounded(file, int64_t{1} << 30), file.string());
  for (const auto& [name, entry] : manifest.at("files").items()) {
    const auto expected = entry.at("sha256").get<std::string>(), found = sha256_of_file(folder / name);
    if (found != expected)
      throw DataError(fmt::format("{}: SHA-256 {}..., expected {}...; the file is damaged", (folder / name).string(),
                                  found.substr(0, 12), expected.substr(0, 12)));
  }
  return manifest;
}

Checkpoint load(const fs::path& folder) {
  const auto manifest = verified_manifest(folder);
  return {.step = manifest.at("step").get<int64_t>(),
          .log_lines = manifest.at("log_lines").get<int64_t>(),
          .config_id = manifest.at("config").get<std::string>(),
          .model = read_safetensors(folder / "model.safetensors"),
          .optimizer = read_safetensors(folder / "optimizer.safetensors"),
          .average = manifest.at("files").contains("average.safetensors")
                         ? read_safetensors(folder / "average.safetensors")
                         : TensorMap(),
          .state = read_json(folder / "state.json").value};
}

void remove_all_but(const fs::path& folder, int64_t step, std::optional<int64_t> previous, const fs::path& stage) {
  for (const int64_t other : steps_in(folder))
    if (other != step && other != previous) remove_through(stage, folder_of_step(folder, other));
}

void remove_leftovers(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("unfinished-")) leftovers.push_back(entry.path());
  for (const auto& path : leftovers) remove_through({}, path);
}

std::string describe(const Tensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", "));
}

}  // namespace

void write_checkpoint(const fs::path& folder, const Checkpoint& checkpoint, std::optional<int64_t> previous,
                      const fs::path& stage) {
  check_stage(stage);
  make_folder(folder);
  remove_leftovers(folder);
  const auto making = stage.empty() ? folder : stage;
  if (!stage.empty()) remove_leftovers(stage);
  const auto unfinished = making / fmt::format("unfinished-{}", checkpoint.step);
  // Not with its parents: a stage that is gone must stay gone.
  if (std::error_code error; !fs::create_directory(unfinished, error))
    throw IoError(fmt::format("{}: cannot create the folder: {}", unfinished.string(), error.message()));
  Json files = Json::object();
  const auto write = [&](const std::string& name, const std::string& bytes) {
    write_synced(unfinished / name, bytes);
    files[name] = {{"bytes", bytes.size()}, {"sha256", sha256(bytes)}};
  };
  const Metadata step = {{"step", std::to_string(checkpoint.step)}};
  write("model.safetensors", safetensors_bytes(checkpoint.model, step));
  write("optimizer.safetensors", safetensors_bytes(checkpoint.optimizer, step));
  if (!checkpoint.average.empty()) write("average.safetensors", safetensors_bytes(checkpoint.average, step));
  write("state.json", checkpoint.state.dump(2) + "\n");
  const auto manifest = sealed_manifest({{"schema", manifest_schema},
                                         {"step", checkpoint.step},
                                         {"config", checkpoint.config_id},
                                         {"log_lines", checkpoint.log_lines},
                                         {"files", files}});
  write_synced(unfinished / "manifest.json", manifest.dump(2) + "\n");
  sync_folder(unfinished);

  const auto place = folder_of_step(folder, checkpoint.step);
  // A folder of this step can only be one that was found bad: a good one would have been resumed from.
  if (fs::exists(place)) remove_through(stage, place);
  publish(stage, unfinished, place);
  verified_manifest(place);
  remove_all_but(folder, checkpoint.step, previous, stage);
}

std::optional<Checkpoint> read_checkpoint(const fs::path& folder, int64_t log_lines, const std::string& repair) {
  std::vector<std::string> reasons;
  for (const int64_t step : steps_in(folder)) {
    const auto place = folder_of_step(folder, step);
    try {
      auto checkpoint = load(place);
      if (checkpoint.step != step) throw DataError(fmt::format("{}: holds step {}", place.string(), checkpoint.step));
      if (checkpoint.log_lines > log_lines)
        throw DataError(fmt::format("{}: knows {} lines of log.jsonl, which holds {}; the log was cut afterwards",
                                    place.string(), checkpoint.log_lines, log_lines));
      checkpoint.passed_over = std::move(reasons);
      return checkpoint;
    } catch (const Error& error) {
      reasons.emplace_back(error.what());
    } catch (const Json::exception& error) {
      reasons.push_back(fmt::format("{}: {}", place.string(), error.what()));
    }
  }
  if (reasons.empty()) return std::nullopt;
  throw DataError(
      fmt::format("{}: no checkpoint can be used; {}\n  {}", folder.string(), repair, fmt::join(reasons, "\n  ")));
}

Json check_checkpoint(const fs::path& folder) { return verified_manifest(folder); }

void keep_only_checkpoint(const fs::path& folder, int64_t step, const fs::path& stage) {
  remove_all_but(folder, step, std::nullopt, stage);
}

TensorMap tensors_of(const torch::nn::Module& model) {
  TensorMap result;
  for (const auto& item : model.named_parameters()) result[item.key()] = item.value();
  for (const auto& item : model.named_buffers()) result[item.key()] = item.value();
  return result;
}

void check_same_tensors(const std::string& where, const TensorMap& stored, const TensorMap& expected) {
  std::vector<std::string> differences;
  for (const auto& [name, tensor] : expected) {
    const auto found = stored.find(name);
    if (found == stored.end()) differences.push_back(fmt::format("{}: missing, expected {}", name, describe(tensor)));
    else if (describe(found->second) != describe(tensor))
      differences.push_back(fmt::format("{}: {}, expected {}", name, describe(found->second), describe(tensor)));
  }
  for (const auto& [name, tensor] : stored)
    if (!expected.contains(name))
      differences.push_back(fmt::format("{}: {}, not in this model", name, describe(tensor)));
  if (differences.empty()) return;
  throw DataError(
      fmt::format("{}: is of another model; nothing was loaded\n  {}", where, fmt::join(differences, "\n  ")));
}

void copy_tensors(const TensorMap& from, const TensorMap& into) {
  const torch::NoGradGuard no_gradients;
  for (auto [name, tensor] : into) tensor.copy_(from.at(name));
}

}  // namespace attnscale
