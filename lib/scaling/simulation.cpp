#include "scaling/simulation.h"

#include <cmath>
#include <random>

#include <fmt/format.h>

namespace attnscale {
namespace {

/// Normal deviates by Box and Muller 1958: those of the standard library differ between implementations.
class Normal {
 public:
  explicit Normal(uint64_t seed) : random_(seed) {}
  double operator()() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * 3.141592653589793 * uniform());
  }

 private:
  /// In (0, 1].
  double uniform() { return (static_cast<double>(random_() >> 11) + 1) * 0x1p-53; }
  std::mt19937_64 random_;
};

std::vector<double> geometric(double first, double ratio, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(first * std::pow(ratio, i));
  return values;
}

/// A surface by what it loses above E at the smallest size and at the shortest training.
PowerSum surface(double E, double excess_N, double alpha, double first_N, double excess_D, double beta,
                 double first_D) {
  return {.log_floor = std::log(E),
          .terms = {{std::log(excess_N) + alpha * std::log(first_N), alpha},
                    {std::log(excess_D) + beta * std::log(first_D), beta}}};
}

double bent_loss(const SimulatedSource& source, double N, double D, Bend bend) {
  const auto term = [&](int k, double x) {
    return std::exp(source.law.terms[k].log_coefficient - source.law.terms[k].exponent * std::log(x));
  };
  const double E = std::exp(source.law.log_floor);
  double of_N = term(0, N);
  const double of_D = term(1, D);
  if (bend == Bend::coupling) return E + std::pow(std::pow(of_N, 1 / 0.6) + std::pow(of_D, 1 / 0.6), 0.6);
  if (bend == Bend::threshold) {
    const double middle = source.sizes[source.sizes.size() / 2];
    if (N < middle) of_N = term(0, middle) * std::pow(middle / N, source.law.terms[0].exponent / 2);
  }
  return E + of_N + of_D;
}

}  // namespace

std::vector<SimulatedSource> simulated_sources() {
  std::vector<SimulatedSource> sources;
  // Zipf memory, a = .5: exponents a / (1 + a) in data and a in capacity.
  sources.push_back({.name = "zipf_memory",
                     .law = surface(1.728, 0.6, 0.5, 1e3, 0.6, 1.0 / 3, 1e5),
                     .sizes = geometric(1e3, 3, 6),
                     .tokens = geometric(1e5, 4, 5),
                     .seeds = 3,
                     .noise = 0.002});
  sources.push_back({.name = "mess3",
                     .law = surface(0.793458, 0.05, 0.6, 1e3, 0.08, 0.8, 1e5),
                     .sizes = geometric(1e3, 4, 5),
                     .tokens = geometric(1e5, 4, 4),
                     .seeds = 3,
                     .noise = 0.001});
  sources.push_back({.name = "in_context_dirichlet",
                     .law = surface(0.913124, 0.35, 0.4, 2e3, 0.3, 0.5, 2e5),
                     .sizes = geometric(2e3, 4, 5),
                     .tokens = geometric(2e5, 4, 5),
                     .seeds = 2,
                     .noise = 0.003});
  sources.push_back({.name = "random_hierarchy",
                     .law = surface(1.1, 0.7, 0.7, 1e3, 1.0, 0.6, 1e5),
                     .sizes = geometric(1e3, 4, 4),
                     .tokens = geometric(1e5, 4, 3),
                     .seeds = 3,
                     .noise = 0.004});
  // Every cell has a misfit of its own, larger than its seeds scatter: laws are never exact.
  sources.push_back({.name = "graph_walk",
                     .law = surface(2.39, 1.2, 0.8, 1e3, 0.8, 0.5, 1e5),
                     .sizes = geometric(1e3, 3, 5),
                     .tokens = geometric(1e5, 3, 5),
                     .seeds = 2,
                     .noise = 0.002,
                     .misfit = 0.003});
  sources.push_back({.name = "chinchilla",
                     .law = {.log_floor = std::log(1.69), .terms = {{std::log(406.4), 0.34}, {std::log(410.7), 0.28}}},
                     .sizes = geometric(5e7, 3, 6),
                     .tokens = geometric(1e9, 4, 6),
                     .seeds = 2,
                     .noise = 0.002});
  // Cells with one, two or four seeds, which miss the law by as much as seeds scatter: what a resumed sweep looks like.
  sources.push_back({.name = "unequal_seeds",
                     .law = surface(1.728, 0.6, 0.5, 1e3, 0.6, 1.0 / 3, 1e5),
                     .sizes = geometric(1e3, 3, 5),
                     .tokens = geometric(1e5, 4, 5),
                     .seeds = 4,
                     .noise = 0.002,
                     .misfit = 0.002,
                     .cell_seeds = {1, 4, 2, 1, 2, 4, 1}});
  // Losses along 24 trainings: what a run is off by, all its checkpoints share.
  sources.push_back({.name = "checkpoints",
                     .law = {.log_floor = std::log(1.69), .terms = {{std::log(406.4), 0.34}, {std::log(410.7), 0.28}}},
                     .sizes = geometric(5e7, 2, 12),
                     .tokens = geometric(1e9, 3, 6),
                     .seeds = 2,
                     .noise = 0.001,
                     .run_noise = 0.003,
                     .checkpoints = true});
  return sources;
}

std::vector<Point> simulate(const SimulatedSource& source, uint64_t seed, Bend bend) {
  Normal normal(seed);
  std::vector<Point> points;
  std::vector<double> of_cell(source.sizes.size() * source.tokens.size(), 0.0);
  for (double& value : of_cell) value = source.misfit * normal();
  for (size_t i = 0; i < source.sizes.size(); ++i)
    for (int s = 0; s < source.seeds; ++s) {
      const double of_run = source.checkpoints ? source.run_noise * normal() : 0;
      for (size_t j = 0; j < source.tokens.size(); ++j) {
        const size_t cell = i * source.tokens.size() + j;
        // A seed that a cell lacks is drawn all the same, so that cells do not depend on each other's number.
        const double deviation = source.noise * normal();
        if (!source.cell_seeds.empty() && s >= source.cell_seeds[cell % source.cell_seeds.size()]) continue;
        Point point;
        point.N = source.sizes[i];
        point.D = source.tokens[j];
        point.seed = s;
        point.run = source.checkpoints ? fmt::format("{}/{}", i, s) : fmt::format("{}/{}/{}", i, j, s);
        if (source.checkpoints) point.cell = "run " + point.run;
        point.L = bent_loss(source, point.N, point.D, bend) * std::exp(of_run + of_cell[cell] + deviation);
        points.push_back(std::move(point));
      }
    }
  return points;
}

}  // namespace attnscale
