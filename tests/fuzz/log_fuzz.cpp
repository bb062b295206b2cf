// Logs and rows of results, as the disk holds them: after any bytes, what is read is a prefix of whole lines, a line
// can be added, and opening again does no further damage; the table of results is rows, or a message.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <unistd.h>

#include "core/files.h"
#include "report/run_table.h"
#include "scaling/result_rows.h"
#include "train/log_rows.h"

using namespace attnscale;

namespace {

/// A folder in memory, gone with the process.
struct Folder {
  std::filesystem::path path = std::filesystem::path("/dev/shm") / ("attnscale-fuzz-" + std::to_string(::getpid()));
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

void write(const std::filesystem::path& file, std::string_view bytes) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (descriptor < 0 || ::write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    std::abort();
  ::close(descriptor);
}

void read_log(const std::filesystem::path& file, std::string_view bytes) {
  write(file, bytes);
  const auto whole = std::string(bytes.substr(0, bytes.rfind('\n') + 1));
  const auto lines = std::count(whole.begin(), whole.end(), '\n');
  { const AppendLog log(file); }
  if (read_file(file) != whole || count_lines(file) != lines) std::abort();
  {
    AppendLog log(file);
    log.truncate_to(lines / 2);
    log.append("{}");
  }
  const auto cut = read_file(file);
  { const AppendLog log(file); }
  if (read_file(file) != cut || count_lines(file) != lines / 2 + 1) std::abort();
  try {
    for (const auto& row : log_rows_with("eval", bytes, "fuzz"))
      if (row.at("eval") != true) std::abort();
  } catch (const DataError&) {
  }
}

void read_results(const std::filesystem::path& folder, std::string_view bytes) {
  write(folder / "results.jsonl", bytes);
  try {
    const auto table = RunTable::read(folder);
    if (table.cells(table.paths()).size() != table.num_rows()) std::abort();
    for (const auto& path : table.paths())
      if (table.resolve(table.short_name(path)) != path) std::abort();
  } catch (const DataError&) {
  }
  try {
    const auto results = read_result_rows(folder);
    if (results.rows.size() != results.places.size()) std::abort();
    for (const auto& row : results.rows)
      if (row.at("id").get<std::string>().empty()) std::abort();
  } catch (const DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read_log(folder.path / "log.jsonl", bytes);
  read_results(folder.path, bytes);
  return 0;
}
