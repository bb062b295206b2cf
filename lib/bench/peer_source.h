#pragma once

#include <string>

namespace attnscale {

/// A script of lib/bench as `PythonPeer` takes it, with the module that such scripts import.
std::string with_common_module(const std::string& script);

}  // namespace attnscale
