#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "attention/registry.h"
#include "model/transformer.h"
#include "tensor/linear.h"
#include "train/optimizers/muon.h"
#include "train/run_config.h"

using namespace attnscale;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

using Named = std::vector<std::pair<std::string, Tensor>>;

Tensor leaf(at::IntArrayRef shape) { return at::randn(shape, at::kDouble).requires_grad_(); }

std::unique_ptr<Optimizer> optimizer_for(const Named& parameters, const TrainOptions& options) {
  return make_optimizer(parameters, resolved(options));
}

std::vector<std::string> all_optimizers() {
  for (const auto& field : TrainOptions::fields())
    if (field.name == "optimizer") return field.choices;
  return {};
}

/// One number and what an optimiser keeps of it, updated by the equations of a paper.
struct OneNumber {
  double weight, first = 0, second = 0;
};
using NumberRule = std::function<void(OneNumber&, double gradient, double rate, double decay, int t)>;

/// Algorithm 2 of Loshchilov and Hutter 2019, but for the decay, which PyTorch and we multiply by the rate.
void adamw(OneNumber& n, double gradient, double rate, double decay, int t) {
  n.weight -= rate * decay * n.weight;
  n.first = 0.9 * n.first + 0.1 * gradient;
  n.second = 0.95 * n.second + 0.05 * gradient * gradient;
  const double mean = n.first / (1 - std::pow(0.9, t)), square = n.second / (1 - std::pow(0.95, t));
  n.weight -= rate * mean / (std::sqrt(square) + 1e-8);
}

/// Algorithm 1 of Kingma and Ba 2015 for a loss with decay / 2 w^2 added.
void adam(OneNumber& n, double gradient, double rate, double decay, int t) {
  adamw(n, gradient + decay * n.weight, rate, 0, t);
}

void sgd(OneNumber& n, double gradient, double rate, double decay, int) {
  n.first = 0.9 * n.first + gradient + decay * n.weight;
  n.weight -= rate * n.first;
}

/// Algorithm 2 of Chen et al. 2023: the update uses beta1, the momentum beta2.
void lion(OneNumber& n, double gradient, double rate, double decay, int) {
  const double c = 0.9 * n.first + 0.1 * gradient;
  const double sign = c > 0 ? 1 : c < 0 ? -1 : 0;
  n.weight -= rate * (sign + decay * n.weight);
  n.first = 0.99 * n.first + 0.01 * gradient;
}

}  // namespace

TEST_CASE("optimizer: ten steps of each that acts on single numbers equal its paper's, with decay on matrices only") {
  const std::pair<const char*, NumberRule> cases[] = {{"adamw", adamw}, {"adam", adam}, {"sgd", sgd}, {"lion", lion}};
  for (const auto& [name, rule] : cases) {
    INFO(name);
    at::manual_seed(1);
    // 37 numbers: more than one vector register and a remainder, so that both paths of the fused kernel are seen.
    const auto matrix = leaf({37, 1}), gain = leaf({37});
    const auto optimizer =
        optimizer_for({{"gain", gain}, {"matrix", matrix}}, {.optimizer = name, .weight_decay = 0.3});
    std::vector<OneNumber> matrix_numbers, gain_numbers;
    for (int i = 0; i < 37; ++i) {
      matrix_numbers.push_back({matrix[i][0].item<double>()});
      gain_numbers.push_back({gain[i].item<double>()});
    }
    for (int t = 1; t <= 10; ++t) {
      const double rate = 0.1 / t;
      const auto gradient = at::randn({37}, at::kDouble);
      matrix.mutable_grad() = gradient.view({37, 1}).clone();
      gain.mutable_grad() = gradient.clone();
      optimizer->step(rate);
      for (int i = 0; i < 37; ++i) {
        rule(matrix_numbers[i], gradient[i].item<double>(), rate, 0.3, t);
        rule(gain_numbers[i], gradient[i].item<double>(), rate, 0, t);
      }
    }
    for (int i = 0; i < 37; ++i) {
      // Float64 throughout; ten updates add some tens of roundings of 1e-16.
      CHECK_THAT(matrix[i][0].item<double>(), WithinRel(matrix_numbers[i].weight, 1e-12));
      CHECK_THAT(gain[i].item<double>(), WithinRel(gain_numbers[i].weight, 1e-12));
    }
  }
}

