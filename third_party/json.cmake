# JSON for Modern C++.
find_package(nlohmann_json 3.11 QUIET)
if(NOT nlohmann_json_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(nlohmann_json 3.11.2
      URL https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz
      SHA256 d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273)
  attnscale_header_library(nlohmann_json::nlohmann_json "${nlohmann_json_SOURCE_DIR}/include")
endif()
