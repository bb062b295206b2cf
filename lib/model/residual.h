#pragma once

#include <memory>

#include <ATen/core/Generator.h>

#include "model/norm.h"

// B batch, T positions, M model width

namespace attnscale {

/// Which rows of a batch skip a sublayer: a random stream of its own, so that neither dropout nor anything else that
/// draws moves with it.
class RowDrops {
 public:
  RowDrops();
  void seed(uint64_t seed) { generator_.set_current_seed(seed); }

  const at::Generator& generator() const { return generator_; }

  /// 0 with probability `drop`, otherwise 1 / (1 - drop): [rows, 1, 1], dtype and device of `like`
  Tensor draw(int64_t rows, double drop, const Tensor& like);

 private:
  at::Generator generator_;
};

/// The residual stream, and what the next sublayer reads of it where that is known already.
struct Flow {
  Tensor stream = {};  ///< [B, T, M]
  Tensor read = {};    ///< undefined: still to be made
};

/// Whoever reads the stream next: a sublayer, or what follows the last.
struct Reader {
  const Norm* norm = nullptr;         ///< that it begins with; null: none, or it is not known
  at::ScalarType dtype = at::kFloat;  ///< of the norm, see `read_dtype`
};

/// The dtype of a norm by a kernel.
/// @param narrow  it is read by 16-bit matrix products alone, and may be what those would round it to anyway
at::ScalarType read_dtype(bool narrow);

/// What this one reads, [B, T, M].
Tensor read_by(const Reader& reader, const Flow& flow);

/// How one sublayer f of a block reads the residual stream x and writes into it.
///   before, parallel:  x + s f(norm(x))                    (GPT-2; GPT-J, where both sublayers read the first norm)
///   after:             norm(x + s f(x))                    (Vaswani et al. 2017, section 3.1)
///   both:              x + s norm_after(f(norm(x)))        (Gemma 2, arXiv:2408.00118, section 2)
///   deep_norm:         norm((2 depth)^(1/4) x + s f(x))    (Wang et al. 2022, arXiv:2203.00555, figure 2, decoder)
/// with s =
///   plain:        1
///   scaled:       1 / sqrt(2 depth)
///   rezero:       a learned number, 0 at first             (Bachlechner et al. 2020, arXiv:2003.04887, section 3)
///   layer_scale:  a learned number for each column         (Touvron et al. 2021, arXiv:2103.17239, section 2.2)
/// While training, dropout acts on what is multiplied by s, and block l of L (from 1) leaves s f out for each row with
/// probability stochastic_depth l / L, and divides by the opposite probability otherwise (Huang et al. 2016,
/// arXiv:1603.09382, section 3, who draw once for a batch and multiply at evaluation instead).
class Residual {
 public:
  /// Registers with the block `norm<number>`, `norm<number>_after` [M] and `residual<number>` [1] or [M], as needed.
  Residual(torch::nn::Module& block, const ModelOptions& options, int64_t layer, int number,
           std::shared_ptr<RowDrops> drops);

  /// How the sublayer reads.
  Reader reader() const { return {before_.get(), read_dtype(narrow_)}; }
  Tensor read(const Flow& flow) const { return read_by(reader(), flow); }  ///< [B, T, M]

  /// The stream after the sublayer, and where one kernel makes both, what is read of it next.
  /// @param x, output  [B, T, M] @param next  no norm: unknown
  Flow write(const Tensor& x, Tensor output, bool training, const Reader& next) const;

  /// @param may  the sublayer begins with 16-bit matrix products alone, so that it may read what those would round to
  ///             anyway; until this is said: no
  void let_read_narrow(bool may) { narrow_ = may; }

 private:
  bool only_adds(bool training) const;

  std::shared_ptr<Norm> before_, inside_, after_;  // null where the placement has none
  Tensor learned_;
  double scale_ = 1, stream_scale_ = 1, dropout_, drop_;
  bool narrow_ = false;
  std::shared_ptr<RowDrops> drops_;
};

}  // namespace attnscale
