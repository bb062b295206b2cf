#pragma once

namespace attnscale {

/// SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 only set a flag; a second SIGINT ends the process with 130.
void catch_stop_signals();

/// True once a stop signal came: finish the step, save, leave with ExitCode::interrupted.
bool stop_requested();

}  // namespace attnscale