TEST_CASE("optimizer: schedule-free's ten steps equal loops over the three sequences of its paper") {
  // Section 3 of Defazio et al. 2024, with x kept: y = (1 - b) z + b x; z <- z - r (u + decay y);
  // x <- (1 - c) x + c z, c = r^2 / sum of r^2.
  for (const bool adaptive : {false, true}) {
    at::manual_seed(6);
    const auto matrix = leaf({37, 1}), gain = leaf({37});
    const TrainOptions options{.schedule = "schedule_free",
                               .optimizer = adaptive ? "adamw" : "sgd",
                               .beta1 = adaptive ? 0.8 : 0.9,
                               .momentum = adaptive ? std::nullopt : std::optional(0.8),
                               .weight_decay = 0.3};
    const auto optimizer = optimizer_for({{"gain", gain}, {"matrix", matrix}}, options);
    struct Sequences {
      double x, z, v = 0;
    };
    std::vector<Sequences> numbers[2];
    for (int i = 0; i < 37; ++i) {
      const double start[] = {matrix[i][0].item<double>(), gain[i].item<double>()};
      for (int k = 0; k < 2; ++k) numbers[k].push_back({.x = start[k], .z = start[k]});
    }
    const auto between = [](const Sequences& n) { return 0.2 * n.z + 0.8 * n.x; };
    double squares = 0;
    for (int t = 1; t <= 10; ++t) {
      const double rate = t < 4 ? 0.05 * t : 0.2 / (t - 3);
      const auto gradient = at::randn({37}, at::kDouble);
      matrix.mutable_grad() = gradient.view({37, 1}).clone();
      gain.mutable_grad() = gradient.clone();
      optimizer->step(rate);
      squares += rate * rate;
      const double c = rate * rate / squares;
      for (int k = 0; k < 2; ++k)
        for (int i = 0; i < 37; ++i) {
          auto& n = numbers[k][i];
          const double g = gradient[i].item<double>();
          n.v = 0.95 * n.v + 0.05 * g * g;
          const double u = adaptive ? g / (std::sqrt(n.v / (1 - std::pow(0.95, t))) + 1e-8) : g;
          n.z -= rate * (u + (k == 0 ? 0.3 : 0) * between(n));
          n.x = (1 - c) * n.x + c * n.z;
        }
    }
    const auto averages = optimizer->averaged_weights();
    for (int i = 0; i < 37; ++i) {
      // Float64: tens of roundings of 1e-16, for x divided by b.
      CHECK_THAT(matrix[i][0].item<double>(), WithinAbs(between(numbers[0][i]), 1e-12));
      CHECK_THAT(gain[i].item<double>(), WithinAbs(between(numbers[1][i]), 1e-12));
      CHECK_THAT(averages.at("matrix")[i][0].item<double>(), WithinAbs(numbers[0][i].x, 1e-12));
      CHECK_THAT(averages.at("gain")[i].item<double>(), WithinAbs(numbers[1][i].x, 1e-12));
    }
  }
}

