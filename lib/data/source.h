#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

// R rows, T context: a batch holds R windows of T + 1 tokens; inputs are the first T, targets the last T.

namespace attnscale {

enum class Split { train, validation };

struct Batch {
  int64_t rows = 0;
  int64_t context = 0;
  std::vector<int64_t> tokens = {};  ///< [R, T + 1], row-major
  /// Tasks: 1 at the targets that are asked for, which alone count in losses and accuracies, [R, T];
  /// empty: every target counts. Target t is token t + 1, or token t where inputs are to be reconstructed.
  std::vector<uint8_t> asked = {};
  /// Tasks: how far before an asked target lies the token that tells it, in positions, [R, T]; 0 where the
  /// target is not asked for; empty where no single token tells it. Of an input to be reconstructed: how far
  /// before the last input it lies.
  std::vector<int64_t> distances = {};

  int64_t num_asked() const;
};

/// What is known exactly about a source: nats per token.
struct Truth {
  double entropy_rate = 0;      ///< limit of the loss for an ideal predictor with unlimited context
  double bayes_loss = 0;        ///< expected loss of the ideal predictor that sees only the window: the floor of a run
  double bayes_loss_error = 0;  ///< standard error, or bound of a numerical method; 0 where exact to 1e-9
  std::string derivation;       ///< one sentence
  std::optional<double> chance_accuracy = {};  ///< of the best constant answer, over asked targets
  std::optional<double> bayes_accuracy = {};   ///< of the ideal predictor, over asked targets
};

/// Where tokens come from. Everything is a pure function of its arguments, so that a run can be
/// resumed at any step without saved state, and two variants see the same tokens.
class Source {
 public:
  virtual ~Source() = default;

  /// What a model can be asked for on these windows: values of `model.head`. A derived class may say otherwise.
  static std::vector<std::string> heads() { return {"next_token", "masked_token", "encoder_decoder"}; }

  virtual int64_t vocab_size() const = 0;

  /// Batch number `index` of a split, from 0. Training batches of different seeds are independent
  /// of each other and of validation. Validation is one fixed sequence of windows: `seed` does not
  /// enter, so that every run of a sweep is scored on the same tokens.
  /// @throws DataError if rows or context is below 1, index below 0, or the data too short
  virtual Batch batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const = 0;

  /// ln probability, under the true process, of each target given the inputs before it in its
  /// window: [R, T], row-major. Empty when the process is not known. A target that the process
  /// cannot produce has -infinity; batches of the source itself have none. Targets that are not asked
  /// for have 0.
  /// @throws DataError if the batch has the wrong length or a token outside the vocabulary
  virtual std::vector<double> bayes_log_probabilities(const Batch& batch) const;

  /// Exact knowledge for windows of `context` inputs; nothing for real text.
  virtual std::optional<Truth> truth(int64_t context) const;

  /// How many validation windows of this context there are before the first comes again; nothing where they never do.
  virtual std::optional<int64_t> num_validation_windows(int64_t context) const;

  /// What identifies the data beyond the options, for run ids and provenance: bytes and SHA-256 of a file, not where it
  /// lies; an empty object for a generated source.
  virtual Json fingerprint() const;

  /// Tokens of a text, for prompts; default: whole numbers separated by blanks.
  /// @throws DataError naming what is not a token
  virtual std::vector<int64_t> encode(const std::string& text) const;

  /// Text of tokens, for samples; default: the numbers, separated by spaces.
  virtual std::string decode(const std::vector<int64_t>& tokens) const;
};

/// What `batch` needs of its arguments in every source. @throws DataError
void check_batch_request(int64_t index, int64_t rows, int64_t context);

/// @throws DataError if the batch is not [R, T + 1] tokens of a vocabulary of this size
void check_batch(const Batch& batch, int64_t vocab_size);

}  // namespace attnscale
