#include "train/decode_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "train/safetensors.h"

namespace attnscale {
namespace {

constexpr const char* schema = "attnscale.decode-state/1";

std::string tensor_name(size_t layer, const std::string& name) { return fmt::format("layers.{}.{}", layer, name); }

/// Whether a state's tensor can have grown from an empty one: same dtype and dimensions, and the sizes that positions
/// do not fill, such as heads and widths.
bool fits(const Tensor& stored, const Tensor& empty) {
  if (stored.scalar_type() != empty.scalar_type() || stored.dim() != empty.dim()) return false;
  for (int64_t i = 0; i < empty.dim(); ++i)
    if (empty.size(i) != 0 && stored.size(i) != empty.size(i)) return false;
  return true;
}

/// Bytes as `Cost::state_bytes` counts them: floating numbers as float32.
int64_t counted_bytes(const State& state) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : state.tensors)
    bytes += tensor.numel() * (tensor.is_floating_point() ? float_bytes : tensor.element_size());
  return bytes;
}

/// Bytes of one layer's state after `length` positions, by its variant's own claim, which `attnscale verify` proves.
int64_t claimed_bytes(const RunConfig& config, size_t layer, int64_t length) {
  const auto index = static_cast<int64_t>(layer);
  const auto& choice = at_layer(config.attention, index);
  const auto geometry = attention_geometry(config.model, config.data.context, index);
  return variant_named(choice.variant)
      .cost(choice.options, geometry, {.batch = 1, .queries = 1, .keys = length})
      .state_bytes;
}

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
  const int64_t context = of.config.data.context, read = result.state.length + std::ssize(result.unread);
  if (result.state.length < 1 || result.state.length > context || read > context + 1)
    refuse(
        fmt::format("has absorbed {} tokens and left {} unread, expected at least one absorbed and no more than the "
                    "context of {}",
                    result.state.length, result.unread.size(), context));
  size_t used = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].length = lengths[i + 1];
    if (layers[i].length != result.state.length)
      refuse(fmt::format("layer {} has absorbed {} tokens, the model {}", i, layers[i].length, result.state.length));
    for (auto& [name, empty] : layers[i].tensors) {
      const auto found = tensors.find(tensor_name(i, name));
      if (found == tensors.end()) refuse(fmt::format("{} is missing", tensor_name(i, name)));
      const auto& stored = found->second;
      if (!fits(stored, empty))
        refuse(fmt::format("{} is {} of shape [{}], expected {} of {} dimensions, [{}] where 0 is what grows",
                           found->first, stored.dtype().name(), fmt::join(stored.sizes(), ", "), empty.dtype().name(),
                           empty.dim(), fmt::join(empty.sizes(), ", ")));
      empty = stored;
      ++used;
    }
    const int64_t bytes = counted_bytes(layers[i]), claimed = claimed_bytes(of.config, i, layers[i].length);
    if (bytes != claimed)
      refuse(fmt::format("layer {} holds {} bytes, expected {} after {} tokens", i, bytes, claimed, layers[i].length));
  }
  if (used != tensors.size()) refuse(fmt::format("holds {} tensors, the model's state has {}", tensors.size(), used));
  return result;
}

}  // namespace attnscale
