#pragma once

#include <string>

#include "commands.h"

namespace attnscale {

/// `plan` with a budget: what to train for it.
struct ProposalArguments {
  std::string budget;  ///< `2h`
  double flops = 0;
  std::string design = "grid";  ///< grid, isoflop
  std::string like;             ///< sweep or table whose L(N, D) is taken for the prior
  std::string adaptive;         ///< folder of a sweep to go on with
  std::string write;            ///< where the spec goes
  double noise = 0.004;
  int seeds = 0;  ///< 0: the spec's own

  void add_to(CLI::App& command);
  bool wanted() const { return !budget.empty() || flops > 0; }
  /// @throws CLI::ValidationError for options that do nothing together
  void check() const;
};

/// Prints the design and which intervals it can reach, and writes its spec.
ExitCode propose(const SpecArguments& spec, const ProposalArguments& arguments, const JobsArgument& jobs, bool json);

}  // namespace attnscale
