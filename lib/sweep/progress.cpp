#include "sweep/progress.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include <unistd.h>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/table.h"
#include "core/units.h"

namespace attnscale {
namespace {

bool can_redraw() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) && term && std::string(term) != "dumb" && !std::getenv("NO_COLOR");
}

std::string bar(double fraction, int width) {
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width + 0.5);
  return "[" + std::string(full, '#') + std::string(width - full, '.') + "]";
}

}  // namespace

ProgressView::ProgressView(int64_t runs, int64_t already_done, double total_work)
    : runs_(runs),
      done_(already_done),
      total_work_(total_work),
      begin_(std::chrono::steady_clock::now()),
      last_draw_(begin_),
      redraw_(can_redraw()) {}

ProgressView::~ProgressView() {
  if (drawn_) std::cerr << "\n";
}

double ProgressView::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

void ProgressView::started(const std::string& id, double work) { active_[id] = {work, 0, {}}; }

void ProgressView::progressed(const std::string& id, const Json& progress) {
  auto& run = active_[id];
  run.fraction = progress.value("step", 0.0) / std::max(1.0, progress.value("steps", 1.0));
  if (progress.contains("loss")) run.loss = progress["loss"].get<double>();
}

void ProgressView::finished(const std::string& id, const Json& row) {
  const auto status = row.value("status", "");
  const bool stopped = status == "stopped";
  const double work = active_[id].work;
  // What a run that is stopped early leaves undone was not done fast.
  const double part =
      stopped ? number_at(row, "steps").value_or(0) / number_at(row, "config.train.steps").value_or(1) : 1;
  finished_work_ += part * work;
  total_work_ -= (1 - part) * work;
  active_.erase(id);
  ++done_;
  if (stopped) ++stopped_;
  else if (status != "done") ++failed_;
  std::string doubts;
  if (row.contains("flags"))
    for (const auto& flag : row["flags"]) doubts += "; " + flag.get<std::string>();
  if (redraw_) {
    if ((status != "done" && !stopped) || !doubts.empty())
      say(fmt::format("{}: {} {}{}", id, status, row.value("message", ""), doubts));
    return draw();
  }
  const auto loss =
      row.contains("loss") ? fmt::format(" loss {:.4f}", row["loss"].get<double>()) : " " + row.value("message", "");
  say(fmt::format("{} {}{}{}  {}", id, status, loss, doubts, summary()));
  last_draw_ = std::chrono::steady_clock::now();
}

std::string ProgressView::summary() const {
  double work = finished_work_;
  std::optional<double> loss;
  for (const auto& [id, run] : active_) {
    work += run.work * run.fraction;
    if (run.loss) loss = run.loss;
  }
  auto text = fmt::format("{}/{} runs", done_, runs_);
  if (work > 0 && work < total_work_)
    text += fmt::format(", {} left", duration_text(seconds() * (total_work_ - work) / work));
  if (!active_.empty()) text += fmt::format(", {} running", active_.size());
  if (loss) text += fmt::format(", loss {:.3f}", *loss);
  if (stopped_ > 0) text += fmt::format(", {} stopped early", stopped_);
  if (failed_ > 0) text += fmt::format(", {} failed", failed_);
  return text;
}

void ProgressView::tick() {
  const double since = std::chrono::duration<double>(std::chrono::steady_clock::now() - last_draw_).count();
  if (redraw_ && since > 0.2) draw();
  if (!redraw_ && since > 15) {
    say(summary());
    last_draw_ = std::chrono::steady_clock::now();
  }
}

void ProgressView::draw() {
  const size_t width = terminal_width(STDERR_FILENO);
  double work = finished_work_;
  for (const auto& [id, run] : active_) work += run.work * run.fraction;
  auto line = summary();
  if (width >= line.size() + 25) line = bar(total_work_ > 0 ? work / total_work_ : 1, 20) + " " + line;
  if (line.size() > width - 1) line.resize(width - 1);
  std::cerr << "\r\x1b[K" << line << std::flush;
  drawn_ = true;
  last_draw_ = std::chrono::steady_clock::now();
}

void ProgressView::say(const std::string& text) {
  if (drawn_) std::cerr << "\r\x1b[K";
  drawn_ = false;
  std::cerr << text << std::endl;
}

}  // namespace attnscale
