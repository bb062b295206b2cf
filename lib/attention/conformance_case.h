#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attention/conformance.h"

// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width
//
// What the themes of the conformance run share: one configuration under test, its random inputs,
// and the record of what was measured. Internal to lib/attention.

namespace attnscale::conformance {

/// Thrown out of the checks on a request to stop. No std::exception, which would be a fault of the variant.
struct Stopped {};

/// Keeps the worst measurement of each check.
class Recorder {
 public:
  /// @param stop  asked at every note; may be empty
  explicit Recorder(std::map<std::string, Deviation> deviations = {}, std::function<bool()> stop = {})
      : deviations_(std::move(deviations)), stop_(std::move(stop)) {}

  /// @throws Stopped
  void note(const std::string& name, double measured, double tolerance, const std::string& where);
  const std::vector<Check>& checks() const { return checks_; }

  /// A check that recorded nothing fails.
  void require(const std::string& name);

 private:
  std::map<std::string, Deviation> deviations_;
  std::function<bool()> stop_;
  std::vector<Check> checks_;
};

/// A variant with options at a place in a model.
struct Case {
  const VariantInfo& variant;
  Json options;
  Geometry geometry;
  std::vector<int64_t> lengths;         ///< T
  std::vector<int64_t> oracle_lengths;  ///< fewer where other geometries take the rest: an oracle is slow
  uint64_t seed = 0;
  bool smallest = false;  ///< options at their least, where an input may rightly matter no more (a single key)

  bool has(Trait trait) const { return variant.traits.contains(trait); }

  /// `{"window":7}, causal, H=4 G=2 D=8 E=8`, and with `, T=63`
  std::string place() const;
  std::string at(int64_t length) const;

  /// Deviation::outliers of a check.
  double outliers(const std::string& check) const;

  /// Sizes of the latest inputs that were drawn, for an exception that names none.
  mutable std::string latest_inputs = "no inputs yet";

  /// Seeded. The parameters are then moved off their initial values, so that one that starts at
  /// zero is tested too.
  std::shared_ptr<Attention> make(torch::Dtype dtype = torch::kFloat64) const;

  /// Standard normal float64 leaves.
  Inputs inputs(int64_t batch, int64_t queries, int64_t keys) const;
};

/// Key padding [B, S] for B = 3: a row all real; a row whose first key and last third are padded
/// (the first stays for S = 1); a row without real keys.
Tensor ragged_padding(int64_t keys);

struct Leaf {
  std::string name;
  Tensor tensor;
};

/// Everything that an output can be differentiated by: query, key, value, gates (or hidden), bias, parameters.
std::vector<Leaf> leaves(const Inputs& inputs, const Attention* attention = nullptr);

/// Gradients of sum(output * weight) to the leaves; zeros where there is no path.
std::vector<Tensor> gradients(const Tensor& output, const Tensor& weight, const std::vector<Leaf>& leaves);

/// The inputs in another dtype, detached, as leaves.
Inputs as_leaves(const Inputs& inputs, torch::Dtype dtype);

/// Applies a function to query, key, value, every gate and a bias, or to hidden. @return detached leaves
Inputs mapped(const Inputs& inputs, const std::function<Tensor(const Tensor&)>& change);

/// max |a - b| / max |b|, in float64; 0 for empty tensors, infinity where either is not finite.
double distance(const Tensor& a, const Tensor& b);

/// |a - b| / |b| in Euclidean norms, in float64, without the share `outliers` of rows (of the last dimension) that
/// differ most; NaN where something is not finite.
double norm_distance(const Tensor& a, const Tensor& b, double outliers = 0);

/// What the oracle gives and what the variant gives, for the same inputs: outputs, and gradients to all leaves.
struct OracleDistance {
  double outputs = 0, gradients = 0;
  std::string worst = {};  ///< the leaf
};
OracleDistance distance_from_oracle(const Case& test, Attention& attention, const Inputs& inputs);

/// Positions from `begin` to `end` of everything.
Inputs piece_of(const Inputs& inputs, int64_t begin, int64_t end);

/// Ways to cut `length` positions: singly, by seven, whole, and one, seven, the rest.
std::vector<std::vector<int64_t>> splits(int64_t length);

double largest(const Tensor& tensor);
int64_t count_non_finite(const Tensor& tensor);

// The themes, one file each.
void check_values(const Case& test, Recorder& record);                // oracle, finite differences, arithmetic, bits
void check_dependence(const Case& test, Recorder& record);            // who influences whom
void check_resources(const Case& test, Recorder& record);             // decoding, bytes, FLOPs, parameters
void check_gates(const Case& test, Recorder& record);                 // gates almost open, almost shut
void check_growth(const Case& test, Recorder& record);                // what formulas grow like
void check_long(const Case& test, int64_t length, Recorder& record);  // FLOPs and float32 at hundreds of positions
void check_options(const VariantInfo& variant, const std::vector<Json>& options, Recorder& record);
void check_options_matter(const VariantInfo& variant, const std::vector<Case>& places, Recorder& record);
void check_equalities(const VariantInfo& variant, const ConformanceOptions& options, Recorder& record);

}  // namespace attnscale::conformance