TEST_CASE("optimizer: adafactor's ten steps equal loops over algorithm 4 and 5 of its paper") {
  at::manual_seed(3);
  constexpr int N = 3, M = 5;
  const auto matrix = leaf({N, M});
  const auto optimizer =
      optimizer_for({{"matrix", matrix}}, {.optimizer = "adafactor", .update_clip = 0.7, .weight_decay = 0.2});
  double w[N][M], rows[N] = {}, columns[M] = {};
  for (int i = 0; i < N; ++i)
    for (int j = 0; j < M; ++j) w[i][j] = matrix[i][j].item<double>();
  for (int t = 1; t <= 10; ++t) {
    const auto gradient = at::randn({N, M}, at::kDouble);
    matrix.mutable_grad() = gradient.clone();
    optimizer->step(0.4);  // above 1 / sqrt(t) from the seventh step on, so that both bounds are seen

    const auto g = [&](int i, int j) { return gradient[i][j].item<double>(); };
    const double keep = 1 - std::pow(t, -0.8);
    double mean_row = 0, squares = 0, weights = 0, u[N][M];
    for (int i = 0; i < N; ++i) {
      double sum = 0;
      for (int j = 0; j < M; ++j) sum += g(i, j) * g(i, j), weights += w[i][j] * w[i][j];
      rows[i] = keep * rows[i] + (1 - keep) * sum / M;
      mean_row += rows[i] / N;
    }
    for (int j = 0; j < M; ++j) {
      double sum = 0;
      for (int i = 0; i < N; ++i) sum += g(i, j) * g(i, j);
      columns[j] = keep * columns[j] + (1 - keep) * sum / N;
    }
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < M; ++j) {
        u[i][j] = g(i, j) / std::sqrt(rows[i] * columns[j] / mean_row);
        squares += u[i][j] * u[i][j];
      }
    const double clip = std::max(1.0, std::sqrt(squares / (N * M)) / 0.7);
    const double size = std::min(0.4, 1 / std::sqrt(t)) * std::max(1e-3, std::sqrt(weights / (N * M)));
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < M; ++j) {
        w[i][j] -= 0.4 * 0.2 * w[i][j] + size * u[i][j] / clip;
        CHECK_THAT(matrix[i][j].item<double>(), WithinAbs(w[i][j], 1e-12));  // float64, tens of roundings
      }
  }
}

TEST_CASE("optimizer: what muon applies has singular values near one and the gradient's singular vectors") {
  at::manual_seed(4);
  for (const auto& shape : {std::vector<int64_t>{24, 8}, {8, 24}, {16, 16}}) {
    // Singular values from 1 to 3: the iteration takes small ones up slowly.
    const auto [u, s, v] = at::linalg_svd(at::randn(shape), /*full_matrices=*/false);
    const auto x = u.matmul(at::diag(at::linspace(1, 3, 8 * (shape[0] == 16) + 8))).matmul(v);
    const auto y = orthogonalised(x, 5).to(at::kFloat);
    REQUIRE(y.sizes() == x.sizes());
    const auto inner = u.t().matmul(y).matmul(v.t());
    const auto diagonal = inner.diagonal();
    // Jordan's coefficients take singular values to between 0.68 and 1.13; bfloat16 adds a few roundings of 0.4 %.
    CHECK(diagonal.min().item<double>() > 0.65);
    CHECK(diagonal.max().item<double>() < 1.2);
    CHECK((inner - at::diag(diagonal)).abs().max().item<double>() < 0.05);
  }
}

TEST_CASE("optimizer: muon orthogonalises the blocks' matrices and leaves the rest to AdamW") {
  at::manual_seed(5);
  const char* names[] = {"embedding.token", "blocks.0.mixer.qkv.weight", "blocks.0.norm1.weight", "head.weight"};
  Named first, second;
  for (const auto* name : names) {
    const auto parameter = std::string(name).ends_with("norm1.weight") ? leaf({6}) : leaf({8, 6});
    const auto gradient = at::randn_like(parameter);
    for (auto* list : {&first, &second}) {
      list->emplace_back(name, parameter.detach().clone().requires_grad_());
      list->back().second.mutable_grad() = gradient.clone();
    }
  }
  const auto before = first[1].second.detach().clone();
  optimizer_for(first, {.optimizer = "muon", .weight_decay = 0.0})->step(0.01);
  optimizer_for(second, {.optimizer = "adamw", .weight_decay = 0.0})->step(0.01);
  for (const int i : {0, 2, 3}) CHECK(at::equal(first[i].second, second[i].second));
  CHECK_FALSE(at::equal(first[1].second, second[1].second));
  // Nesterov's first step goes along the gradient; its update has the size that AdamW's typically has, 0.2 a number:
  // 0.2 sqrt(8) times a matrix of 6 orthonormal columns of 8 numbers.
  const auto update = (before - first[1].second) / 0.01;
  CHECK(at::linalg_matrix_norm(update, 2).item<double>() < 0.2 * std::sqrt(8.0) * 1.2);
  CHECK(at::linalg_matrix_norm(update, -2).item<double>() > 0.2 * std::sqrt(8.0) * 0.3);
}

