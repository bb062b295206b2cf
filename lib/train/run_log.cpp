#include "train/run_log.h"

#include <cmath>

#include <fmt/format.h>

#include "core/error.h"
#include "core/lease.h"
#include "train/log_rows.h"

namespace attnscale {
namespace {

// Often enough to watch a run, seldom enough to cost nothing.
constexpr auto flush_interval = std::chrono::milliseconds(300);

/// Where a log is written: in its place, or as a copy in the stage.
std::filesystem::path writing_place(const std::filesystem::path& file, const std::filesystem::path& stage) {
  if (stage.empty()) return file;
  check_stage(stage);
  const auto copy = stage / file.filename();
  if (std::filesystem::exists(file))
    std::filesystem::copy_file(file, copy, std::filesystem::copy_options::overwrite_existing);
  return copy;
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& file, int64_t lines, const std::filesystem::path& stage)
    : file_(file), stage_(stage), log_(writing_place(file, stage)), lines_(lines) {
  log_.truncate_to(lines);
  if (stage_.empty()) return;
  log_.sync();
  publish(stage_, stage_ / file_.filename(), file_);
}

void RunLog::sync() {
  check_stage(stage_);
  log_.sync();
}

void RunLog::append(const Json& row) {
  log_.append(row.dump());
  ++lines_;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_flush_ < flush_interval) return;
  check_stage(stage_);
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

void RunLog::add_evaluation(int64_t step, const Evaluation& evaluation, int64_t tokens, double flops, bool in_detail,
                            const Json& more) {
  Json row = {{"step", step}, {"eval", true}, {"loss", evaluation.loss}, {"tokens", tokens}, {"flops", flops}};
  if (evaluation.bayes_loss) {
    row["bayes_loss"] = *evaluation.bayes_loss;
    row["excess"] = evaluation.loss - *evaluation.bayes_loss;
  }
  if (in_detail && evaluation.bayes_loss_error) row["bayes_loss_error"] = *evaluation.bayes_loss_error;
  row["accuracy"] = evaluation.accuracy;
  if (in_detail) row.update(details(evaluation));
  row.update(more);
  append(row);
}

std::vector<Json> RunLog::rows_with(const std::string& mark) {
  log_.flush();
  return log_rows_with(mark, read_file(file_), file_.string());
}

}  // namespace attnscale
