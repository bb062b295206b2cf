#pragma once

#include "model/attention_choice.h"
#include "tensor/full_precision.h"

namespace attnscale {

/// Whose products stay float32 under mixed precision, while the others are made in 16 bits. What is no product is so
/// anyway: embeddings and the stream, norms, the softmax of logits, the choice among experts, the loss.
struct Float32Parts {
  bool projections = false;   ///< attention's queries, keys, values, gates and outputs
  bool attention = false;     ///< what the variant does with them; of one that owns its projections, everything
  bool feed_forward = false;  ///< with experts, their router's too
  bool head = false;          ///< with the maps of a factorised embedding, and those of head reconstruct
};

/// work(x): where `float32` says so on x in float32 and out of mixed precision's reach, otherwise as things stand. What
/// is float64 stays so.
template <class Work>
auto in_float32(bool float32, const Tensor& x, const Work& work) {
  if (!float32 || x.scalar_type() == at::kDouble) return work(x);
  const FullPrecision products_stay_float32;
  return work(x.to(at::kFloat));
}

/// The same inputs in float32. @param in  without `hidden`, or with nothing else
Inputs in_float32(Inputs in);

/// Whether `attention` may change what a layer's variant gives to the projection behind it. Not every one's: linear
/// forms and others that sum in float32 anyway give the same once their output is rounded to 16 bits. Goes by what
/// variants declare (`VariantInfo::float32_sums`), not by this machine: where only kernels multiply in 16 bits, the
/// answer is yes also on a processor or device without them, as a run is the same run everywhere.
/// @param attention  that `options`, resolved, can be built with @param products  bfloat16 or float16
bool attention_heeds_float32(const ModelOptions& options, const AttentionChoice& attention, int64_t context,
                             at::ScalarType products);

}  // namespace attnscale
