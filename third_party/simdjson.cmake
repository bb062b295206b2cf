# simdjson: reads tables of tens of thousands of runs in a blink. The hash is the one that Homebrew records.
find_package(simdjson 3.0 QUIET)
if(NOT simdjson_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(simdjson 3.0.1
      URL https://github.com/simdjson/simdjson/archive/refs/tags/v3.0.1.tar.gz
      SHA256 156b1bc5eb0561b2bd166b46d191fd3d95a3e709cc63761477d3b7aec2b6e9ed)
  add_library(simdjson_release STATIC ${simdjson_SOURCE_DIR}/singleheader/simdjson.cpp)
  target_include_directories(simdjson_release SYSTEM PUBLIC ${simdjson_SOURCE_DIR}/singleheader)
  add_library(simdjson::simdjson ALIAS simdjson_release)
endif()
