#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace attnscale {

/// Whole content of a file. @throws IoError naming the file and the system's reason
std::string read_file(const std::filesystem::path& file);

/// As `read_file`, for what a user names: a regular file, or standard input for `-` and `/dev/stdin`, and not more than
/// `most_bytes`; never waits for the writer of a named pipe.
/// @throws IoError as `read_file`, and for a folder, a pipe or a device; DataError if there is more
std::string read_bounded(const std::filesystem::path& file, int64_t most_bytes);

/// Complete lines of a file, 0 if it is not there. @throws IoError
int64_t count_lines(const std::filesystem::path& file);

/// Replaces a file so that a crash leaves either the old content or the new, never a mixture:
/// temporary file beside it, fsync, rename, fsync of the folder. @throws IoError
void write_file_atomically(const std::filesystem::path& file, std::string_view content);

/// Tries what `write_file_atomically` begins with, and leaves nothing behind: for what takes long to make.
/// @throws IoError if the folder is missing or cannot be written, or a folder stands in the file's place
void check_replaceable(const std::filesystem::path& file);

/// Waits until the disk has a folder's list of names; on file systems that cannot, does nothing. @throws IoError
void sync_folder(const std::filesystem::path& folder);

/// Creates a folder and its parents. @throws IoError naming the folder
void make_folder(const std::filesystem::path& folder);

/// A file that only grows, one line a record, with one writer.
class AppendLog {
 public:
  /// Opens or creates; what stands after the last complete line (a torn write) is cut off.
  /// @throws IoError
  explicit AppendLog(const std::filesystem::path& file);
  ~AppendLog();
  AppendLog(const AppendLog&) = delete;
  AppendLog& operator=(const AppendLog&) = delete;

  /// Adds one line; buffered until `sync`, or until the buffer is full. @throws IoError
  void append(std::string_view line);

  /// Hands the buffer to the operating system, so that a killed process loses nothing. @throws IoError
  void flush();

  /// `flush`, then waits until the disk has it. @throws IoError
  void sync();

  /// Keeps the first `lines` lines, drops what follows; the file may have been renamed. @throws IoError, DataError if there are fewer
  void truncate_to(int64_t lines);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
  std::string buffer_;
};

}  // namespace attnscale
