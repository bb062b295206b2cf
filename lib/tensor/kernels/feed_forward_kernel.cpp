#include "tensor/kernels/feed_forward_kernel.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/flop_counter.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/product_nodes.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Which scratch is whose; 0 is the tile engine's, and 1 that of `transposed_sum_over_rows`.
enum Slot { first_tile = 2, second_tile, active_tile, read_tile, row_memory, out_tile };

/// What is inside: one part of F columns, or the gate's and the value's. A part is kept in pieces, one for each strip
/// of rows and each panel of columns, with their numbers in rows of the panel's width.
struct Inside {
  Activation activation;
  bool gated;
  int64_t width;  ///< F
  int64_t strip;  ///< rows of a piece
  int64_t parts() const { return gated ? 2 : 1; }
  int64_t columns() const { return parts() * width; }
};

/// The piece of `count` rows from `first`, and of `columns` columns from `column`.
struct Piece {
  int64_t first, count, column, columns;
  int64_t numbers() const { return count * columns; }
  int64_t kept_at(int64_t width) const { return first * width + count * column; }

  /// Into panels of T of a right factor whose inner length is the rows.
  template <class T>
  void lay_out(const float* tile, int64_t rows, T* panels) const {
    panels_from_rows(tile, columns, count, columns, panels + column * inner_of<T>(rows) + first * panel_columns);
  }
  /// Into rows of T that are `stride` apart, from `place` on.
  template <class T>
  void put_rows(const float* tile, int64_t stride, T* place) const {
    convert_rows(tile, columns, place, stride, count, columns);
  }
};

/// Calls work(piece) for each panel of `width` columns.
template <class Work>
void by_panels(int64_t first, int64_t count, int64_t width, const Work& work) {
  for (int64_t column = 0; column < width; column += panel_columns)
    work(Piece{first, count, column, std::min(panel_columns, width - column)});
}

template <class T>
T* scratch_rows(int64_t count) {
  return reinterpret_cast<T*>(scratch(row_memory, (count * static_cast<int64_t>(sizeof(T)) + 3) / 4));
}

/// Rows of T that a product reads to an even length: zero behind an odd number of columns.
template <class T>
void fill_up(T* rows, int64_t count, int64_t columns, int64_t stride) {
  if (stride > columns)
    for (int64_t i = 0; i < count; ++i) rows[i * stride + columns] = 0;
}

/// Panels of each part's transposed weight rows. @param up  [parts * F, K] @return [parts][panels]
template <class T>
std::array<Tensor, 2> panels_of_parts(const Tensor& up, const Inside& inside) {
  std::array<Tensor, 2> result;
  for (int64_t part = 0; part < inside.parts(); ++part)
    result[part] = panels_of_transpose<T>(up.narrow(0, part * inside.width, inside.width));
  return result;
}

/// Rows times a panel, and a bias if there is one.
template <class T>
void piece_product(const T* rows, int64_t stride, const Piece& piece, int64_t inner, const T* panels, const float* bias,
                   float* out) {
  if (bias)
    for (int64_t i = 0; i < piece.count; ++i) std::copy_n(bias + piece.column, piece.columns, out + i * piece.columns);
  product(rows, stride, panels + piece.column * inner_of<T>(inner), out, piece.columns, piece.count, inner,
          piece.columns, bias != nullptr);
}

void activate_backward(Activation kind, const float* in, float* gradient, float* value, int64_t count) {
  vector_functions()->activate_backward(kind, in, gradient, value, count);
}
void activate_backward(Activation kind, const at::BFloat16* in, float* gradient, float* value, int64_t count) {
  vector_functions()->activate_backward16(kind, bits(in), gradient, value, count);
}

/// Puts numbers away that only the backward pass reads.
/// @param far  past the caches, which they would fill
void put_away(const float* in, float* out, int64_t count, bool /*far*/) { convert(in, out, count); }
void put_away(const float* in, at::BFloat16* out, int64_t count, bool far) {
  (far ? vector_functions()->round_away : vector_functions()->round)(in, bits(out), count);
}

