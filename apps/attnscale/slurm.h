#pragma once

#include "commands.h"

namespace attnscale {

/// `sweep --executor slurm`, and what belongs to it.
struct SlurmArguments {
  std::string executor = "local";
  bool status = false, collect = false;
  std::vector<std::string> sbatch;
  int notice_seconds = 120;

  void add_to(CLI::App& command);
  bool wanted() const { return executor == "slurm"; }
  /// @throws CLI::ValidationError for options that do nothing together
  void check() const;
};

struct SweepArguments {
  SpecArguments spec;
  std::string out;
  JobsArgument jobs;
  int threads = 1;
  double lease_seconds = 60;
  SlurmArguments slurm;
};

/// Submits, says where the runs stand, or makes table and report of what has ended.
ExitCode sweep_by_slurm(const SweepArguments& arguments);

}  // namespace attnscale
