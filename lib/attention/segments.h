#pragma once

#include <algorithm>

#include "attention/blocks.h"

// B batch, G key-value heads, S positions, n segments of L positions, W positions that a segment reaches, D width
//
// Sequences cut into segments whose first begins at position 0, for the variants whose memory moves on by a segment
// at a time. (blocks.h cuts evenly instead, where the cut is a matter of speed.)

namespace attnscale {

/// The segments of a call: all of them L long, or a single shorter one.
inline Blocks segments_of(int64_t positions, int64_t segment) {
  if (positions <= segment) return {1, positions};
  return {ceil_div(positions, segment), segment};
}

/// What each segment reaches: the `lead` positions before it and its own, zeros (false) outside the sequence.
/// [B, G, S, D] -> [B, G, n, lead + L, D]; a view of the padded sequence.
inline Tensor segment_windows(const Tensor& x, const Blocks& segments, int64_t lead) {
  return pad_positions(x, lead, segments.padded() - x.size(2))
      .unfold(2, lead + segments.length, segments.length)  // [B, G, n, D, W]
      .mT();
}

/// A mask per segment for the kernels that take segments for heads: [b, n, c, W], b = B or 1 ->
/// [B G, n, R c, W] or [1, n, R c, W]; R heads share keys.
inline Tensor mask_for_groups(const Tensor& mask, int64_t groups, int64_t shared) {
  const int64_t batch = mask.size(0), copies = batch == 1 ? 1 : groups;
  return mask.unsqueeze(1)
      .unsqueeze(3)
      .expand({-1, copies, -1, shared, -1, -1})
      .reshape({batch * copies, mask.size(1), shared * mask.size(2), mask.size(3)});
}

/// `visit(begin, count)` for each piece of `fresh` positions after `length` that lies within one segment.
template <class Visit>
void for_each_piece(int64_t length, int64_t fresh, int64_t segment, Visit visit) {
  for (int64_t begin = 0; begin < fresh;) {
    const int64_t count = std::min(fresh - begin, segment - (length + begin) % segment);
    visit(begin, count);
    begin += count;
  }
}

/// Pairs of a query and a key of its own segment that is not newer.
inline double pairs_within_segments(int64_t positions, int64_t segment) {
  const double whole = static_cast<double>(positions / segment), rest = static_cast<double>(positions % segment);
  const double length = static_cast<double>(segment);
  return (whole * length * (length + 1) + rest * (rest + 1)) / 2;
}

}  // namespace attnscale
