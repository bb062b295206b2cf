# Configures, builds and runs the unit tests of the `asan` preset in build-asan, from the project's folder:
#   cmake [-DTorch_DIR=<folder of TorchConfig.cmake>] -P tests/sanitizers/asan.cmake
# This is the test labelled `asan` of an ordinary build (`ctest -L asan`, `scripts/test.sh -L asan`), left out by
# scripts/test.sh because it builds everything a second time. A second run rebuilds only what changed.

cmake_host_system_information(RESULT memory_mb QUERY TOTAL_PHYSICAL_MEMORY)
cmake_host_system_information(RESULT jobs QUERY NUMBER_OF_LOGICAL_CORES)
# A sanitized translation unit that sees LibTorch takes up to 2 GB to compile.
math(EXPR by_memory "${memory_mb} / 2000")
if(by_memory LESS jobs)
  set(jobs ${by_memory})
endif()
if(jobs LESS 1)
  set(jobs 1)
endif()

set(options "")
if(Torch_DIR)
  set(options -DTorch_DIR=${Torch_DIR})
endif()
execute_process(COMMAND ${CMAKE_COMMAND} --preset asan ${options} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build --preset asan --parallel ${jobs} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_CTEST_COMMAND} --preset asan --parallel ${jobs} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the unit tests are not clean under the sanitizers")
endif()
