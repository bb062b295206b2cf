# Eigen 3.4: linear algebra of the scaling-law fits.
find_package(Eigen3 3.4 QUIET NO_MODULE)
if(NOT Eigen3_FOUND)
  include(${CMAKE_CURRENT_LIST_DIR}/release_archive.cmake)
  attnscale_release(Eigen3 3.4.0
      URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.bz2
      SHA256 b4c198460eba6f28d34894e3a5710998818515104d6e74e5cc331ce31e46e626)
  attnscale_header_library(Eigen3::Eigen "${Eigen3_SOURCE_DIR}")
endif()
