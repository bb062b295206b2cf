#pragma once

#include <string>
#include <vector>

#include "attention/attention.h"
#include "model/options.h"

namespace attnscale {

/// Reads `{variant, and the variant's own options beside it}`. Every problem (unknown variant, unknown key, value out
/// of range) is collected with its path, `attention.window`.
/// @return the variant's name and all its options, defaults written out; without problems it can be built
AttentionChoice read_attention(const Json& section, std::vector<Problem>& problems);

/// The inverse of `read_attention`, without `layers`.
Json write_attention(const AttentionChoice& choice);

/// Reads a hybrid, `model.layers`: a list of variants by layer, repeated as often as the depth needs. An entry is a
/// name or `{variant, options}`; a name that is the attention section's gets that section's options, others their
/// defaults.
/// @param attention  from `read_attention`; must be one of the entries if `attention_given`, and is the first otherwise
void read_layers(const Json& list, bool attention_given, AttentionChoice& attention, std::vector<Problem>& problems);

/// The inverse of `read_layers`: a list of `{variant, options}`.
Json write_layers(const AttentionChoice& attention);

/// What stands at a layer.
const AttentionChoice& at_layer(const AttentionChoice& attention, int64_t layer);

/// The name that reports use: the variant's, or `sliding_window*3+softmax` for a hybrid.
std::string label_of(const AttentionChoice& attention);

/// Which attention of a layer: that of the stack that makes the logits, or with head encoder_decoder that of the
/// encoder or the one from the decoder to it.
enum class StackPlace { main, encoder, cross };

/// The place of layer `layer`'s attention. @param options  resolved, num_heads divides model_dim
/// @param context  of the window; the encoder's positions are the first of it, the decoder's the last
Geometry attention_geometry(const ModelOptions& options, int64_t context, int64_t layer,
                            StackPlace place = StackPlace::main);

/// Positions of a window that ask, and those that they look at.
Sizes attention_sizes(const ModelOptions& options, int64_t context, int64_t batch, StackPlace place = StackPlace::main);

/// How many numbers of each of a head's parts rotary positions turn. @param parts  VariantInfo::rotary_parts
int64_t rotary_width(const ModelOptions& options, int64_t parts);

/// Why no such model can be built, each with numbers and what would work; empty when it can be.
/// Paths are those of a run's configuration: `model.num_heads`, `attention.variant`, `data.context`.
/// @param options  resolved, within its fields' bounds @param attention  as from `read_attention`
std::vector<Problem> model_problems(const ModelOptions& options, const AttentionChoice& attention, int64_t context);

}  // namespace attnscale
