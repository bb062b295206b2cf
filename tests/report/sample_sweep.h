#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/files.h"
#include "core/json.h"
#include "scratch_folder.h"

namespace attnscale::sample {

struct Options {
  std::vector<std::string> variants = {"softmax", "sliding_window"};
  std::vector<int> depths = {1, 2, 4};
  std::vector<int> widths = {16, 32, 64};
  std::vector<int> seeds = {1, 2, 3};
  std::vector<int> steps = {500};
  bool truth = true;
  bool fits = true;
  bool one_diverged_one_failed = true;
};

inline double params_of(int depth, int width) { return 12.0 * depth * width * width + 64.0 * width; }

/// Loss 1.7 + 12 N^-0.35 + 40 D^-0.5, worse by .02 for other variants than softmax, plus a seed's share.
inline double loss_of(const std::string& variant, double params, double tokens, int seed) {
  return 1.7 + 12 * std::pow(params, -0.35) + 40 * std::pow(tokens, -0.5) + (variant == "softmax" ? 0 : 0.02) +
         0.004 * (seed - 2) + 0.003 * std::sin(params * seed + static_cast<double>(variant.size()));
}

inline Json row(const std::string& variant, int depth, int width, int steps, int seed, bool truth) {
  const double params = params_of(depth, width), tokens = 1024.0 * steps;
  const double loss = loss_of(variant, params, tokens, seed);
  Json curve = {{"steps", Json::array()}, {"tokens", Json::array()}, {"flops", Json::array()}, {"loss", Json::array()}};
  for (int i = 1; i <= 20; ++i) {
    const double at = tokens * i / 20;
    curve["steps"].push_back(steps * i / 20);
    curve["tokens"].push_back(at);
    curve["flops"].push_back(6 * params * at);
    curve["loss"].push_back(loss + 1.5 * std::exp(-0.25 * i) - 1.5 * std::exp(-0.25 * 20));
  }
  Json result = {{"schema", "attnscale.result/1"},
                 {"id", fmt::format("{}{:02d}{:03d}{:04d}{}", variant.substr(0, 4), depth, width, steps, seed)},
                 {"status", "done"},
                 {"loss", loss},
                 {"best_loss", loss},
                 {"steps", steps},
                 {"params", params},
                 {"parameters", {{"total", params}, {"without_embeddings", params - 64.0 * width}}},
                 {"tokens", tokens},
                 {"flops", 6 * params * tokens},
                 {"seed", seed},
                 {"curve", curve},
                 {"positions",
                  {{"first", {1, 2, 4}},
                   {"last", {1, 3, 7}},
                   {"count", {8, 16, 32}},
                   {"loss", {loss + 0.5, loss + 0.2, loss - 0.1}},
                   {"bayes_loss", {2.1, 1.8, 1.6}}}},
                 {"config",
                  {{"model", {{"depth", depth}, {"model_dim", width}, {"num_heads", 4}}},
                   {"attention", {{"variant", variant}}},
                   {"data", {{"source", "zipf_memory"}, {"context", 64}}},
                   {"train", {{"steps", steps}, {"learning_rate", 0.003}, {"seed", seed}}}}},
                 {"timing", {{"seconds", 2.5 + params * 1e-5}, {"tokens_per_second", 200000.0}}},
                 {"provenance",
                  {{"version", "0.1.0"},
                   {"commit", "abc1234"},
                   {"compiler", "g++ 12"},
                   {"torch", "2.13.0"},
                   {"cpu", "a processor"},
                   {"threads", 1},
                   {"host", "a host"},
                   {"data", "fingerprint"},
                   {"command", "attnscale sweep spec.json"},
                   {"started", "2025-01-01T00:00:00Z"},
                   {"finished", "2025-01-01T00:01:00Z"}}}};
  if (truth) {
    result["bayes_loss"] = 1.7;
    result["excess"] = loss - 1.7;
    result["truth"] = {
        {"entropy_rate", 1.7}, {"bayes_loss", 1.7}, {"bayes_loss_error", 0.001}, {"derivation", "by hand"}};
  }
  return result;
}

inline void spoil(Json& row, const std::string& status) {
  for (const char* key : {"loss", "best_loss", "excess", "bayes_loss"}) row.erase(key);
  row["status"] = status;
  if (status == "diverged") row["diverged_at"] = 137;
  else row["message"] = "out of memory: asked for 3 GiB";
}

inline std::vector<Json> rows(const Options& options) {
  std::vector<Json> list;
  for (const auto& variant : options.variants)
    for (const int depth : options.depths)
      for (const int width : options.widths)
        for (const int steps : options.steps)
          for (const int seed : options.seeds) list.push_back(row(variant, depth, width, steps, seed, options.truth));
  if (options.one_diverged_one_failed && list.size() > 2) {
    spoil(list.back(), "diverged");
    spoil(list.front(), "failed");
  }
  return list;
}

inline Json scaling(const Options& options) {
  const Json law_n = {{"E", 1.75},
                      {"A", 12.2},
                      {"alpha", 0.352},
                      {"objective", 1e-5},
                      {"gradient_norm", 1e-9},
                      {"intervals", {{"E", {1.69, 1.79}}, {"A", {10.0, 14.0}}, {"alpha", {0.31, 0.39}}}},
                      {"flags", Json::array()}};
  Json law_nd = {{"E", 1.705},
                 {"A", 12.0},
                 {"alpha", 0.35},
                 {"B", 40.0},
                 {"beta", 0.5},
                 {"objective", 1e-5},
                 {"gradient_norm", 1e-9},
                 {"intervals", {{"E", {1.66, 1.74}}, {"beta", {0.45, 0.55}}}},
                 {"flags", Json::array()}};
  const Json fit = {{"n_points", 18}, {"n_runs", 54}, {"forms", {{"L(N)", law_n}, {"L(N,D)", law_nd}}}};
  Json fits = {{"all", fit}};
  for (const auto& variant : options.variants) fits[variant] = fit;
  return {{"schema", "attnscale.scaling/1"},
          {"sweep", "sample"},
          {"points", Json::array()},
          {"fits", fits},
          {"doubts",
           {{{"id", "few_values_D"},
             {"severity", "warning"},
             {"text", "B and beta rest on few token counts"},
             {"in", {"all L(N,D)", "softmax L(N,D)"}},
             {"times", 2}},
            {{"id", "E_of_one_variable"}, {"severity", "note"}, {"text", "only a note"}, {"in", {"all L(N)"}}}}},
          {"notes", {"1 diverged run is censored."}}};
}

inline void write_rows(const std::filesystem::path& folder, const std::vector<Json>& list) {
  std::string text;
  for (const Json& item : list) text += item.dump() + "\n";
  write_file_atomically(folder / "results.jsonl", text);
}

/// spec.json, results.jsonl and (with fits) scaling.json.
inline void write(const std::filesystem::path& folder, const Options& options) {
  write_rows(folder, rows(options));
  write_file_atomically(folder / "spec.json",
                        Json{{"name", "sample sweep"}, {"base", {{"data", {{"source", "zipf_memory"}}}}}}.dump());
  if (options.fits) write_file_atomically(folder / "scaling.json", scaling(options).dump());
}

}  // namespace attnscale::sample