TEST_CASE("optimizer: muon takes the weights of the blocks' linear layers, and of every variant nothing else") {
  const auto check = [](const std::string& variant) {
    INFO(variant);
    std::vector<Problem> problems;
    const auto config = RunConfig::from_json({{"model", {{"depth", 1}, {"model_dim", 16}, {"num_heads", 2}}},
                                              {"attention", {{"variant", variant}}},
                                              {"data", {{"source", "copy"}, {"alphabet", 6}, {"context", 24}}}},
                                             problems);
    if (!problems.empty()) FAIL(problems[0].path << ": " << problems[0].message);
    Transformer model(config.model, config.attention, 24, 0);
    std::set<std::string> linear, hidden;
    for (const auto& module : model.named_modules("", /*include_self=*/false))
      if (module.key().starts_with("blocks.") && std::dynamic_pointer_cast<Linear>(module.value()))
        linear.insert(module.key() + ".weight");
    Named parameters;
    for (const auto& item : model.named_parameters()) parameters.emplace_back(item.key(), item.value());
    const auto optimizer = optimizer_for(parameters, {.optimizer = "muon"});
    for (const auto& slot : optimizer->slots())
      if (slot.hidden_matrix) hidden.insert(slot.name);
    CHECK(hidden == linear);
    return hidden;
  };
  const auto mamba = check("mamba2");
  CHECK(!mamba.empty());
  CHECK_FALSE(mamba.contains("blocks.0.mixer.attention.convolution.weight"));
  for (const auto& variant : all_variants())
    if (variant.traits.contains(Trait::causal)) check(variant.name);
}

TEST_CASE("optimizer: a factorised embedding's maps and relative positions are decayed as the embedding is") {
  const Named parameters = {{"embedding.up.weight", leaf({4, 2})},
                            {"head_down.weight", leaf({2, 4})},
                            {"position_bias.weight", leaf({8, 2})}};
  for (const bool decayed : {false, true}) {
    const auto optimizer = optimizer_for(parameters, {.weight_decay = 0.5, .decay_embeddings = decayed});
    for (const auto& slot : optimizer->slots()) {
      INFO(slot.name);
      CHECK(slot.weight_decay == (decayed ? 0.5 : 0));
    }
  }
}

TEST_CASE("optimizer: embeddings are decayed unless told not to, vectors only if told so") {
  const auto decays = [](const TrainOptions& options) {
    std::map<std::string, double> result;
    const auto optimizer = optimizer_for({{"embedding.token", leaf({4, 2})},
                                          {"blocks.0.norm1.weight", leaf({2})},
                                          {"blocks.0.mixer.output.weight", leaf({2, 2})},
                                          {"head.weight", leaf({4, 2})}},
                                         options);
    for (const auto& slot : optimizer->slots()) result[slot.name] = slot.weight_decay;
    return result;
  };
  CHECK(decays({.weight_decay = 0.5}) == std::map<std::string, double>{{"embedding.token", 0.5},
                                                                       {"blocks.0.norm1.weight", 0},
                                                                       {"blocks.0.mixer.output.weight", 0.5},
                                                                       {"head.weight", 0.5}});
  CHECK(decays({.weight_decay = 0.5, .decay_embeddings = false, .decay_vectors = true}) ==
        std::map<std::string, double>{{"embedding.token", 0},
                                      {"blocks.0.norm1.weight", 0.5},
                                      {"blocks.0.mixer.output.weight", 0.5},
                                      {"head.weight", 0}});
}

TEST_CASE("optimizer: embeddings and vectors have rates of their own, and one of 1 is no option's") {
  // Plain descent: each moves by its rate times its gradient.
  const Named parameters = {{"embedding.token", leaf({4, 2})},
                            {"head.weight", leaf({4, 2})},
                            {"blocks.0.norm1.weight", leaf({2})},
                            {"blocks.0.mixer.output.weight", leaf({2, 2})}};
  const std::map<std::string, double> rates = {{"embedding.token", 0.5},
                                               {"head.weight", 0.5},
                                               {"blocks.0.norm1.weight", 3},
                                               {"blocks.0.mixer.output.weight", 1}};
  std::map<std::string, Tensor> before;
  for (const auto& [name, parameter] : parameters) {
    before[name] = parameter.detach().clone();
    parameter.mutable_grad() = at::ones_like(parameter);
  }
  optimizer_for(parameters, {.optimizer = "sgd", .momentum = 0.0, .embedding_rate = 0.5, .vector_rate = 3.0})
      ->step(0.25);
  for (const auto& [name, parameter] : parameters) {
    INFO(name);
    CHECK(at::allclose(before[name] - parameter, at::full_like(parameter, 0.25 * rates.at(name)), 1e-12, 1e-14));
  }
  CHECK_FALSE(resolved({.embedding_rate = 1.0}).embedding_rate);
  CHECK_FALSE(resolved({.vector_rate = 1.0}).vector_rate);
}

