# Catch2 3: the tests' framework, and catch_discover_tests.
find_package(Catch2 3 QUIET)
if(NOT Catch2_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(Catch2 3.7.1
      URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
      SHA256 c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c)
  add_subdirectory("${Catch2_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/releases/Catch2-build" EXCLUDE_FROM_ALL SYSTEM)
  list(APPEND CMAKE_MODULE_PATH "${Catch2_SOURCE_DIR}/extras")
endif()
include(Catch)
