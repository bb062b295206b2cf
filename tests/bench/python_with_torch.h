#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

/// An interpreter that can import torch: ATTNSCALE_PYTHON, or that of the virtual environment beside the program;
/// empty: none.
inline std::string python_with_torch() {
  static const std::string found = [] {
    const auto venv = std::filesystem::path(ATTNSCALE_PROGRAM).parent_path() / "venv/bin/python";
    const char* given = std::getenv("ATTNSCALE_PYTHON");
    for (const auto& python : {std::string(given ? given : ""), venv.string()})
      if (!python.empty() && std::system(("\"" + python + "\" -c 'import torch' > /dev/null 2>&1").c_str()) == 0)
        return python;
    return std::string();
  }();
  return found;
}
