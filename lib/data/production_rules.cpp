#include "data/production_rules.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace attnscale {
namespace {

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) result *= base;
  return result;
}

/// Number of a right side, its first symbol counting most.
int64_t side_index(const int64_t* symbols, int64_t branching, int64_t num_symbols) {
  int64_t index = 0;
  for (int64_t i = 0; i < branching; ++i) index = index * num_symbols + symbols[i];
  return index;
}

}  // namespace

ProductionRules::ProductionRules(const Sizes& sizes, Random random) : sizes_(sizes) {
  const int64_t all = power(sizes.num_symbols, sizes.branching), used = sizes.num_symbols * sizes.num_rules;
  for (int64_t level = 1; level <= sizes.levels; ++level) {
    std::vector<int64_t> order(all), sides, parents(all, -1);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = 0; i < used; ++i) {  // Fisher and Yates, as far as needed
      std::swap(order[i], order[i + static_cast<int64_t>(random.below(static_cast<uint64_t>(all - i)))]);
      parents[order[i]] = i / sizes.num_rules;
      for (int64_t place = sizes.branching - 1, rest = order[i]; place >= 0; --place)
        sides.push_back(rest / power(sizes.num_symbols, place) % sizes.num_symbols);
    }
    right_sides_.push_back(std::move(sides));
    parents_.push_back(std::move(parents));
  }
}

int64_t ProductionRules::sequence_length() const { return power(sizes_.branching, sizes_.levels); }

int64_t ProductionRules::parent(int64_t level, const int64_t* children) const {
  return parents_[level - 1][side_index(children, sizes_.branching, sizes_.num_symbols)];
}

double ProductionRules::next_child(int64_t level, const SymbolBelief& node, const int64_t* children, int64_t seen,
                                   SymbolBelief& child) const {
  child.assign(sizes_.num_symbols, 0.0);
  double total = 0;
  for (int64_t symbol = 0; symbol < sizes_.num_symbols; ++symbol) {
    if (node[symbol] <= 0) continue;
    for (int64_t rule = 0; rule < sizes_.num_rules; ++rule) {
      const int64_t* side = right_side(level, symbol, rule);
      if (!std::equal(children, children + seen, side)) continue;
      child[side[seen]] += node[symbol] / static_cast<double>(sizes_.num_rules);
      total += node[symbol] / static_cast<double>(sizes_.num_rules);
    }
  }
  if (total > 0)
    for (double& p : child) p /= total;
  return total;
}

void ProductionRules::grow(Random& random, int64_t level, int64_t symbol, int64_t* tokens) const {
  if (level == 0) {
    *tokens = symbol;
    return;
  }
  const int64_t* side = right_side(level, symbol, static_cast<int64_t>(random.below(sizes_.num_rules)));
  const int64_t width = power(sizes_.branching, level - 1);
  for (int64_t i = 0; i < sizes_.branching; ++i) grow(random, level - 1, side[i], tokens + i * width);
}

double ProductionRules::sequence_entropy() const {
  const auto nodes = static_cast<double>((sequence_length() - 1) / (sizes_.branching - 1));
  return std::log(static_cast<double>(sizes_.num_symbols)) + nodes * std::log(static_cast<double>(sizes_.num_rules));
}

HierarchyFilter::HierarchyFilter(const ProductionRules& rules)
    : rules_(rules), beliefs_(rules.sizes().levels + 1), known_(rules.sizes().levels) {
  const int64_t symbols = rules.sizes().num_symbols;
  beliefs_.back().assign(symbols, 1.0 / static_cast<double>(symbols));
  pass_down(rules.sizes().levels);
}

void HierarchyFilter::see(int64_t token) {
  const auto& sizes = rules_.sizes();
  int64_t finished = token, level = 1;
  for (; level <= sizes.levels; ++level) {
    auto& known = known_[level - 1];
    known.push_back(finished);
    if (static_cast<int64_t>(known.size()) < sizes.branching) break;
    if (level == sizes.levels) return;  // the sequence is at its end
    finished = rules_.parent(level, known.data());
    known.clear();
    if (finished < 0) {  // no rule makes these children: nothing can follow
      for (auto& belief : beliefs_) std::fill(belief.begin(), belief.end(), 0.0);
      return;
    }
  }
  pass_down(level);
}

