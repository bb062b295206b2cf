#pragma once

namespace attnscale {

/// A closed pipe and a file beyond the size limit (`ulimit -f`) become errors of write, with a message, instead of a
/// silent death.
void ignore_write_signals();

/// For commands that save what they do. SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 only set a flag; a second SIGINT ends the
/// process with 130.
void catch_stop_signals();

/// True once a stop signal came: finish the step, save, leave with ExitCode::interrupted.
bool stop_requested();

}  // namespace attnscale
