#include "model/idle_options.h"

#include <algorithm>

#include <fmt/format.h>

namespace attnscale {
namespace {

bool at_default(const ModelOptions& options, const std::string& name) {
  const auto& fields = ModelOptions::fields();
  const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == name; });
  return field->get(&options) == field->default_value;
}

/// An option that acts under a condition only.
struct Conditional {
  const char* name;
  bool acts;
  std::string needs;  ///< what would let it act
};

std::vector<Conditional> conditionals(const ModelOptions& options) {
  const bool takes_variance = options.norm == "layer_norm" || options.norm == "rms_norm" || options.qk_norm != "none";
  const bool rotary = options.position == "rotary";
  const bool norms = options.norm != "none";
  const bool placed = norms || options.norm_placement == "parallel" || options.norm_placement == "deep_norm";
  return {
      {"norm_placement", placed, "a norm: set model.norm"},
      {"embedding_norm", norms, "a norm: set model.norm"},
      {"norm_epsilon", takes_variance, "model.norm or model.qk_norm \"layer_norm\" or \"rms_norm\""},
      {"dynamic_tanh_alpha", options.norm == "dynamic_tanh", "model.norm \"dynamic_tanh\""},
      {"layer_scale", options.residual == "layer_scale", "model.residual \"layer_scale\""},
      {"rotary_base", rotary, "model.position \"rotary\""},
      {"rotary_share", rotary, "model.position \"rotary\""},
      {"rotary_scaling", rotary && options.rotary_factor != 1,
       "model.position \"rotary\" and a model.rotary_factor above 1"},
      {"rotary_factor", rotary && options.rotary_scaling != "none",
       "model.position \"rotary\" and a model.rotary_scaling"},
      {"rotary_trained_context", rotary && options.rotary_scaling == "yarn",
       "model.position \"rotary\" and model.rotary_scaling \"yarn\""},
      {"relative_buckets", options.position == "relative", "model.position \"relative\""},
      {"relative_distance", options.position == "relative", "model.position \"relative\""},
  };
}

}  // namespace

std::vector<Problem> idle_options(const ModelOptions& options) {
  std::vector<Problem> problems;
  for (const auto& option : conditionals(options))
    if (!option.acts && !at_default(options, option.name))
      problems.push_back({fmt::format("model.{}", option.name),
                          fmt::format("would change nothing; it needs {}, or leave it out", option.needs)});
  if (options.norm == "none" && *options.final_norm)
    problems.push_back({"model.final_norm", "there is no norm to apply; set model.norm, or leave it out"});
  if (options.ffn_multiple && multiple_of(options) != *options.ffn_dim)
    problems.push_back(
        {"model.ffn_multiple",
         fmt::format("ffn_dim {} is not {} times model_dim {}; leave one of ffn_dim and ffn_multiple out",
                     *options.ffn_dim, *options.ffn_multiple, options.model_dim)});
  if (options.mup_base_dim && *options.embedding_dim != options.model_dim)
    problems.push_back({"model.mup_base_dim",
                        "a factorised embedding has no maximal update parametrisation here; leave one of "
                        "mup_base_dim and embedding_dim out"});
  if (options.position == "relative" && options.relative_distance <= options.relative_buckets / 2)
    problems.push_back(
        {"model.relative_distance",
         fmt::format("{} is within the single distances, {} of relative_buckets {}; take a larger one",
                     options.relative_distance, options.relative_buckets / 2, options.relative_buckets)});
  return problems;
}

}  // namespace attnscale
