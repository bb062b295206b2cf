# fmt, header-only: LibTorch's include folder brings another version of the headers, and only header-only use lets the
# two live side by side (each version has an inline namespace of its own).
find_package(fmt 9 QUIET)
if(NOT fmt_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(fmt 11.0.2
      URL https://github.com/fmtlib/fmt/releases/download/11.0.2/fmt-11.0.2.zip
      SHA256 40fc58bebcf38c759e11a7bd8fdc163507d2423ef5058bba7f26280c5b9c5465)
  attnscale_header_library(fmt::fmt-header-only "${fmt_SOURCE_DIR}/include")
  target_compile_definitions(fmt::fmt-header-only INTERFACE FMT_HEADER_ONLY=1)
endif()
