#pragma once

#include "train/options.h"

namespace attnscale {

/// Learning rate of update `step`, s from 1 to S = `steps`: a warm-up of W = `warmup_steps` to the full rate r, then
/// what `schedule` says. With p = (s - W) / (S - W) and f = `final_learning_rate`, so that update W has the full rate
/// and update S the last one, for s > W:
///   constant      r
///   linear        r (f + (1 - f)(1 - p))
///   cosine        r (f + (1 - f)(1 + cos(pi p)) / 2)      Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5
///   inverse_sqrt  r sqrt(max(W, 1) / s)                   Vaswani et al. 2017, arXiv:1706.03762, section 5.3
///   wsd           r, and over the last D = `decay_steps` r (f + (1 - f)(S - s) / D)
///                                                         Hu et al. 2024, arXiv:2404.06395, section 4; the decay in a
///                                                         line is that of Haegele et al. 2024, arXiv:2405.18392
///   step          r `decay_factor`^floor((s - W - 1) / `decay_every`)
///   one_cycle     as cosine                               Smith and Topin 2017, arXiv:1708.07120; its warm-up too is
///                                                         half a cosine, from `initial_learning_rate` at s = 1, as in
///                                                         PyTorch, and momentum is left alone
///   schedule_free r                                       Defazio et al. 2024, arXiv:2405.15682: see ScheduleFree
/// The warm-up of the others is a line: r s / W. A pure function of the step: a resumed run needs no saved schedule.
/// @param options  resolved
double learning_rate_at(int64_t step, const TrainOptions& options);

}  // namespace attnscale