class FeedForwardKernel : public torch::autograd::Function<FeedForwardKernel> {
 public:
  /// @param keep  whether there will be a backward pass
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& up,
                        const std::optional<Tensor>& up_bias, const Tensor& down,
                        const std::optional<Tensor>& down_bias, int64_t activation, bool gated, at::ScalarType dtype,
                        bool keep) {
    RECORD_FUNCTION("attnscale::feed_forward", std::vector<c10::IValue>());
    return with_type(dtype, [&]<class T>() {
      const Tensor rows = rows_of<T>(x);
      const Inside inside{static_cast<Activation>(activation), gated, down.size(1), strip_of(rows.size(0))};
      Tensor hidden;  // what the activation reads, in pieces
      if (keep) hidden = at::empty({inside.parts(), rows.size(0), inside.width}, rows.options());
      const Tensor out =
          forward_rows<T>(inside, rows, up, or_undefined(up_bias), down, or_undefined(down_bias), hidden);
      context->save_for_backward({rows, up, down, hidden});
      context->saved_data["shape"] = x.sizes();
      context->saved_data["type"] = x.scalar_type();
      context->saved_data["dtype"] = dtype;
      context->saved_data["wanted"] = wanted_of({x, up, or_undefined(up_bias), down, or_undefined(down_bias)});
      context->saved_data["activation"] = activation;
      context->saved_data["gated"] = gated;
      context->saved_data["strip"] = inside.strip;
      count_flops("attnscale::feed_forward", product_flops(rows, up) + product_flops(rows, down));
      return out.view(shape_with_last(x, down.size(0)));
    });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::feed_forward_backward", std::vector<c10::IValue>());
    refuse_second_derivative("feed_forward_kernel");
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    return with_type(data["dtype"].toScalarType(), [&]<class T>() -> variable_list {
      const Tensor &rows = saved[0], &up = saved[1], &down = saved[2];
      const Inside inside{static_cast<Activation>(data["activation"].toInt()), data["gated"].toBool(), down.size(1),
                          data["strip"].toInt()};
      const Tensor gradient = rows_of<T>(gradients[0]);
      const int64_t wanted = data["wanted"].toInt(), count = rows.size(0), blocks = (count + row_block - 1) / row_block;
      const auto numbers = rows.options().dtype(at::kFloat);
      Tensor of_x, of_up, of_up_bias, of_down, of_down_bias, of_hidden, active;
      if ((wanted & 1) != 0) of_x = at::empty({count, up.size(1)}, numbers.dtype(data["type"].toScalarType()));
      if ((wanted & 2) != 0)
        of_hidden = at::empty({inside.parts(), panel_size<T>(count, inside.width)}, rows.options());
      if ((wanted & 4) != 0) of_up_bias = at::zeros({blocks, inside.columns()}, numbers);
      if ((wanted & 8) != 0) active = at::empty({panel_size<T>(count, inside.width)}, rows.options());
      if ((wanted & 15) != 0)
        backward_rows<T>(inside, gradient, up, down, saved[3], of_x, of_hidden, of_up_bias, active);
      if ((wanted & 2) != 0) {
        of_up = at::empty({inside.columns(), up.size(1)}, numbers);
        const auto turned = turned_rows<T>(rows, up.size(1));
        for (int64_t part = 0; part < inside.parts(); ++part)
          transposed_sum_over_rows<T>(turned, of_hidden[part].template const_data_ptr<T>(), inside.width,
                                      of_up[part * inside.width].template mutable_data_ptr<float>());
      }
      if ((wanted & 4) != 0) of_up_bias = of_up_bias.sum(0);
      if ((wanted & 8) != 0) {
        of_down = at::empty({down.size(0), inside.width}, numbers);
        sum_over_rows<T>(turned_rows<T>(gradient, down.size(0)), active.const_data_ptr<T>(), inside.width,
                         of_down.mutable_data_ptr<float>());
      }
      if ((wanted & 16) != 0) of_down_bias = row_sums<T>(gradient, down.size(0));
      count_flops("attnscale::feed_forward_backward",
                  (of_x.defined() + of_up.defined()) * product_flops(rows, up) +
                      (((wanted & 7) != 0) + of_down.defined()) * product_flops(rows, down));
      if (of_x.defined()) of_x = of_x.view(data["shape"].toIntVector());
      return {of_x, of_up, of_up_bias, of_down, of_down_bias, Tensor(), Tensor(), Tensor(), Tensor()};
    });
  }

 private:
  /// @param hidden  filled if defined @return [M, outputs]
  template <class T>
  static Tensor forward_rows(const Inside& inside, const Tensor& rows, const Tensor& up, const Tensor& up_bias,
                             const Tensor& down, const Tensor& down_bias, Tensor& hidden) {
    const int64_t count = rows.size(0), inputs = up.size(1), outputs = down.size(0), stride = inner_of<T>(inside.width);
    const auto up_panels = panels_of_parts<T>(up, inside);
    const Tensor down_panels = panels_of_transpose<T>(down),
                 up_shift = up_bias.defined() ? up_bias.contiguous() : up_bias,
                 down_shift = down_bias.defined() ? down_bias.contiguous() : down_bias;
    Tensor out = at::empty({count, outputs}, rows.options());
    T* kept = hidden.defined() ? hidden.mutable_data_ptr<T>() : nullptr;
    constexpr size_t much = 4 << 20;  // bytes: a small network's are still in a cache when the backward pass comes
    const bool far = kept && hidden.nbytes() > much;
    by_row_blocks(count, inside.strip, [&](int64_t first, int64_t block) {
      T* between = scratch_rows<T>(inside.strip * stride);
      by_panels(first, block, inside.width, [&](const Piece& piece) {
        std::array<float*, 2> tiles{};
        for (int64_t part = 0; part < inside.parts(); ++part) {
          tiles[part] = scratch(first_tile + static_cast<int>(part), inside.strip * panel_columns);
          const float* shift = up_shift.defined() ? up_shift.const_data_ptr<float>() + part * inside.width : nullptr;
          piece_product(rows.const_data_ptr<T>() + first * rows.size(1), rows.size(1), piece, inputs,
                        up_panels[part].template const_data_ptr<T>(), shift, tiles[part]);
          if (kept)
            put_away(tiles[part], kept + part * count * inside.width + piece.kept_at(inside.width), piece.numbers(),
                     far);
        }
        float* put_out = scratch(active_tile, inside.strip * panel_columns);
        vector_functions()->activate(inside.activation, tiles[0], put_out, piece.numbers());
        if (inside.gated) vector_functions()->multiply(tiles[1], put_out, piece.numbers());
        piece.put_rows(put_out, stride, between + piece.column);
      });
      fill_up(between, block, inside.width, stride);
      T* after = out.mutable_data_ptr<T>() + first * outputs;
      float* tile = as_floats(after, out_tile, inside.strip * outputs);
      block_product(between, stride, block, inside.width, down_panels, down_shift, tile, outputs);
      finish(tile, after, block * outputs);
    });
    return out;
  }

  /// Fills those of the last four that are defined: [M, K]; the panels of each part; sums over each block of rows; and
  /// the panels of what the activation puts out, made again from what it read.
  template <class T>
  static void backward_rows(const Inside& inside, const Tensor& gradient, const Tensor& up, const Tensor& down,
                            const Tensor& hidden, Tensor& of_x, Tensor& of_hidden, Tensor& of_bias, Tensor& active) {
    const int64_t count = gradient.size(0), columns = inside.columns(), stride = inner_of<T>(columns),
                  outputs = down.size(0);
    const Tensor down_panels = panels_of_rows<T, float>(down.contiguous(), inside.width);
    const Tensor up_panels = of_x.defined() ? panels_of_rows<T, float>(up.contiguous(), up.size(1)) : Tensor();
    T* panels = of_hidden.defined() ? of_hidden.mutable_data_ptr<T>() : nullptr;
    T* active_panels = active.defined() ? active.mutable_data_ptr<T>() : nullptr;
    const bool only_active = !of_x.defined() && !panels && !of_bias.defined();
    by_row_blocks(count, inside.strip, [&](int64_t first, int64_t block) {
      T* between = scratch_rows<T>(inside.strip * stride);
      by_panels(first, block, inside.width, [&](const Piece& piece) {
        const T* kept = hidden.const_data_ptr<T>() + piece.kept_at(inside.width);
        float *slope = scratch(first_tile, inside.strip * panel_columns),
              *value = scratch(active_tile, inside.strip * panel_columns);
        if (only_active) std::fill_n(slope, piece.numbers(), 0.F);
        else
          piece_product(gradient.const_data_ptr<T>() + first * gradient.size(1), gradient.size(1), piece, outputs,
                        down_panels.const_data_ptr<T>(), nullptr, slope);
        const std::array<float*, 2> tiles{slope, scratch(second_tile, inside.strip * panel_columns)};
        if (inside.gated) std::copy_n(slope, piece.numbers(), tiles[1]);
        activate_backward(inside.activation, kept, slope, value, piece.numbers());
        if (inside.gated) {
          const float* factor = read_floats(kept + count * inside.width, read_tile, piece.numbers());
          vector_functions()->multiply(value, tiles[1], piece.numbers());
          vector_functions()->multiply(factor, slope, piece.numbers());
          vector_functions()->multiply(factor, value, piece.numbers());
        }
        if (active_panels) piece.lay_out(value, count, active_panels);
        for (int64_t part = 0; part < inside.parts(); ++part) {
          const int64_t column = part * inside.width + piece.column;
          if (of_x.defined()) piece.put_rows(tiles[part], stride, between + column);
          if (panels) piece.lay_out(tiles[part], count, panels + part * panel_size<T>(count, inside.width));
          if (of_bias.defined())
            for (int64_t row = 0; row < block; row += row_block)  // sums are cut as one thread would
              add_rows(tiles[part] + row * piece.columns, piece.columns, std::min(row_block, block - row),
                       of_bias.mutable_data_ptr<float>() + (first + row) / row_block * columns + column, piece.columns);
        }
      });
      if (!of_x.defined()) return;
      fill_up(between, block, columns, stride);
      const auto put_out = [&](auto* to) {
        float* tile = as_floats(to, out_tile, inside.strip * up.size(1));
        product(between, stride, up_panels.const_data_ptr<T>(), tile, up.size(1), block, columns, up.size(1));
        finish(tile, to, block * up.size(1));
      };
      if (of_x.scalar_type() == at::kFloat) put_out(of_x.mutable_data_ptr<float>() + first * up.size(1));
      else put_out(of_x.mutable_data_ptr<at::BFloat16>() + first * up.size(1));
    });
  }
};

}  // namespace

Tensor feed_forward_kernel(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                           const Tensor& down_bias, Activation activation, bool gated, at::ScalarType dtype) {
  TORCH_CHECK(x.dim() > 0 && up.dim() == 2 && down.dim() == 2 && x.size(-1) == up.size(1) &&
                  up.size(0) == (gated ? 2 : 1) * down.size(1),
              "feed_forward_kernel: x ", x.sizes(), ", up ", up.sizes(), " and down ", down.sizes(),
              ", expected [.., K], [", gated ? "2 F" : "F", ", K] and [N, F]");
  check_vector("feed_forward_kernel: up_bias", up_bias, up.size(0));
  check_vector("feed_forward_kernel: down_bias", down_bias, down.size(0));
  const bool keep = at::GradMode::is_enabled() && wanted_of({x, up, up_bias, down, down_bias}) != 0;
  return FeedForwardKernel::apply(x, up, if_defined(up_bias), down, if_defined(down_bias),
                                  static_cast<int64_t>(activation), gated, dtype, keep);
}

}  // namespace attnscale
