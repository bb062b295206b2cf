// A walk on a graph: who may follow whom is a fixed table, which a model must hold before it can do better than
// counting. One token tells all that can be known of the next, so that the floor is reached without any memory.

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "core/hash.h"
#include "data/generated_source.h"
#include "data/registry.h"

namespace attnscale {
namespace {

/// Windows of a walk that goes from each node to a uniformly drawn neighbour, on one graph drawn uniformly from all
/// simple graphs with this many nodes and edges. The graph belongs to the source (`graph_seed`): runs that differ in
/// their seed learn the same one.
///
/// Windows start from the walk's stationary distribution, p(i) = deg(i) / 2M for M edges, whether or not the graph is
/// connected. A walk has no memory beyond its node, so that each target costs the ideal predictor
///   H = sum over i of (deg(i) / 2M) ln deg(i)
/// in windows of any length. Nodes without an edge are tokens that never occur.
///
/// Source: Erdos and Renyi 1959, Publicationes Mathematicae 6, 290 (the graph G(n, M)); Cover and Thomas 2006,
/// Elements of Information Theory, section 4.3 (stationary distribution and entropy rate of a walk).
class GraphWalk final : public GeneratedSource {
 public:
  struct Options {
    int64_t num_nodes = 256;
    double mean_degree = 10;
    int64_t graph_seed = 0;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::num_nodes, "num_nodes", "nodes, which are the tokens").between(2, 4096),
          field(&Options::mean_degree, "mean_degree", "neighbours of a node on average; edges are half of it, rounded")
              .between(0.1, 4095),
          field(&Options::graph_seed, "graph_seed", "draws the graph; not the run's seed").at_least(0),
      };
      return list;
    }
  };

  static std::vector<std::string> refusals(const Options& options, int64_t) {
    if (options.mean_degree > static_cast<double>(options.num_nodes - 1))
      return {fmt::format("mean_degree {}: {} nodes have at most {} neighbours each", options.mean_degree,
                          options.num_nodes, options.num_nodes - 1)};
    if (num_edges(options) < 1)
      return {fmt::format("mean_degree {}: {} nodes get no edge; at least {} is needed", options.mean_degree,
                          options.num_nodes, 2.0 / static_cast<double>(options.num_nodes))};
    return {};
  }

  explicit GraphWalk(const Options& options) : neighbours_(options.num_nodes) {
    if (const auto reasons = refusals(options, 1); !reasons.empty()) throw ConfigError("data." + reasons.front());
    Random random(stream_seed(static_cast<uint64_t>(options.graph_seed), "data/graph_walk/graph"));
    for (const int64_t pair :
         drawn_subset(random, options.num_nodes * (options.num_nodes - 1) / 2, num_edges(options))) {
      // Pair number b (b - 1) / 2 + a is {a, b}, a < b.
      auto b = static_cast<int64_t>((1 + std::sqrt(1 + 8 * static_cast<double>(pair))) / 2);
      while (b * (b - 1) / 2 > pair) --b;
      while (b * (b + 1) / 2 <= pair) ++b;
      const int64_t a = pair - b * (b - 1) / 2;
      neighbours_[a].push_back(b);
      neighbours_[b].push_back(a);
    }
    for (auto& list : neighbours_) {
      std::sort(list.begin(), list.end());
      ends_.insert(ends_.end(), list.size(), &list - neighbours_.data());
    }
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(neighbours_.size()); }

 protected:
  Truth find_truth(int64_t) const override {
    double sum = 0;
    for (const auto& list : neighbours_)
      if (!list.empty()) sum += static_cast<double>(list.size()) * std::log(static_cast<double>(list.size()));
    const double rate = sum / static_cast<double>(ends_.size());
    return Truth{.entropy_rate = rate,
                 .bayes_loss = rate,
                 .derivation = fmt::format("sum of (degree / {}) ln degree over {} nodes with {} edges, the same at "
                                           "every target, since windows start from the stationary distribution",
                                           ends_.size(), neighbours_.size(), ends_.size() / 2)};
  }

  void draw_window(Random& random, int64_t* tokens, int64_t length) const override {
    // A uniform end of a uniform edge is a node with probability proportional to its degree.
    tokens[0] = ends_[random.below(ends_.size())];
    for (int64_t at = 1; at < length; ++at) {
      const auto& near = neighbours_[tokens[at - 1]];
      tokens[at] = near[random.below(near.size())];
    }
  }

  void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const override {
    for (int64_t at = 1; at < length; ++at) {
      const auto& near = neighbours_[tokens[at - 1]];
      const bool linked = std::binary_search(near.begin(), near.end(), tokens[at]);
      log_probabilities[at - 1] = linked ? -std::log(static_cast<double>(near.size())) : -INFINITY;
    }
  }

 private:
  static int64_t num_edges(const Options& options) {
    return std::llround(static_cast<double>(options.num_nodes) * options.mean_degree / 2);
  }

  /// A uniformly drawn subset of 0 .. total - 1. Source: Bentley and Floyd 1987, Communications of the ACM 30(9), 754.
  static std::set<int64_t> drawn_subset(Random& random, int64_t total, int64_t count) {
    std::set<int64_t> drawn;
    for (int64_t last = total - count; last < total; ++last) {
      const auto candidate = static_cast<int64_t>(random.below(static_cast<uint64_t>(last + 1)));
      if (!drawn.insert(candidate).second) drawn.insert(last);
    }
    return drawn;
  }

  std::vector<std::vector<int64_t>> neighbours_;  ///< of each node, ascending
  std::vector<int64_t> ends_;                     ///< both ends of every edge, [2M]
};

const RegisterSource<GraphWalk> register_graph_walk{
    {.name = "graph_walk",
     .summary = "a walk on a fixed random graph: which nodes are neighbours must be held by the weights",
     .source = "Erdos and Renyi 1959; Cover and Thomas 2006, section 4.3"}};

}  // namespace
}  // namespace attnscale
