#include "tensor/kernels/feed_forward_kernel.h"

#include <ATen/record_function.h>

#include "tensor/flop_counter.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/activation_rows.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/product_nodes.h"

namespace attnscale {
namespace {

/// Which scratch is whose; 0 is the tile engine's, and 1 that of matrix_products.h.
enum Slot { first_tile = 2, second_tile, active_tile, row_memory };

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

/// A block of a piece that is worked on at once, `count` rows from `first` and `columns` columns from `column`: its
/// numbers stay in the nearest cache from its product until they are put out.
struct Block {
  int64_t first, count, column, columns;
  int64_t row;   ///< its first of the strip
  int64_t kept;  ///< where it lies in a part of what is kept
  int64_t numbers() const { return count * columns; }

  /// Where it lies in the panels of a right factor whose inner length are the rows; null for those of nobody.
  template <class T>
  T* in_panels(T* panels, int64_t rows) const {
    return panels ? panels + column * inner_of<T>(rows) + first * panel_columns : nullptr;
  }
};

/// Calls work(block) for each block of each piece of a strip.
template <class Work>
void by_blocks(int64_t first, int64_t count, int64_t width, const Work& work) {
  for (int64_t column = 0; column < width; column += panel_columns) {
    const int64_t columns = std::min(panel_columns, width - column), piece = first * width + count * column;
    for (int64_t row = 0; row < count; row += row_block)
      work(Block{first + row, std::min(row_block, count - row), column, columns, row, piece + row * columns});
  }
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
    result[part] = panels_of_transpose<T>(inside.gated ? up.narrow(0, part * inside.width, inside.width) : up);
  return result;
}

/// A block's rows, of all that there are, times a panel, and a bias if there is one.
template <class T>
void product_of(const Block& block, const T* rows, int64_t stride, int64_t inner, const T* panels, const float* bias,
                float* out) {
  product_into(rows + block.first * stride, stride, block.count, inner, panels + block.column * inner_of<T>(inner),
               bias ? bias + block.column : nullptr, out, block.columns);
}

/// Puts numbers away that only the backward pass reads.
/// @param far  past the caches, which they would fill
void put_away(const float* in, float* out, int64_t count, bool /*far*/) { convert(in, out, count); }
void put_away(const float* in, at::BFloat16* out, int64_t count, bool far) {
  (far ? loops().round_away : loops().round)(in, bits(out), count);
}

/// Rows of T, `stride` apart: out = f(in) factor. @param factor  null: 1
void activate(Activation kind, const Block& block, const float* in, const float* factor, float* out, int64_t stride) {
  float* value = scratch(active_tile, row_block * panel_columns);
  loops().activate(kind, in, value, block.numbers());
  if (factor) loops().multiply(factor, value, block.numbers());
  convert_rows(value, block.columns, out, stride, block.count, block.columns);
}
void activate(Activation kind, const Block& block, const float* in, const float* factor, at::BFloat16* out,
              int64_t stride) {
  loops().activate_rows(kind, in, factor, bits(out), stride, block.count, block.columns);
}

/// What the backward pass of a block reads and fills; what nobody wants is null.
template <class T>
struct Gradients {
  const T *in, *factor;    ///< what the activation read, and what its value was multiplied with; without gaps
  float* of_value;         ///< the gradient of what was put out, without gaps; may be changed
  std::array<T*, 2> rows;  ///< gradients of `in` and `factor`, `stride` apart
  int64_t stride;
  std::array<T*, 2> panels;    ///< the same
  T* value_panel;              ///< what was put out, again
  std::array<float*, 2> sums;  ///< sums over the rows of the gradients are added
};

void go_back(Activation kind, const Block& block, const Gradients<float>& of) {
  const int64_t count = block.numbers();
  float *value = scratch(active_tile, row_block * panel_columns),
        *of_factor = scratch(second_tile, row_block * panel_columns);
  if (of.factor) std::copy_n(of.of_value, count, of_factor);
  loops().activate_backward(kind, of.in, of.of_value, value, count);
  if (of.factor) {
    loops().multiply(value, of_factor, count);
    loops().multiply(of.factor, of.of_value, count);
    loops().multiply(of.factor, value, count);
  }
  const auto lay_out = [&](const float* tile, float* panel) {
    if (panel) panels_from_rows(tile, block.columns, block.count, block.columns, panel);
  };
  lay_out(value, of.value_panel);
  const std::array<const float*, 2> tiles = {of.of_value, of_factor};
  for (size_t part = 0; part < (of.factor ? 2 : 1); ++part) {
    if (of.rows[part]) convert_rows(tiles[part], block.columns, of.rows[part], of.stride, block.count, block.columns);
    lay_out(tiles[part], of.panels[part]);
    if (of.sums[part]) add_rows(tiles[part], block.columns, block.count, of.sums[part], block.columns);
  }
}
void go_back(Activation kind, const Block& block, const Gradients<at::BFloat16>& of) {
  loops().activate_rows_backward({.kind = kind,
                                  .rows = block.count,
                                  .columns = block.columns,
                                  .in = bits(of.in),
                                  .factor = bits(of.factor),
                                  .gradient = of.of_value,
                                  .out = {bits(of.rows[0]), bits(of.rows[1])},
                                  .stride = of.stride,
                                  .panels = {bits(of.panels[0]), bits(of.panels[1])},
                                  .value_panel = bits(of.value_panel),
                                  .sums = {of.sums[0], of.sums[1]}});
}

class FeedForwardKernel : public GraphNode<FeedForwardKernel> {
 public:
  Tensor forward(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down, const Tensor& down_bias,
                 Activation activation, bool gated, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::feed_forward", std::vector<c10::IValue>());
    dtype_ = dtype;
    type_ = x.scalar_type();
    shape_ = x.sizes();
    return with_type(dtype, [&]<class T>() {
      const Tensor rows = rows_of<T>(x);
      inside_ = {activation, gated, down.size(1), strip_of(rows_in(rows))};
      const Inside& inside = inside_;
      Tensor hidden;  // what the activation reads, in pieces
      if (recorded()) hidden = empty_on_cpu({inside.parts(), rows_in(rows), inside.width}, dtype);
      Tensor out = empty_on_cpu(shape_with_last(x, down.size(0)), dtype);
      forward_rows<T>(inside, rows, up, up_bias, down, down_bias, hidden, out);
      keep({rows, up, down, hidden});
      count_flops("attnscale::feed_forward", product_flops(rows, up) + product_flops(rows, down));
      return out;
    });
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::feed_forward_backward", std::vector<c10::IValue>());
    refuse_second_derivative("feed_forward_kernel");
    const auto saved = kept();
    return with_type(dtype_, [&]<class T>() -> variable_list {
      const Tensor &rows = saved[0], &up = saved[1], &down = saved[2];
      const Inside& inside = inside_;
      const Tensor gradient = rows_of<T>(gradients[0]);
      const int64_t count = rows_in(rows), blocks = (count + row_block - 1) / row_block;
      Tensor of_x, of_up, of_up_bias, of_down, of_down_bias, of_hidden, active;
      if (wants(0)) of_x = empty_on_cpu(shape_, type_);
      if (wants(1)) of_hidden = empty_on_cpu({inside.parts(), panel_size<T>(count, inside.width)}, dtype_);
      if (wants(2)) of_up_bias = zeros_on_cpu({blocks, inside.columns()}, at::kFloat);
      if (wants(3)) active = empty_on_cpu({panel_size<T>(count, inside.width)}, dtype_);
      const bool through = wants(0) || wants(1) || wants(2);
      if (through || wants(3))
        backward_rows<T>(inside, gradient, up, down, saved[3], of_x, of_hidden, of_up_bias, active);
      if (wants(1)) {
        of_up = empty_on_cpu({inside.columns(), up.size(1)}, at::kFloat);
        const auto turned = turned_rows<T>(rows, up.size(1));
        for (int64_t part = 0; part < inside.parts(); ++part)
          transposed_sum_over_rows<T>(turned, of_hidden.const_data_ptr<T>() + part * of_hidden.size(1), inside.width,
                                      of_up.mutable_data_ptr<float>() + part * inside.width * up.size(1));
      }
      if (wants(2)) of_up_bias = of_up_bias.sum(0);
      if (wants(3)) {
        of_down = empty_on_cpu({down.size(0), inside.width}, at::kFloat);
        sum_over_rows<T>(turned_rows<T>(gradient, down.size(0)), active.const_data_ptr<T>(), inside.width,
                         of_down.mutable_data_ptr<float>());
      }
      if (wants(4)) of_down_bias = row_sums<T>(gradient, down.size(0));
      count_flops("attnscale::feed_forward_backward", (of_x.defined() + of_up.defined()) * product_flops(rows, up) +
                                                          (through + of_down.defined()) * product_flops(rows, down));
      return {of_x, of_up, of_up_bias, of_down, of_down_bias};
    });
  }

