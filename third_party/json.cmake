# JSON for Modern C++.
find_package(nlohmann_json 3.11 QUIET)
if(NOT nlohmann_json_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_fetch_headers(nlohmann_json::nlohmann_json include nlohmann_json VERSION 3.11.3
      URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
      SHA256 d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d)
endif()
