#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "sweep/store.h"

namespace attnscale {

/// How a sweep is handed to SLURM.
struct SlurmOptions {
  std::filesystem::path folder;   ///< of the results, which every node sees
  std::filesystem::path program;  ///< this program, at the same place on every node
  int threads = 1;                ///< of each run: --cpus-per-task
  int side_by_side = 0;           ///< tasks of an array at once; 0: as many as the cluster lets
  int notice_seconds = 120;       ///< before the time limit, in which a run saves and is put back into the queue
  double lease_seconds = 60;
  std::vector<std::string> sbatch;  ///< more options of sbatch, such as --partition=gpu
};

struct Submission {
  std::vector<std::string> jobs;  ///< array jobs, as sbatch named them
  size_t runs = 0;                ///< handed over
  size_t queued = 0;              ///< of earlier submissions, still waiting or running
  size_t done = 0;
};

/// Hands every run that is neither done nor in the queue to SLURM: job arrays of at most MaxArraySize tasks, one run
/// each, in DIR/slurm/. A task that is preempted is requeued by SLURM; one whose time ends saves and requeues itself;
/// either goes on from its checkpoint. Each run is leased (core/lease.h), so that a task that SLURM starts twice does
/// it once.
/// @throws IoError if SLURM's commands are not there or refuse, with their words, or if another process is at work in
/// the folder
Submission submit_to_slurm(const Spec& spec, const Plan& plan, const SlurmOptions& options);

/// Where the runs of earlier submissions stand, by SLURM's state (PENDING, RUNNING, ...). @throws IoError
std::map<std::string, std::string> slurm_states(const std::filesystem::path& folder);

/// One task of an array: the run at `index` of a list of ids, trained in this process.
/// @return the run's row; status `interrupted` after a stop signal
Json run_slurm_task(const std::filesystem::path& folder, const std::filesystem::path& list, int64_t index,
                    double lease_seconds);

}  // namespace attnscale
