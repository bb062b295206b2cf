# CLI11: the command line's parser.
find_package(CLI11 2.1 QUIET)
if(NOT CLI11_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(CLI11 2.4.2
      URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
      SHA256 f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a)
  attnscale_header_library(CLI11::CLI11 "${CLI11_SOURCE_DIR}/include")
endif()
