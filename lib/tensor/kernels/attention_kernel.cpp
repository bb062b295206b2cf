#include "tensor/kernels/attention_kernel.h"

#include <array>
#include <cmath>
#include <tuple>

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/flop_counter.h"
#include "tensor/full_precision.h"
#include "tensor/head_layout.h"
#include "tensor/kernels/attention_sizes.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/head_rows.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/softmax_tile.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a pass works on while it stays in the second cache: so many tiles of queries go along the keys side by side, and
// keys meet a stretch of queries before the next.
constexpr int64_t abreast = 8, stretch = 8 * tile;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Which scratch is whose; 0 is the tile engine's.
enum Slot { logits = 1, gradients, weights, slopes, turned, sums, highest, totals, head_memory, group_memory, reaches };

/// One head's rows in a tensor [B, H, T, D].
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  T* at(int64_t row) const { return data + row * stride; }
};

template <class T>
Rows<const T> rows_of_head(const Tensor& x, int64_t b, int64_t h) {
  return {x.const_data_ptr<T>() + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}
template <class T>
Rows<T> rows_to_fill(Tensor& x, int64_t b, int64_t h) {
  return {x.mutable_data_ptr<T>() + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}

/// out (+)= left [rows, inner] times the rows from `first` on of a right factor [length, columns].
template <class T>
void product_of_rows(const T* left, int64_t stride, const T* panels, int64_t length, int64_t first, int64_t inner,
                     float* out, int64_t rows, int64_t columns, bool add) {
  for (int64_t column = 0; column < columns; column += panel_columns)
    tile_product(left, stride, panels + column * inner_of<T>(length) + first * panel_columns, out + column, columns,
                 rows, inner, std::min(panel_columns, columns - column), add);
}

/// out [rows, columns], `row_stride` apart, = left [rows, inner] times the columns from `first` on of a right factor.
template <class T>
void product_of_columns(Rows<const T> left, int64_t row, const T* panels, int64_t inner, int64_t first, float* out,
                        int64_t rows, int64_t columns) {
  for (int64_t column = 0; column < columns; column += tile)
    tile_product(left.at(row), left.stride, panels + (first + column) * inner_of<T>(inner), out + column, row_stride,
                 rows, inner, std::min(tile, columns - column), false);
}

void row_dots(Rows<const float> a, Rows<const float> b, int64_t rows, int64_t columns, float* out) {
  vector_functions()->row_dots(a.data, a.stride, b.data, b.stride, rows, columns, out);
}
void row_dots(Rows<const at::BFloat16> a, Rows<const at::BFloat16> b, int64_t rows, int64_t columns, float* out) {
  vector_functions()->row_dots16(bits(a.data), a.stride, bits(b.data), b.stride, rows, columns, out);
}

/// Memory for `count` numbers of T in a slot.
template <class T>
T* scratch_of(Slot slot, int64_t count) {
  return reinterpret_cast<T*>(scratch(slot, (count * static_cast<int64_t>(sizeof(T)) + 3) / 4));
}

/// Rows of floats, `row_stride` apart, as a left factor: themselves, or where they are rounded to.
template <class T>
T* left_of(float* rows, Slot slot) {
  if constexpr (sizeof(T) == 4) return rows;
  else return scratch_of<T>(slot, tile * row_stride);
}

/// Where loops round floats to: nowhere, or there.
Bits16* narrow_of(float*) { return nullptr; }
Bits16* narrow_of(at::BFloat16* place) { return bits(place); }

/// What each row of a tile sees, at most `tile` rows.
class TileView {
 public:
  /// @param of_row  [low, high) of row i
  template <class OfRow>
  TileView(int64_t rows, int64_t columns, const OfRow& of_row)
      : rows_{rows, row_stride, columns, low_.data(), high_.data()} {
    for (int64_t i = 0; i < rows; ++i)
      std::tie(low_[static_cast<size_t>(i)], high_[static_cast<size_t>(i)]) = of_row(i);
  }
  /// @param kept  bits of each row
  TileView(int64_t rows, int64_t columns, int64_t count, const uint64_t* kept)
      : TileView(rows, columns, [&](int64_t i) { return std::pair<int64_t, int64_t>(0, kept[i] != 0 ? count : 0); }) {
    rows_.kept = kept;
  }
  TileView(const TileView&) = delete;
  TileView& operator=(const TileView&) = delete;
  const TileRows& rows() const { return rows_; }

 private:
  std::array<int64_t, tile> low_, high_;
  TileRows rows_;
};

/// A tile of queries on its way along the keys.
struct QueryTile {
  int64_t first, count;
  int64_t begin, end;         ///< its meetings with tiles of keys
  uint64_t bounded;           ///< queries, one bit each, of which no logit is far from 0, which stands for the largest
  float *sum, *most, *total;  ///< of weighted values [count, E]; of each query, its largest logit and its weights' sum
};

/// Of each key, the largest square of its length and those of all before. With that of a query it bounds the logits
/// that the query sees, so that nobody has to find the largest; keys that it does not see change nothing. Null where
/// that does not pay, and for float32, in which exponentials far from 0 are less exact than what they are rounded to
/// next.
template <class T>
const float* reaches_of(const AttentionSizes& sizes, Rows<const T> key) {
  constexpr int64_t few = 8 * tile;
  if (sizeof(T) == 4 || sizes.layout || sizes.most_seen() <= few) return nullptr;
  float* reach = scratch(reaches, sizes.keys);
  row_dots(key, key, sizes.keys, sizes.width, reach);
  float longest = 0;
  for (int64_t s = 0; s < sizes.keys; ++s)
    reach[s] = longest = std::max(longest, reach[s] < infinity ? reach[s] : infinity);
  return reach;
}

/// Queries of a tile, one bit each, whose exponentials and their sums stay inside float32's range as they are.
template <class T>
uint64_t bounded_queries(const AttentionSizes& sizes, Rows<const T> query, int64_t first, int64_t count,
                         const float* reach) {
  if (!reach) return 0;
  constexpr float largest = 40;  // of logits
  const float most = (largest / sizes.factor()) * (largest / sizes.factor());
  std::array<float, tile> squares;
  const Rows<const T> own{query.at(first), query.stride};
  row_dots(own, own, count, sizes.width, squares.data());
  uint64_t bounded = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t seen = sizes.keys_of(first + i, 0, sizes.keys).second;
    const bool here = seen > 0 && squares[static_cast<size_t>(i)] * reach[seen - 1] <= most;  // NaN is not
    bounded |= static_cast<uint64_t>(here) << i;
  }
  return bounded;
}

/// Takes up the keys of some meetings, from `meeting` on, `together` of them if there are so many.
template <class T>
void meet(const AttentionSizes& sizes, const QueryTile& of, Rows<const T> query, const T* key_panels,
          const T* value_panels, int64_t meeting, int64_t together) {
  const int64_t d = sizes.width, e = sizes.value_width, count = of.count;
  const auto& loops = *vector_functions();
  float* logit = scratch(logits, tile * row_stride);
  std::array<float, tile> shrink;
  T* left = left_of<T>(logit, weights);
  const int64_t first_key = sizes.key_tile(meeting) * tile,
                keys = std::min(std::min(together, of.end - meeting) * tile, sizes.keys - first_key),
                inner = inner_of<T>(keys);
  product_of_columns(query, of.first, key_panels, d, first_key, logit, count, keys);
  const auto join = [&](const TileView& view) {
    auto rows = view.rows();
    rows.bounded = of.bounded;
    loops.softmax_tile(rows, logit, narrow_of(left), sizes.factor(), of.most, of.total, shrink.data());
  };
  if (sizes.layout) join({count, inner, keys, sizes.layout->by_query.data() + meeting * tile});
  else join({count, inner, [&](int64_t i) { return sizes.keys_of(of.first + i, first_key, keys); }});
  if (meeting > of.begin)
    for (int64_t i = 0; i < count; ++i)
      if (shrink[static_cast<size_t>(i)] != 1) loops.scale(of.sum + i * e, shrink[static_cast<size_t>(i)], e);
  product_of_rows(left, row_stride, value_panels, sizes.keys, first_key, keys, of.sum, count, e, meeting > of.begin);
}

template <class T>
void put_out(const AttentionSizes& sizes, const QueryTile& of, Rows<T> out, float* log_totals) {
  const int64_t e = sizes.value_width;
  if (of.begin == of.end) std::fill_n(of.sum, of.count * e, 0.F);
  vector_functions()->softmax_end(of.sum, narrow_of(out.at(of.first)), out.stride, of.total, of.count, e);
  if constexpr (sizeof(T) == 4) convert_rows(of.sum, e, out.at(of.first), out.stride, of.count, e);
  for (int64_t i = 0; i < of.count; ++i)  // exp(logit - inf) = 0
    log_totals[of.first + i] = of.total[i] != 0 ? of.most[i] + std::log(of.total[i]) : infinity;
}

/// One head. Some tiles of queries go along the keys side by side, so that all but the first find them near.
/// @param reach  what `reaches_of` gave
template <class T>
void forward_head(const AttentionSizes& sizes, Rows<const T> query, const T* key_panels, const T* value_panels,
                  const float* reach, Rows<T> out, float* log_totals) {
  const int64_t together = sizes.layout ? 1 : span / tile, e = sizes.value_width;
  float *sum = scratch(sums, abreast * tile * e), *most = scratch(highest, abreast * tile),
        *total = scratch(totals, abreast * tile);
  for (int64_t group = 0; group < sizes.queries; group += abreast * tile) {
    std::array<QueryTile, abreast> tiles;
    int64_t there = 0, steps = 0;
    for (int64_t first = group; first < sizes.queries && there < abreast; first += tile, ++there) {
      const int64_t count = std::min(tile, sizes.queries - first);
      const auto [begin, end] = sizes.tiles_of(first, count);
      const uint64_t bounded = bounded_queries(sizes, query, first, count, reach);
      tiles[static_cast<size_t>(there)] = {
          first, count, begin, end, bounded, sum + there * tile * e, most + there * tile, total + there * tile};
      for (int64_t i = 0; i < count; ++i) most[there * tile + i] = (bounded >> i & 1) != 0 ? 0.F : -infinity;
      std::fill_n(total + there * tile, count, 0.F);
      steps = std::max(steps, end - begin);
    }
    const auto each = [&](const auto& work) { std::for_each_n(tiles.begin(), there, work); };
    for (int64_t step = 0; step < steps; step += together)
      each([&](const QueryTile& of) {
        if (of.begin + step < of.end) meet(sizes, of, query, key_panels, value_panels, of.begin + step, together);
      });
    each([&](const QueryTile& of) { put_out(sizes, of, out, log_totals); });
  }
}

template <class T>
void forward_group(const AttentionSizes& sizes, const Tensor& query, const Tensor& key, const Tensor& value, int64_t b,
                   int64_t g, Tensor& out, Tensor& log_totals) {
  const int64_t d = sizes.width, e = sizes.value_width;
  T* key_panels = scratch_of<T>(head_memory, panel_size<T>(d, sizes.keys));
  T* value_panels = scratch_of<T>(group_memory, panel_size<T>(sizes.keys, e));
  const auto keys = rows_of_head<T>(key, b, g), values = rows_of_head<T>(value, b, g);
  panels_from_columns(keys.data, keys.stride, d, sizes.keys, key_panels);
  panels_from_rows(values.data, values.stride, sizes.keys, e, value_panels);
  const float* reach = reaches_of(sizes, keys);
  for (int64_t h = g * sizes.shared(); h < (g + 1) * sizes.shared(); ++h)
    forward_head(sizes, rows_of_head<T>(query, b, h), key_panels, value_panels, reach, rows_to_fill<T>(out, b, h),
                 log_totals.mutable_data_ptr<float>() + (b * sizes.heads + h) * sizes.queries);
}

/// Takes pieces of one piece of memory.
template <class T>
T* take(char*& memory, int64_t count) {
  T* piece = reinterpret_cast<T*>(memory);
  memory += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  return piece;
}
constexpr int64_t spare = 64 * 16;  ///< bytes that the pieces are rounded up by, at most

/// What the backward pass of one head works with: queries and the output's gradient as right factors both ways.
template <class T>
struct Head {
  Rows<const T> query, gradient;
  const float* log_totals;
  T *query_columns, *gradient_columns;  // [D, T], [E, T]
  T *query_rows, *gradient_rows;        // [T, D], [T, E]
  float* means;                         // of the weights' gradients: [T]
  float* of_query;                      // [T, D]
};

/// And of a group: keys and values as they lie, keys as right factors, and the gradients of both.
template <class T>
struct Group {
  Rows<const T> key, value;
  T* key_rows;               // [S, D]
  float *of_key, *of_value;  // [S, D], [S, E]
};

template <class T>
Head<T> head_of(const AttentionSizes& sizes, const Tensor& query, const Tensor& gradient, const Tensor& out,
                const Tensor& log_totals, int64_t b, int64_t h) {
  const int64_t d = sizes.width, e = sizes.value_width, queries = sizes.queries;
  const std::array<int64_t, 4> of = {panel_size<T>(d, queries), panel_size<T>(e, queries), panel_size<T>(queries, d),
                                     panel_size<T>(queries, e)};
  auto* memory = scratch_of<char>(head_memory, (of[0] + of[1] + of[2] + of[3]) * static_cast<int64_t>(sizeof(T)) +
                                                   4 * (queries + queries * d) + spare);
  Head<T> head{rows_of_head<T>(query, b, h),
               rows_of_head<T>(gradient, b, h),
               log_totals.const_data_ptr<float>() + (b * sizes.heads + h) * queries,
               take<T>(memory, of[0]),
               take<T>(memory, of[1]),
               take<T>(memory, of[2]),
               take<T>(memory, of[3]),
               take<float>(memory, queries),
               take<float>(memory, queries * d)};
  panels_from_columns(head.query.data, head.query.stride, d, queries, head.query_columns);
  panels_from_columns(head.gradient.data, head.gradient.stride, e, queries, head.gradient_columns);
  panels_from_rows(head.query.data, head.query.stride, queries, d, head.query_rows);
  panels_from_rows(head.gradient.data, head.gradient.stride, queries, e, head.gradient_rows);
  row_dots(rows_of_head<T>(out, b, h), head.gradient, queries, e, head.means);
  std::fill_n(head.of_query, queries * d, 0.F);
  return head;
}

/// Adds the share of a span of queries, from `first` on, and a tile of keys, to all three gradients. Works on the
/// transposed logits, so that the products with queries and the output's gradient take their left factor as it is.
template <class T>
void backward_span(const AttentionSizes& sizes, const Head<T>& head, const Group<T>& group, int64_t first,
                   int64_t queries, int64_t first_key, int64_t meeting) {
  const int64_t d = sizes.width, e = sizes.value_width, keys = std::min(tile, sizes.keys - first_key),
                inner = inner_of<T>(queries);
  float *weight = scratch(logits, tile * row_stride), *slope = scratch(gradients, tile * row_stride);
  T *left = left_of<T>(weight, weights), *left_slope = left_of<T>(slope, slopes);
  product_of_columns(group.key, first_key, head.query_columns, d, first, weight, keys, queries);
  product_of_columns(group.value, first_key, head.gradient_columns, e, first, slope, keys, queries);
  const SoftmaxGradient of{head.log_totals + first, head.means + first, queries,
                           sizes.factor(),          narrow_of(left),    narrow_of(left_slope)};
  const auto go_back = [&](const TileView& view) { vector_functions()->slopes_tile(view.rows(), of, weight, slope); };
  if (sizes.layout) go_back({keys, inner, queries, sizes.layout->by_key.data() + meeting * tile});
  else go_back({keys, inner, [&](int64_t s) { return sizes.queries_of(first_key + s, first, queries); }});
  product_of_rows(left, row_stride, head.gradient_rows, sizes.queries, first, queries, group.of_value + first_key * e,
                  keys, e, true);
  product_of_rows(left_slope, row_stride, head.query_rows, sizes.queries, first, queries, group.of_key + first_key * d,
                  keys, d, true);
  T* straight = scratch_of<T>(turned, tile * row_stride);
  transpose_rows(left_slope, row_stride, keys, queries, straight, inner_of<T>(keys));
  product_of_rows(straight, inner_of<T>(keys), group.key_rows, sizes.keys, first_key, keys, head.of_query + first * d,
                  queries, d, true);
}

/// All that meet: a stretch of queries and all keys, then the next.
template <class T>
void backward_head(const AttentionSizes& sizes, const Head<T>& head, const Group<T>& group) {
  if (sizes.layout) {
    for (int64_t first = 0; first < sizes.queries; first += tile) {
      const int64_t count = std::min(tile, sizes.queries - first);
      const auto [begin, end] = sizes.tiles_of(first, count);
      for (int64_t meeting = begin; meeting < end; ++meeting)
        backward_span(sizes, head, group, first, count, sizes.key_tile(meeting) * tile, meeting);
    }
    return;
  }
  for (int64_t from = 0; from < sizes.queries; from += stretch)
    for (int64_t key = 0; key < sizes.keys; key += tile) {
      const auto [low, high] = sizes.span_of(key, std::min(tile, sizes.keys - key));
      const int64_t begin = std::max(low, from), end = std::min(high, from + stretch);
      for (int64_t first = begin; first < end; first += span)
        backward_span(sizes, head, group, first, std::min(span, end - first), key, 0);
    }
}

template <class T>
void put_rows(const float* in, Rows<T> out, int64_t rows, int64_t width) {
  convert_rows(in, width, out.data, out.stride, rows, width);
}

/// @param saved  query, key, value, output, log_totals @param wanted  gradients of the first three, to be filled
template <class T>
void backward_group(const AttentionSizes& sizes, const variable_list& saved, const Tensor& gradient, int64_t b,
                    int64_t g, std::vector<Tensor>& wanted) {
  const int64_t d = sizes.width, e = sizes.value_width, of_rows = panel_size<T>(sizes.keys, d);
  auto* memory =
      scratch_of<char>(group_memory, of_rows * static_cast<int64_t>(sizeof(T)) + 4 * sizes.keys * (d + e) + spare);
  const Group<T> group{rows_of_head<T>(saved[1], b, g), rows_of_head<T>(saved[2], b, g), take<T>(memory, of_rows),
                       take<float>(memory, sizes.keys * d), take<float>(memory, sizes.keys * e)};
  panels_from_rows(group.key.data, group.key.stride, sizes.keys, d, group.key_rows);
  std::fill_n(group.of_key, sizes.keys * d, 0.F);
  std::fill_n(group.of_value, sizes.keys * e, 0.F);
  for (int64_t h = g * sizes.shared(); h < (g + 1) * sizes.shared(); ++h) {
    const auto head = head_of<T>(sizes, saved[0], gradient, saved[3], saved[4], b, h);
    backward_head(sizes, head, group);
    put_rows(head.of_query, rows_to_fill<T>(wanted[0], b, h), sizes.queries, d);
  }
  put_rows(group.of_key, rows_to_fill<T>(wanted[1], b, g), sizes.keys, d);
  put_rows(group.of_value, rows_to_fill<T>(wanted[2], b, g), sizes.keys, e);
}

/// Calls work(b, g) for each batch row and key-value head.
template <class Work>
void for_each_group(const AttentionSizes& sizes, const Work& work) {
  by_row_blocks(sizes.batch * sizes.groups, 1,
                [&](int64_t index, int64_t) { work(index / sizes.groups, index % sizes.groups); });
}

struct LayoutHolder : torch::CustomClassHolder {
  explicit LayoutHolder(std::shared_ptr<const TileLayout> it) : layout(std::move(it)) {}
  std::shared_ptr<const TileLayout> layout;
};

class AttentionKernel : public torch::autograd::Function<AttentionKernel> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& query, const Tensor& key, const Tensor& value,
                        int64_t behind, int64_t ahead, const std::shared_ptr<const TileLayout>& layout,
                        double counted_pairs, at::ScalarType dtype) {
    RECORD_FUNCTION("attnscale::attention", std::vector<c10::IValue>());
    const AttentionSizes sizes{query.size(0), query.size(1), key.size(1),     query.size(2), key.size(2),
                               query.size(3), value.size(3), {behind, ahead}, layout.get()};
    const auto q = with_dense_rows(query.to(dtype)), k = with_dense_rows(key.to(dtype)),
               v = with_dense_rows(value.to(dtype));
    auto out = by_positions(sizes.batch, sizes.heads, sizes.queries, sizes.value_width, q.options());
    auto log_totals = at::empty({sizes.batch, sizes.heads, sizes.queries}, q.options().dtype(at::kFloat));
    for_each_group(sizes, [&](int64_t b, int64_t g) {
      if (dtype == at::kFloat) forward_group<float>(sizes, q, k, v, b, g, out, log_totals);
      else forward_group<at::BFloat16>(sizes, q, k, v, b, g, out, log_totals);
    });
    const double flops =
        2 * static_cast<double>(sizes.batch * sizes.heads * (sizes.width + sizes.value_width)) * counted_pairs;
    count_flops("attnscale::attention", flops);
    context->save_for_backward({q, k, v, out, log_totals});
    context->saved_data["behind"] = behind;
    context->saved_data["ahead"] = ahead;
    context->saved_data["layout"] = c10::IValue::make_capsule(c10::make_intrusive<LayoutHolder>(layout));
    context->saved_data["flops"] = flops;
    context->saved_data["types"] =
        std::vector<int64_t>{static_cast<int64_t>(query.scalar_type()), static_cast<int64_t>(key.scalar_type()),
                             static_cast<int64_t>(value.scalar_type())};
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::attention_backward", std::vector<c10::IValue>());
    refuse_second_derivative("attention_kernel");
    const auto saved = context->get_saved_variables();
    const auto &query = saved[0], &key = saved[1], &value = saved[2];
    const auto held = context->saved_data["layout"].toCapsule();
    const AttentionSizes sizes{query.size(0),
                               query.size(1),
                               key.size(1),
                               query.size(2),
                               key.size(2),
                               query.size(3),
                               value.size(3),
                               {context->saved_data["behind"].toInt(), context->saved_data["ahead"].toInt()},
                               static_cast<const LayoutHolder&>(*held).layout.get()};
    const auto gradient = with_dense_rows(gradients[0].to(query.scalar_type()));
    auto of = empty_parts({query, key, value});
    for_each_group(sizes, [&](int64_t b, int64_t g) {
      if (query.scalar_type() == at::kFloat) backward_group<float>(sizes, saved, gradient, b, g, of);
      else backward_group<at::BFloat16>(sizes, saved, gradient, b, g, of);
    });
    count_flops("attnscale::attention_backward", 2.5 * context->saved_data["flops"].toDouble());
    const auto types = context->saved_data["types"].toIntVector();
    for (size_t i = 0; i < of.size(); ++i) of[i] = of[i].to(static_cast<at::ScalarType>(types[i]));
    return {of[0], of[1], of[2], Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

void check_call(const Tensor& query, const Tensor& key, const Tensor& value, at::ScalarType dtype) {
  check_heads("attention_kernel", query, key, value);
  TORCH_CHECK(dtype == at::kFloat || (query.size(3) % 2 == 0 && value.size(3) % 2 == 0), "attention_kernel: widths ",
              query.size(3), " and ", value.size(3), " in ", dtype, ", expected even ones");
}

}  // namespace

std::optional<at::ScalarType> attention_dtype(const Tensor& query, const Tensor& key, const Tensor& value) {
  constexpr int64_t fewest_queries = 8;  // for fewer, turning the keys costs more than it saves
  if (!query.is_cpu() || query.size(2) < fewest_queries || query.size(0) == 0 || key.size(2) == 0) return std::nullopt;
  auto dtype = query.scalar_type();
  if (autocast_applies())
    if (const auto mixed = mixed_dtype(at::kCPU); mixed && dtype != at::kDouble) dtype = *mixed;
  if (!has_kernels(dtype)) return std::nullopt;
  for (const auto& x : {query, key, value})
    if (x.scalar_type() != at::kFloat && x.scalar_type() != dtype) return std::nullopt;
  const bool odd = query.size(3) % 2 != 0 || value.size(3) % 2 != 0;
  if ((dtype == at::kBFloat16 && odd) || query.size(3) == 0 || value.size(3) == 0) return std::nullopt;
  return dtype;
}

Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Band& band,
                        double counted_pairs, at::ScalarType dtype) {
  check_call(query, key, value, dtype);
  return AttentionKernel::apply(query, key, value, band.behind, band.ahead, std::shared_ptr<const TileLayout>(),
                                counted_pairs, dtype);
}

Tensor attention_kernel(const Tensor& query, const Tensor& key, const Tensor& value,
                        std::shared_ptr<const TileLayout> layout, double counted_pairs, at::ScalarType dtype) {
  check_call(query, key, value, dtype);
  TORCH_CHECK(layout, "attention_kernel: no layout");
  check_layout(*layout, query.size(2), key.size(2));
  return AttentionKernel::apply(query, key, value, Band::all, Band::all, layout, counted_pairs, dtype);
}

}  // namespace attnscale
