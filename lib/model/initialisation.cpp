#include "model/initialisation.h"

#include <cmath>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>

#include "core/hash.h"

namespace attnscale {
namespace {

void initialise_parameter(const std::string& name, torch::Tensor& parameter, int64_t depth, uint64_t init_seed) {
  if (name.ends_with(".bias")) {
    parameter.zero_();
    return;
  }
  if (parameter.dim() == 1) {  // a norm's weight
    parameter.fill_(1);
    return;
  }
  const bool into_residual = name.ends_with("mixer.output.weight") || name.ends_with("feed_forward.down.weight");
  const double scale = into_residual ? 1 / std::sqrt(2.0 * static_cast<double>(depth)) : 1;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(stream_seed(init_seed, name));
  parameter.normal_(0, initial_std * scale, generator);
}

}  // namespace

void initialise(torch::nn::Module& model, int64_t depth, uint64_t init_seed) {
  const torch::NoGradGuard no_gradients;
  for (auto& item : model.named_parameters())
    if (item.key().find(".mixer.attention.") == std::string::npos)
      initialise_parameter(item.key(), item.value(), depth, init_seed);
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
