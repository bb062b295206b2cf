#pragma once

#include <cstdint>
#include <vector>

#include "data/random.h"

// V symbols, M rules per symbol, S symbols on the right side of a rule, L levels.

namespace attnscale {

/// How likely each symbol is, [V].
using SymbolBelief = std::vector<double>;

/// The grammar of a random hierarchy: at each of L levels every symbol has M right sides of S symbols of the level
/// below, all V M of a level distinct, so that what a symbol became tells the symbol. A sequence of S^L tokens grows
/// from a uniform symbol at the top by rules drawn uniformly: all V M^((S^L - 1) / (S - 1)) sequences are distinct and
/// equally likely.
///
/// Source: Cagnetta et al. 2024, arXiv:2307.02129, section 2 (the model and its unambiguous rules).
class ProductionRules {
 public:
  struct Sizes {
    int64_t num_symbols = 8, num_rules = 4, branching = 2, levels = 3;
  };

  /// Draws the V M right sides of each level without replacement from all V^S, the top level last.
  ProductionRules(const Sizes& sizes, Random random);

  const Sizes& sizes() const { return sizes_; }
  int64_t sequence_length() const;

  /// Symbols below `symbol` of `level` (1 .. L, the leaves are level 0) by its rule number `rule`, [S].
  const int64_t* right_side(int64_t level, int64_t symbol, int64_t rule) const {
    return right_sides_[level - 1].data() + (symbol * sizes_.num_rules + rule) * sizes_.branching;
  }

  /// The symbol of `level` that became these S symbols; -1 where none does.
  int64_t parent(int64_t level, const int64_t* children) const;

  /// Belief over the child that follows `seen` known children of a node of `level`, whose own symbol is believed to be
  /// `node`. Returns the probability of the seen children; the belief in `child` is normalised, or all 0 with it.
  double next_child(int64_t level, const SymbolBelief& node, const int64_t* children, int64_t seen,
                    SymbolBelief& child) const;

  /// The tokens of a sequence that grows from `symbol`.
  void grow(Random& random, int64_t level, int64_t symbol, int64_t* tokens) const;

  /// Entropy of a whole sequence, nats: ln V + (S^L - 1) / (S - 1) ln M.
  double sequence_entropy() const;

 private:
  Sizes sizes_;
  std::vector<std::vector<int64_t>> right_sides_;  ///< per level, [V, M, S]
  std::vector<std::vector<int64_t>> parents_;      ///< per level, [V^S], -1 where the right side is no rule's
};

/// Tokens of one sequence, seen one after the other, with the exact probability of each by belief propagation.
///
/// A finished subtree tells its symbol for sure. What is open is one path from the top to the next token: at each level
/// some children are known, and beliefs pass down from the top, uniform, to the token.
/// Cost per token: about V M S operations.
class HierarchyFilter {
 public:
  explicit HierarchyFilter(const ProductionRules& rules);

  /// Probabilities of the next token, [V]; all 0 after a token that the grammar cannot produce.
  const SymbolBelief& next_token() const { return beliefs_.front(); }

  /// @pre not at the end of the sequence
  void see(int64_t token);

 private:
  /// Passes beliefs down from `level` to the token.
  void pass_down(int64_t level);

  const ProductionRules& rules_;
  std::vector<SymbolBelief> beliefs_;        ///< per level 0 .. L, of the open node
  std::vector<std::vector<int64_t>> known_;  ///< per level 1 .. L, finished children of the open node (index level - 1)
};

/// H(X_t | X_0 .. X_{t-1}) within a sequence for t = 0 .. count - 1, nats, exactly: by the distinct beliefs that can
/// arise along the open path, each with its probability. Nothing where more than `most_beliefs` arise at one level.
/// Cost: for each t and level, beliefs times V (M + beginnings of right sides) operations.
std::vector<double> hierarchy_entropies(const ProductionRules& rules, int64_t count, size_t most_beliefs = 50'000);

}  // namespace attnscale