TEST_CASE("optimizer: a parameter without a gradient is left alone by every one") {
  for (const auto& name : all_optimizers()) {
    INFO(name);
    const auto a = leaf({2, 2}), unused = leaf({5, 5});
    const auto before = unused.detach().clone(), used_before = a.detach().clone();
    const auto optimizer =
        optimizer_for({{"a", a}, {"blocks.0.unused", unused}}, {.optimizer = name, .weight_decay = 1.0});
    a.mutable_grad() = at::ones({2, 2}, at::kDouble);
    optimizer->step(0.1);
    CHECK(at::equal(unused, before));
    CHECK_FALSE(at::equal(a, used_before));
    optimizer->zero_gradients();
    CHECK_FALSE(a.grad().defined());
  }
}

TEST_CASE("optimizer: the state of every one, given to another, makes it go on to the same bits") {
  std::vector<TrainOptions> all;
  for (const auto& name : all_optimizers()) all.push_back({.optimizer = name});
  CHECK(all.size() == 6);
  for (const auto* name : {"adamw", "sgd"}) all.push_back({.schedule = "schedule_free", .optimizer = name});
  for (const auto& options : all) {
    INFO(options.optimizer << " " << options.schedule);
    at::manual_seed(2);
    Named first, second;
    for (const auto* parameter : {"blocks.0.a.weight", "embedding.b", "blocks.0.gain"}) {
      const auto a = std::string(parameter) == "blocks.0.gain" ? leaf({3}) : leaf({4, 3});
      first.emplace_back(parameter, a);
      second.emplace_back(parameter, a.detach().clone().requires_grad_());
    }
    const auto one = optimizer_for(first, options), other = optimizer_for(second, options);
    const auto step = [](Optimizer& optimizer, const Named& parameters, int t) {
      for (const auto& [unused, parameter] : parameters)
        parameter.mutable_grad() = at::arange(parameter.numel(), at::kDouble).add(t).sin().view(parameter.sizes());
      optimizer.step(0.01);
    };
    for (int t = 1; t <= 5; ++t) step(*one, first, t);
    {
      const torch::NoGradGuard no_gradients;
      for (size_t i = 0; i < first.size(); ++i) second[i].second.copy_(first[i].second);
    }
    CHECK_FALSE(one->state().empty());
    other->restore(one->state(), one->steps_taken());
    for (int t = 6; t <= 9; ++t) {
      step(*one, first, t);
      step(*other, second, t);
    }
    for (size_t i = 0; i < first.size(); ++i) CHECK(at::equal(first[i].second, second[i].second));
    const auto averages = other->averaged_weights();
    CHECK(averages.empty() == (options.schedule != "schedule_free"));
    for (const auto& [name, average] : one->averaged_weights()) CHECK(at::equal(average, averages.at(name)));
  }
}

TEST_CASE("optimizer: gradients that count for less are smaller gradients, to every one") {
  for (const auto dtype : {at::kDouble, at::kFloat})  // the second has a kernel
    for (const auto& name : all_optimizers()) {
      CAPTURE(name, dtype);
      const auto a = at::ones({3, 4}, dtype).requires_grad_(), b = at::ones({3, 4}, dtype).requires_grad_();
      const auto gradient = at::linspace(-1, 1, 12, dtype).view({3, 4});
      const auto one = optimizer_for({{"a", a}}, {.optimizer = name}),
                 other = optimizer_for({{"a", b}}, {.optimizer = name});
      a.mutable_grad() = gradient.clone();
      one->step(0.1, 0.25);
      b.mutable_grad() = gradient * 0.25;
      other->step(0.1);
      CHECK(at::equal(a, b));
    }
}
