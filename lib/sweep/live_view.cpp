#include "sweep/live_view.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/lease.h"
#include "core/units.h"
#include "sweep/plan.h"
#include "train/run_result.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// The newest step row of a log, by its last 8 KB; null if there is none.
Json newest_step(const fs::path& log) {
  constexpr std::streamoff most = 8192;
  std::ifstream file(log, std::ios::binary | std::ios::ate);
  if (!file) return nullptr;
  file.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(file.tellg()) - most));
  std::string text{std::istreambuf_iterator<char>(file), {}};
  auto end = text.rfind('\n');  // what follows is torn
  while (end != std::string::npos && end > 0) {
    const auto begin = text.rfind('\n', end - 1);
    const auto from = begin == std::string::npos ? 0 : begin + 1;
    auto row = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(from),
                           text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (row.is_object() && row.contains("learning_rate")) return row;
    end = begin;
  }
  return nullptr;
}

/// The p-quantile of sorted values, interpolated.
double quantile(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

std::string bar(double fraction, size_t width) {
  const auto full = static_cast<size_t>(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(width) + 0.5);
  return "[" + std::string(full, '#') + std::string(width - full, '.') + "]";
}

std::string left_text(const LiveState& state) {
  if (!state.seconds_left) return "";
  return fmt::format(", {} left ({} to {})", duration_text(*state.seconds_left), duration_text(*state.least_left),
                     duration_text(*state.most_left));
}

/// Cut to a width, never inside a character.
std::string cut(std::string line, size_t width) {
  if (line.size() <= width) return line;
  size_t end = width > 0 ? width - 1 : 0;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;
  return line.substr(0, end) + ">";
}

}  // namespace

LiveView::LiveView(fs::path folder) : folder_(std::move(folder)) {
  if (!fs::is_directory(folder_)) throw IoError(folder_.string() + ": no such folder; expected a sweep's");
  if (!fs::exists(folder_ / "plan.json"))
    throw DataError(folder_.string() + ": has no plan.json; name the folder of a sweep that has begun");
  const auto plan = read_json(folder_ / "plan.json").value;
  name_ = text_at(plan, "name");
  for (const auto& run : plan.at("runs")) {
    const auto steps = static_cast<int64_t>(number_at(run, "config.train.steps").value_or(1));
    const double depth = number_at(run, "config.model.depth").value_or(1);
    runs_.push_back({text_at(run, "id"), relative_work(number_at(run, "flops").value_or(0), steps, depth), steps});
    total_work_ += runs_.back().work;
  }
}

void LiveView::read_result(const Planned& run, LiveState& state) {
  const auto file = folder_ / "runs" / run.id / "result.json";
  std::error_code none;
  const auto written = fs::last_write_time(file, none);
  if (none) {
    ended_.erase(run.id);
    return;
  }
  auto known = ended_.find(run.id);
  if (known == ended_.end() || known->second.written != written) try {
      const Json row = read_row(file);
      known = ended_
                  .insert_or_assign(run.id, Ended{text_at(row, "status"), text_at(row, "message"),
                                                  number_at(row, "timing.seconds").value_or(0), written})
                  .first;
    } catch (const Error& error) {
      known = ended_.insert_or_assign(run.id, Ended{"damaged", error.what(), 0, written}).first;
    }
  const auto& end = known->second;
  ++(end.status == "done"       ? state.done
     : end.status == "stopped"  ? state.stopped
     : end.status == "diverged" ? state.diverged
                                : state.failed);
  if (end.status != "done" && end.status != "stopped")
    state.failures.push_back(fmt::format("{}: {} {}", run.id.substr(0, 8), end.status, printable(end.message)));
}

LiveState LiveView::look() {
  LiveState state;
  state.runs = static_cast<int64_t>(runs_.size());
  const auto now = std::chrono::steady_clock::now();
  std::vector<double> paces;  // seconds for a unit of work
  double work_left = 0;
  for (const auto& run : runs_) {
    read_result(run, state);
    if (const auto end = ended_.find(run.id); end != ended_.end()) {
      if (end->second.status == "done" && end->second.seconds > 0) paces.push_back(end->second.seconds / run.work);
      continue;
    }
    work_left += run.work;
    const auto run_folder = folder_ / "runs" / run.id;
    const auto lease = look_at_lease(run_folder);
    if (!lease.held) continue;
    LiveRun live{run.id, lease.holder, 0, run.steps, {}, {}};
    if (const auto row = newest_step(run_folder / "log.jsonl"); row.is_object()) {
      live.step = static_cast<int64_t>(number_at(row, "step").value_or(0));
      live.loss = number_at(row, "loss");
    }
    const auto [seen, fresh] = steps_seen_.try_emplace(run.id, live.step, now);
    const double seconds = std::chrono::duration<double>(now - seen->second.second).count();
    if (!fresh && seconds > 0) live.steps_per_second = static_cast<double>(live.step - seen->second.first) / seconds;
    seen->second = {live.step, now};
    work_left -= run.work * static_cast<double>(live.step) / static_cast<double>(std::max<int64_t>(1, run.steps));
    state.running.push_back(std::move(live));
  }
  state.fraction = total_work_ > 0 ? 1 - work_left / total_work_ : 1;
  if (paces.size() >= 2 && !state.running.empty()) {
    std::sort(paces.begin(), paces.end());
    const double shared = work_left / static_cast<double>(state.running.size());
    state.seconds_left = shared * quantile(paces, 0.5);
    state.least_left = shared * quantile(paces, 0.05);
    state.most_left = shared * quantile(paces, 0.95);
  }
  return state;
}

std::vector<std::string> live_text(const LiveState& state, const std::string& name, size_t width, size_t lines) {
  auto summary = fmt::format("{}/{} runs{}", state.ended(), state.runs, left_text(state));
  if (state.ended() < state.runs)
    summary += state.running.empty() ? ", nobody is at work" : fmt::format(", {} running", state.running.size());
  if (state.stopped > 0) summary += fmt::format(", {} stopped early", state.stopped);
  if (state.failed + state.diverged > 0) summary += fmt::format(", {} failed", state.failed + state.diverged);
  if (lines <= 1) {
    if (state.running.size() == 1 && state.running[0].loss)
      summary += fmt::format(", loss {:.3f}", *state.running[0].loss);
    return {cut(fmt::format("{}: {}", printable(name), summary), width)};
  }
  std::vector<std::string> text;
  text.push_back(cut(fmt::format("{}: {}", printable(name), summary), width));
  if (width > 10)
    text.push_back(bar(state.fraction, std::min<size_t>(60, width - 8)) +
                   fmt::format(" {:3.0f} %", 100 * state.fraction));
  for (const auto& run : state.running) {
    if (text.size() + 1 >= lines && state.running.size() > 1) {
      text.push_back(cut(fmt::format("  ... {} are running", state.running.size()), width));
      break;
    }
    auto line = fmt::format("  {} {}/{}", run.id.substr(0, 8), run.step, run.steps);
    if (run.loss) line += fmt::format("  loss {:.4f}", *run.loss);
    if (run.steps_per_second) line += fmt::format("  {:.1f} steps/s", *run.steps_per_second);
    text.push_back(cut(line + "  " + printable(run.holder), width));
  }
  const auto room = lines > text.size() ? lines - text.size() : 0;
  const auto shown = std::min({room, state.failures.size(), size_t{5}});
  for (size_t i = state.failures.size() - shown; i < state.failures.size(); ++i)
    text.push_back(cut("  " + state.failures[i], width));
  return text;
}

}  // namespace attnscale
