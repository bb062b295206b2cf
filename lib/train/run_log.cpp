#include "train/run_log.h"

#include <cmath>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {
namespace {

// Often enough to watch a run, seldom enough to cost nothing.
constexpr auto flush_interval = std::chrono::milliseconds(300);

}  // namespace

RunLog::RunLog(const std::filesystem::path& file, int64_t lines) : file_(file), log_(file), lines_(lines) {
  log_.truncate_to(lines);
}

void RunLog::append(const Json& row) {
  log_.append(row.dump());
  ++lines_;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_flush_ < flush_interval) return;
  log_.flush();
  last_flush_ = now;
}

void RunLog::add_step(int64_t step, const StepResult& result, bool scaled) {
  Json row = {{"step", step}};
  if (std::isfinite(result.loss)) row["loss"] = result.loss;
  row["learning_rate"] = result.learning_rate;
  if (std::isfinite(result.gradient_norm)) row["gradient_norm"] = result.gradient_norm;
  if (scaled) row["loss_scale"] = result.loss_scale;
  if (result.overflow || !result.finite) row["skipped"] = true;
  append(row);
}

void RunLog::truncate_to(int64_t lines) {
  log_.truncate_to(lines);
  lines_ = lines;
}

void RunLog::add_evaluation(int64_t step, const Evaluation& evaluation, int64_t tokens, double flops, bool in_detail) {
  Json row = {{"step", step}, {"eval", true}, {"loss", evaluation.loss}, {"tokens", tokens}, {"flops", flops}};
  if (evaluation.bayes_loss) {
    row["bayes_loss"] = *evaluation.bayes_loss;
    row["excess"] = evaluation.loss - *evaluation.bayes_loss;
  }
  if (in_detail && evaluation.bayes_loss_error) row["bayes_loss_error"] = *evaluation.bayes_loss_error;
  row["accuracy"] = evaluation.accuracy;
  if (in_detail) row.update(details(evaluation));
  append(row);
}

/// Rows that say `"<mark>": true`.
std::vector<Json> RunLog::rows_with(const std::string& mark) {
  log_.flush();
  const auto content = read_file(file_);
  const auto sign = fmt::format("\"{}\":true", mark);
  std::vector<Json> rows;
  for (size_t at = 0; at < content.size();) {
    const auto end = content.find('\n', at);
    const auto line = std::string_view(content).substr(at, end - at);
    // Most rows are steps; only those that say so are worth parsing.
    if (line.find(sign) != std::string_view::npos) {
      auto row = Json::parse(line, nullptr, false);
      if (row.is_discarded())
        throw DataError(fmt::format("{}: byte {}: not a row of JSON; the file is damaged", file_.string(), at));
      rows.push_back(std::move(row));
    }
    at = end + 1;
  }
  return rows;
}

}  // namespace attnscale
