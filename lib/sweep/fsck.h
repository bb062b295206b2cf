#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Something in a results folder that is not as the program left it.
struct Finding {
  std::filesystem::path place;
  std::string problem;
  std::string repair;
  bool damage = true;  ///< false: a leftover or an unfinished end that the next sweep deals with by itself
};

struct FsckReport {
  int64_t runs = 0, finished = 0, checkpoints = 0;
  int64_t at_work = 0;               ///< runs that some process trains now: they are in motion, and were not checked
  std::vector<std::string> workers;  ///< who trains them: `host, process 12`
  std::vector<Finding> findings;
  bool clean() const;  ///< no damage
  Json to_json() const;
};

/// Reads everything in a sweep's folder and changes nothing: plan, table, and of each run the configuration (against
/// the run's id), the log (against the hash in the result, each row), the result (against its seal), and the
/// checkpoints (against their manifests). Rows of results of builds before seals are checked as far as they go. What
/// was decided by early stopping must follow by the rule. A sweep may be at work here: what it changes meanwhile is no
/// damage, and of its leases (core/lease.h) it is known which runs are in motion.
/// @throws IoError if a file cannot be read, or the folder is not there
FsckReport check_folder(const std::filesystem::path& folder);

}  // namespace attnscale
