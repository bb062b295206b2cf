#include "model/idle_options.h"

#include <fmt/format.h>

#include "core/idle_option.h"

namespace attnscale {
namespace {

/// What `read_fields` refuses of JSON, of a struct that was filled by hand: there only what is off its default shows.
void refuse_without_effect(const Fields& fields, const void* options, const std::string& path,
                           std::vector<Problem>& problems) {
  for (const auto& field : fields)
    if (const auto value = field.get(options);
        field.in_effect && !field.in_effect(options) && value != field.default_value)
      problems.push_back(idle_option(field, path, value));
}

}  // namespace

std::vector<Problem> idle_options(const ModelOptions& options) {
  std::vector<Problem> problems;
  refuse_without_effect(ModelOptions::fields(), &options, "model", problems);
  if (options.norm == "none" && *options.final_norm)
    problems.push_back({"model.final_norm", "there is no norm to apply; set model.norm, or leave it out"});
  if (options.ffn_multiple && multiple_of(options) != *options.ffn_dim)
    problems.push_back(
        {"model.ffn_multiple",
         fmt::format("ffn_dim {} is not {} times model_dim {}; leave one of ffn_dim and ffn_multiple out",
                     *options.ffn_dim, *options.ffn_multiple, options.model_dim)});
  if (options.experts > 1 && options.experts_per_token > options.experts)
    problems.push_back({"model.experts_per_token", fmt::format("{} of {} experts; take at most as many as there are",
                                                               options.experts_per_token, options.experts)});
  if (options.mup_base_dim && options.experts > 1)
    problems.push_back({"model.mup_base_dim",
                        "a router has no maximal update parametrisation here; leave one of mup_base_dim and experts "
                        "out"});
  if (options.mup_base_dim && *options.embedding_dim != options.model_dim)
    problems.push_back({"model.mup_base_dim",
                        "a factorised embedding has no maximal update parametrisation here; leave one of "
                        "mup_base_dim and embedding_dim out"});
  if (options.position == "rotary" && (options.rotary_scaling == "none") != (options.rotary_factor == 1))
    problems.push_back(
        {"model.rotary_scaling",
         fmt::format("\"{}\" with a rotary_factor of {} would change nothing; give a scaling and a factor "
                     "above 1, or neither",
                     options.rotary_scaling, options.rotary_factor)});
  if (options.head == "encoder_decoder" && options.norm_placement == "parallel")
    problems.push_back({"model.norm_placement",
                        "parallel blocks have no place for cross-attention between their sublayers; take another"});
  if (options.head == "encoder_decoder" &&
      (options.norm_placement == "deep_norm" || options.initialisation == "deep_norm"))
    problems.push_back({options.norm_placement == "deep_norm" ? "model.norm_placement" : "model.initialisation",
                        "DeepNorm has other constants for an encoder and a decoder, which are not here; take another"});
  if ((options.head == "next_token" || options.head == "encoder_decoder") && !*options.causal)
    problems.push_back({"model.causal",
                        "false would show each position the token that it is asked for; leave it out, or take "
                        "model.head \"masked_token\" or \"classify\""});
  if (options.head == "classify" && options.pooling == "first" && *options.causal)
    problems.push_back({"model.pooling",
                        "the first position of a causal model has seen one token; take \"last\" or \"mean\", or leave "
                        "model.causal out"});
  const bool both_ways = !*options.causal || options.head == "encoder_decoder";
  if (options.position == "relative" && both_ways &&
      (options.relative_buckets < 4 || options.relative_buckets % 2 != 0))
    problems.push_back(
        {"model.relative_buckets",
         fmt::format("received {}; where positions see both ways half of them are for what lies ahead: take an "
                     "even number, at least 4",
                     options.relative_buckets)});
  const int64_t single = options.relative_buckets / (*options.causal ? 2 : 4);
  if (options.position == "relative" && options.relative_distance <= single)
    problems.push_back({"model.relative_distance",
                        fmt::format("{} is within the single distances, {} of relative_buckets {}; take a larger one",
                                    options.relative_distance, single, options.relative_buckets)});
  return problems;
}

}  // namespace attnscale