 private:
  at::ScalarType dtype_ = at::kFloat, type_ = at::kFloat;  ///< of the products, of x
  at::DimVector shape_;                                    ///< of x
  Inside inside_ = {};

  /// @param hidden  filled if defined @param out  [.., outputs], filled
  template <class T>
  static void forward_rows(const Inside& inside, const Tensor& rows, const Tensor& up, const Tensor& up_bias,
                           const Tensor& down, const Tensor& down_bias, Tensor& hidden, Tensor& out) {
    const int64_t count = rows_in(rows), inputs = up.size(1), outputs = down.size(0),
                  stride = inner_of<T>(inside.width);
    const auto up_panels = panels_of_parts<T>(up, inside);
    const Tensor down_panels = panels_of_transpose<T>(down), up_shift = dense(up_bias), down_shift = dense(down_bias);
    T* kept = hidden.defined() ? hidden.mutable_data_ptr<T>() : nullptr;
    constexpr size_t much = 4 << 20;  // bytes: a small network's are still in a cache when the backward pass comes
    const bool far = kept && hidden.nbytes() > much;
    const T* in = rows.const_data_ptr<T>();
    const int64_t in_stride = rows.size(-1);
    std::array<const T*, 2> panels{};
    for (int64_t part = 0; part < inside.parts(); ++part) panels[part] = up_panels[part].template const_data_ptr<T>();
    const float* shift = up_shift.defined() ? up_shift.const_data_ptr<float>() : nullptr;
    by_row_blocks(count, inside.strip, [&](int64_t first, int64_t strip) {
      T* between = scratch_rows<T>(inside.strip * stride);
      by_blocks(first, strip, inside.width, [&](const Block& block) {
        std::array<float*, 2> tiles{};
        for (int64_t part = 0; part < inside.parts(); ++part) {
          tiles[part] = scratch(first_tile + static_cast<int>(part), row_block * panel_columns);
          product_of(block, in, in_stride, inputs, panels[part], shift ? shift + part * inside.width : nullptr,
                     tiles[part]);
          if (kept) put_away(tiles[part], kept + part * count * inside.width + block.kept, block.numbers(), far);
        }
        activate(inside.activation, block, tiles[0], tiles[1], between + block.row * stride + block.column, stride);
      });
      fill_up(between, strip, inside.width, stride);
      T* after = out.mutable_data_ptr<T>() + first * outputs;
      product_into(between, stride, strip, inside.width, down_panels.const_data_ptr<T>(),
                   down_shift.defined() ? down_shift.const_data_ptr<float>() : nullptr, after, outputs);
    });
  }

