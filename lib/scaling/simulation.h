#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scaling/power_sum.h"
#include "scaling/table.h"

namespace attnscale {

/// A sweep to be drawn from a known law: its surface, its design and its seeds' noise.
struct SimulatedSource {
  std::string name;
  PowerSum law;                       ///< L(N, D), two terms
  std::vector<double> sizes, tokens;  ///< the grid of N and of D
  int seeds = 3;
  double noise = 0.002;              ///< standard deviation of ln L between seeds
  double misfit = 0;                 ///< standard deviation of what a whole cell misses the law by, in ln L
  double run_noise = 0;              ///< of what all token counts of one run share, where `checkpoints`, in ln L
  std::vector<int> cell_seeds = {};  ///< seeds of one cell after the other, in turn; empty: `seeds` each
  bool checkpoints = false;          ///< the token counts are checkpoints of one run per size and seed
};

/// How the truth of a simulated sweep is wrong for L(N, D) = E + A N^-alpha + B D^-beta.
enum class Bend {
  none,
  threshold,  ///< below the middle size the loss falls with half the exponent
  coupling,   ///< the two terms add in a power: (a^(1/.6) + b^(1/.6))^.6 (as Kaplan et al. 2020, eq. 1.5, couples them)
};

/// Surfaces with the entropy rates and the exponents that the sources of known truth have or show, on designs that a
/// small machine can train, from 9 cells to 30; and one in the range of large models.
std::vector<SimulatedSource> simulated_sources();

/// Points of one sweep; the same seed gives the same points on every machine up to rounding.
std::vector<Point> simulate(const SimulatedSource& source, uint64_t seed, Bend bend = Bend::none);

}  // namespace attnscale