void HierarchyFilter::pass_down(int64_t level) {
  for (; level >= 1; --level) {
    const auto& known = known_[level - 1];
    rules_.next_child(level, beliefs_[level], known.data(), static_cast<int64_t>(known.size()), beliefs_[level - 1]);
  }
}

namespace {

/// Distinct beliefs with the probability of each: those that agree to 1e-12 are one.
class BeliefMasses {
 public:
  void add(const SymbolBelief& belief, double mass) {
    std::vector<int64_t> cell;
    for (const double p : belief) cell.push_back(std::llround(p * 1e12));
    masses_.try_emplace(std::move(cell), belief, 0.0).first->second.second += mass;
  }
  size_t size() const { return masses_.size(); }
  auto begin() const { return masses_.begin(); }
  auto end() const { return masses_.end(); }

 private:
  std::map<std::vector<int64_t>, std::pair<SymbolBelief, double>> masses_;
};

double entropy_of(const SymbolBelief& belief) {
  double sum = 0;
  for (const double p : belief)
    if (p > 0) sum -= p * std::log(p);
  return sum;
}

/// The rules of a level by what they begin with: rules that share their first `seen` children share a number.
struct Beginnings {
  std::vector<int64_t> of_rule;  ///< [V, M]
  int64_t count = 0;

  Beginnings(const ProductionRules& rules, int64_t level, int64_t seen) {
    std::map<std::vector<int64_t>, int64_t> numbers;
    for (int64_t symbol = 0; symbol < rules.sizes().num_symbols; ++symbol)
      for (int64_t rule = 0; rule < rules.sizes().num_rules; ++rule) {
        const int64_t* side = rules.right_side(level, symbol, rule);
        of_rule.push_back(numbers.try_emplace({side, side + seen}, numbers.size()).first->second);
      }
    count = static_cast<int64_t>(numbers.size());
  }
};

/// For each beginning its joint probability with the child that follows it, [beginnings, V].
std::vector<double> joint_with_next(const ProductionRules& rules, int64_t level, const SymbolBelief& node,
                                    const Beginnings& beginnings, int64_t seen) {
  const auto& sizes = rules.sizes();
  std::vector<double> joint(beginnings.count * sizes.num_symbols, 0.0);
  for (int64_t symbol = 0; symbol < sizes.num_symbols; ++symbol)
    for (int64_t rule = 0; rule < sizes.num_rules && node[symbol] > 0; ++rule)
      joint[beginnings.of_rule[symbol * sizes.num_rules + rule] * sizes.num_symbols +
            rules.right_side(level, symbol, rule)[seen]] += node[symbol] / static_cast<double>(sizes.num_rules);
  return joint;
}

}  // namespace

std::vector<double> hierarchy_entropies(const ProductionRules& rules, int64_t count, size_t most_beliefs) {
  const auto& sizes = rules.sizes();
  std::vector<double> entropies;
  for (int64_t t = 0; t < count; ++t) {
    // What is seen before t: at each level as many finished children of the open node as the digit of t, in base S.
    BeliefMasses masses;
    masses.add(SymbolBelief(sizes.num_symbols, 1.0 / static_cast<double>(sizes.num_symbols)), 1);
    double entropy = 0;
    for (int64_t level = sizes.levels; level >= 1; --level) {
      const int64_t seen = t / power(sizes.branching, level - 1) % sizes.branching;
      const Beginnings beginnings(rules, level, seen);
      BeliefMasses below;
      for (const auto& [cell, entry] : masses) {
        const auto& [node, mass] = entry;
        const auto joint = joint_with_next(rules, level, node, beginnings, seen);
        for (int64_t beginning = 0; beginning < beginnings.count; ++beginning) {
          SymbolBelief child(joint.begin() + beginning * sizes.num_symbols,
                             joint.begin() + (beginning + 1) * sizes.num_symbols);
          const double p = std::accumulate(child.begin(), child.end(), 0.0);
          if (p <= 0) continue;
          for (double& each : child) each /= p;
          if (level == 1) entropy += mass * p * entropy_of(child);
          else below.add(child, mass * p);
          if (below.size() > most_beliefs) return {};
        }
      }
      masses = std::move(below);
    }
    entropies.push_back(entropy);
  }
  return entropies;
}

}  // namespace attnscale