  /// Fills those of the last four that are defined: [.., K]; the panels of each part; sums over each block of rows; and
  /// the panels of what the activation puts out, made again from what it read.
  template <class T>
  static void backward_rows(const Inside& inside, const Tensor& gradient, const Tensor& up, const Tensor& down,
                            const Tensor& hidden, Tensor& of_x, Tensor& of_hidden, Tensor& of_bias, Tensor& active) {
    const int64_t count = rows_in(gradient), columns = inside.columns(), stride = inner_of<T>(columns),
                  outputs = down.size(0);
    const Tensor down_panels = panels_of_rows<T, float>(down.contiguous(), inside.width);
    const Tensor up_panels = of_x.defined() ? panels_of_rows<T, float>(up.contiguous(), up.size(1)) : Tensor();
    T* panels = of_hidden.defined() ? of_hidden.mutable_data_ptr<T>() : nullptr;
    T* active_panels = active.defined() ? active.mutable_data_ptr<T>() : nullptr;
    const bool with_x = of_x.defined(), only_active = !with_x && !panels && !of_bias.defined();
    const T *in = gradient.const_data_ptr<T>(), *kept = hidden.const_data_ptr<T>(),
            *right = down_panels.const_data_ptr<T>();
    const int64_t in_stride = gradient.size(-1);
    float* sums = of_bias.defined() ? of_bias.mutable_data_ptr<float>() : nullptr;
    by_row_blocks(count, inside.strip, [&](int64_t first, int64_t strip) {
      T* between = scratch_rows<T>(inside.strip * stride);
      by_blocks(first, strip, inside.width, [&](const Block& block) {
        Gradients<T> of{};
        of.in = kept + block.kept;
        if (inside.gated) of.factor = of.in + count * inside.width;
        of.of_value = scratch(first_tile, row_block * panel_columns);
        if (only_active) std::fill_n(of.of_value, block.numbers(), 0.F);
        else product_of<T>(block, in, in_stride, outputs, right, nullptr, of.of_value);
        of.stride = stride;
        of.value_panel = block.in_panels(active_panels, count);
        for (int64_t part = 0; part < inside.parts(); ++part) {
          const auto i = static_cast<size_t>(part);
          const int64_t column = part * inside.width + block.column;
          if (with_x) of.rows[i] = between + block.row * stride + column;
          if (panels) of.panels[i] = block.in_panels(panels + part * panel_size<T>(count, inside.width), count);
          if (sums)  // they are cut as one thread would
            of.sums[i] = sums + block.first / row_block * columns + column;
        }
        go_back(inside.activation, block, of);
      });
      if (!with_x) return;
      fill_up(between, strip, columns, stride);
      const auto put_out = [&](auto* to) {
        product_into(between, stride, strip, columns, up_panels.const_data_ptr<T>(), nullptr, to, up.size(1));
      };
      if (of_x.scalar_type() == at::kFloat) put_out(of_x.mutable_data_ptr<float>() + first * up.size(1));
      else put_out(of_x.mutable_data_ptr<at::BFloat16>() + first * up.size(1));
    });
  }
};

}  // namespace

Tensor feed_forward_kernel(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down,
                           const Tensor& down_bias, Activation activation, bool gated, at::ScalarType dtype) {
  TORCH_CHECK(x.numel() > 0 && x.dim() > 0 && down.numel() > 0 && up.dim() == 2 && down.dim() == 2 &&
                  x.size(-1) == up.size(1) && up.size(0) == (gated ? 2 : 1) * down.size(1),
              "feed_forward_kernel: x ", x.sizes(), ", up ", up.sizes(), " and down ", down.sizes(),
              ", expected [.., K], [", gated ? "2 F" : "F", ", K] and [N, F], none of them empty");
  check_vector("feed_forward_kernel: up_bias", up_bias, up.size(0));
  check_vector("feed_forward_kernel: down_bias", down_bias, down.size(0));
  return FeedForwardKernel::apply(x, up, up_bias, down, down_bias, activation, gated, dtype);
}

}  // namespace attnscale
