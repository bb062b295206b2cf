#include "train/decode_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "train/safetensors.h"

namespace attnscale {
namespace {

constexpr const char* schema = "attnscale.state/1";

std::string tensor_name(size_t layer, const std::string& name) { return fmt::format("layers.{}.{}", layer, name); }

/// Numbers in the header's text. @throws DataError
std::vector<int64_t> numbers(const std::filesystem::path& file, const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  const auto list = found == metadata.end() ? Json() : Json::parse(found->second, nullptr, false);
  std::vector<int64_t> result;
  for (const auto& number : list)
    if (number.is_number_integer() && number.get<int64_t>() >= 0) result.push_back(number.get<int64_t>());
  if (!list.is_array() || result.size() != list.size())
    throw DataError(
        fmt::format("{}: __metadata__.{}: expected a list of whole numbers from 0; it was not written by "
                    "`attnscale generate --save-state`",
                    file.string(), key));
  return result;
}

}  // namespace

void write_continuation(const std::filesystem::path& file, const Continuation& continuation, const TrainedModel& of) {
  TensorMap tensors;
  std::vector<int64_t> lengths = {continuation.state.length};
  for (size_t i = 0; i < continuation.state.layers.size(); ++i) {
    const auto& layer = continuation.state.layers[i];
    lengths.push_back(layer.length);
    for (const auto& [name, tensor] : layer.tensors) tensors[tensor_name(i, name)] = tensor;
  }
  write_safetensors(file, tensors,
                    {{"schema", schema},
                     {"run", of.config.id()},
                     {"step", std::to_string(of.step)},
                     {"lengths", Json(lengths).dump()},
                     {"unread", Json(continuation.unread).dump()}});
}

Continuation read_continuation(const std::filesystem::path& file, const TrainedModel& of) {
  Metadata metadata;
  auto tensors = read_safetensors(file, &metadata);
  const auto refuse = [&](const std::string& why) { throw DataError(fmt::format("{}: {}", file.string(), why)); };
  const auto expect = [&](const char* key, const std::string& value) {
    if (metadata[key] != value)
      refuse(fmt::format("{} is \"{}\", expected \"{}\"; a state goes on only with the weights that made it", key,
                         metadata[key], value));
  };
  expect("schema", schema);
  expect("run", of.config.id());
  expect("step", std::to_string(of.step));

  Continuation result{of.model->new_state(1), numbers(file, metadata, "unread")};
  const auto lengths = numbers(file, metadata, "lengths");
  auto& layers = result.state.layers;
  if (lengths.size() != layers.size() + 1)
    refuse(fmt::format("holds {} layers, expected {}", std::ssize(lengths) - 1, layers.size()));
  for (const auto token : result.unread)
    if (token >= of.source->vocab_size())
      refuse(fmt::format("unread token {}, expected one below {}", token, of.source->vocab_size()));
  result.state.length = lengths[0];
  size_t used = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].length = lengths[i + 1];
    for (auto& [name, empty] : layers[i].tensors) {
      const auto found = tensors.find(tensor_name(i, name));
      if (found == tensors.end()) refuse(fmt::format("{} is missing", tensor_name(i, name)));
      const auto& stored = found->second;
      if (stored.scalar_type() != empty.scalar_type() || stored.dim() != empty.dim() || stored.size(0) != 1)
        refuse(fmt::format("{} is {} of shape [{}], expected {} of {} dimensions for one sequence", found->first,
                           stored.dtype().name(), fmt::join(stored.sizes(), ", "), empty.dtype().name(), empty.dim()));
      empty = stored;
      ++used;
    }
  }
  if (used != tensors.size()) refuse(fmt::format("holds {} tensors, the model's state has {}", tensors.size(), used));
  return result;
}

}  // namespace attnscale
