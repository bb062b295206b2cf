#include "model/initialisation.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>

#include "core/hash.h"

// M model width, H heads, G key-value heads, D head width, F ffn_dim

namespace attnscale {
namespace {

/// Standard deviation of GPT-2's matrices.
constexpr double gpt2_std = 0.02;

/// The rows of each matrix that a parameter stacks.
std::vector<int64_t> stacked_rows(const std::string& name, const ModelOptions& options, int64_t rows) {
  if (name.ends_with(".qkv.weight")) {
    const int64_t D = options.model_dim / options.num_heads, G = options.num_kv_heads.value();
    return {options.num_heads * D, G * D, G * D};
  }
  if (name.ends_with(".gate_up.weight")) return {rows / 2, rows / 2};
  return {rows};
}

/// A matrix [out, in] whose rows or columns, whichever are fewer, have unit length and right angles; uniform among
/// those.
torch::Tensor orthogonal(int64_t out, int64_t in, const at::Generator& generator) {
  const auto normal = torch::empty({std::max(out, in), std::min(out, in)}, torch::kFloat64).normal_(0, 1, generator);
  const auto [q, r] = at::linalg_qr(normal);
  const auto columns = q * at::diagonal(r).sign();  // the sign that makes the factor unique
  return out < in ? columns.t() : columns;
}

/// One matrix [out, in] of a block. @param gain  of deep_norm
void draw(torch::Tensor matrix, const std::string& scheme, double gain, const at::Generator& generator) {
  const double out = static_cast<double>(matrix.size(0)), in = static_cast<double>(matrix.size(1));
  if (scheme == "orthogonal") matrix.copy_(orthogonal(matrix.size(0), matrix.size(1), generator));
  else if (scheme == "kaiming") matrix.normal_(0, std::sqrt(2 / in), generator);
  else if (scheme == "deep_norm") matrix.normal_(0, gain * std::sqrt(2 / (in + out)), generator);
  else {
    const double bound = std::sqrt(6 / (in + out));
    matrix.uniform_(-bound, bound, generator);
  }
}

/// What a vector starts at.
double first_value(const std::string& name, const ModelOptions& options) {
  if (name.ends_with(".bias")) return 0;
  if (name.ends_with(".alpha")) return options.dynamic_tanh_alpha;
  if (name.find(".residual") != std::string::npos) return options.residual == "rezero" ? 0 : options.layer_scale;
  return 1;  // a norm's weight
}

void initialise_matrix(const std::string& name, torch::Tensor& parameter, const ModelOptions& options,
                       uint64_t init_seed) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(stream_seed(init_seed, name));
  const auto normal = [&](double std) { parameter.normal_(0, std, generator); };
  const double m = width_multiple(options);
  const double depth =
      static_cast<double>(name.starts_with("encoder.") ? options.encoder_depth.value() : options.depth);
  const auto& scheme = options.initialisation.value();
  if (name == "embedding.token" || name == "embedding.position" || name.ends_with("position_bias.weight") ||
      name == "head.weight")
    return normal(options.embedding_std);
  if (name == "embedding.up.weight" || name == "head_down.weight")
    return normal(1 / std::sqrt(static_cast<double>(parameter.size(1))));
  if (scheme == "small") return normal(m * std::sqrt(2 / (5 * static_cast<double>(options.model_dim))));
  const bool into_stream =
      name.ends_with("mixer.output.weight") || name.ends_with("cross.output.weight") || name.ends_with(".down.weight");
  if (scheme == "gpt2") return normal(gpt2_std * std::sqrt(m) * (into_stream ? 1 / std::sqrt(2.0 * depth) : 1));

  const auto rows = stacked_rows(name, options, parameter.size(0));
  const bool feed_forward = name.find(".feed_forward.") != std::string::npos;
  for (size_t i = 0, first = 0; i < rows.size(); first += static_cast<size_t>(rows[i++])) {
    const bool value = rows.size() == 3 && i == 2;
    const double gain = into_stream || feed_forward || value ? std::pow(8 * depth, -0.25) : 1;
    draw(parameter.narrow(0, static_cast<int64_t>(first), rows[i]), scheme, gain, generator);
  }
  if (m != 1) parameter.mul_(m);
}

}  // namespace

void initialise(torch::nn::Module& model, const ModelOptions& options, uint64_t init_seed) {
  const torch::NoGradGuard no_gradients;
  for (auto& item : model.named_parameters()) {
    if (item.key().find(".mixer.attention.") != std::string::npos ||
        item.key().find(".cross.attention.") != std::string::npos)
      continue;
    if (item.value().dim() == 1) item.value().fill_(first_value(item.key(), options));
    else initialise_matrix(item.key(), item.value(), options, init_seed);
  }
}

DefaultSeed::DefaultSeed(uint64_t seed) {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard guard(generator.mutex());
  before_ = generator.get_state();
  generator.set_current_seed(seed);
}

DefaultSeed::~DefaultSeed() {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard guard(generator.mutex());
  generator.set_state(before_);
}

}  // namespace attnscale
