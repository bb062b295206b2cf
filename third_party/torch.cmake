# LibTorch, as the target `torch`. First what the user named (Torch_DIR, CMAKE_PREFIX_PATH), then the wheel that
# scripts/bootstrap.sh put into build/venv, then a torch that python3 can import.
#
# Since 2.7 all of PyTorch's Linux builds use the new C++ ABI (_GLIBCXX_USE_CXX11_ABI=1), so there is nothing to
# choose here and LibTorch links with the distribution's libraries. The wheel's include folder holds fmt 12, which
# shadows the distribution's <fmt/...>: link fmt::fmt-header-only, never the compiled fmt::fmt.

include(${CMAKE_CURRENT_LIST_DIR}/find_torch.cmake)

set(attnscale_torch "")
foreach(place given in_venv importable)
  if(NOT attnscale_torch)
    cmake_language(CALL attnscale_torch_${place} attnscale_torch)
    set(attnscale_torch_place ${place})
  endif()
endforeach()
if(NOT attnscale_torch)
  message(FATAL_ERROR
      "LibTorch ${ATTNSCALE_TORCH_MINIMUM} or newer was not found in Torch_DIR (\"${Torch_DIR}\"), in "
      "CMAKE_PREFIX_PATH (\"${CMAKE_PREFIX_PATH}\"), in ${CMAKE_BINARY_DIR}/venv, in ${CMAKE_SOURCE_DIR}/build/venv, "
      "or as python3's torch.\n"
      "Run scripts/bootstrap.sh, which installs it in build/venv, or name yours: cmake -DTorch_DIR=<folder of "
      "TorchConfig.cmake>")
endif()
# The next configuration reads Torch_DIR from the cache: remember whether it was the user's choice or this search's.
if(attnscale_torch_place STREQUAL "given")
  unset(ATTNSCALE_TORCH_FOUND CACHE)
else()
  set(ATTNSCALE_TORCH_FOUND "${attnscale_torch}" CACHE INTERNAL "what third_party/torch.cmake found by itself")
endif()
set(Torch_DIR "${attnscale_torch}" CACHE PATH "folder of TorchConfig.cmake" FORCE)

get_filename_component(attnscale_torch_prefix "${attnscale_torch}/../../.." ABSOLUTE)
find_program(ATTNSCALE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(ATTNSCALE_NVCC ATTNSCALE_PYTHON3)

if(EXISTS "${attnscale_torch_prefix}/lib/libtorch_cuda.so" AND NOT ATTNSCALE_NVCC)
  # A CUDA build of LibTorch where the CUDA toolkit is not installed, which is what plain `pip install torch` gives on
  # Linux. TorchConfig.cmake would refuse; but the toolkit is needed to compile CUDA sources only, of which there are
  # none here. The shared libraries find CUDA's own through their run paths, so those are not resolved at link time.
  message(STATUS "LibTorch: ${attnscale_torch_prefix} (CUDA build, used without the CUDA toolkit)")
  add_library(torch INTERFACE IMPORTED)
  target_include_directories(torch SYSTEM INTERFACE
      "${attnscale_torch_prefix}/include" "${attnscale_torch_prefix}/include/torch/csrc/api/include")
  target_compile_definitions(torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
  target_link_directories(torch INTERFACE "${attnscale_torch_prefix}/lib")
  # libtorch.so only refers to the others; without --no-as-needed CUDA support would be dropped.
  target_link_libraries(torch INTERFACE
      "-Wl,--no-as-needed" "${attnscale_torch_prefix}/lib/libtorch.so" "${attnscale_torch_prefix}/lib/libtorch_cpu.so"
      "-Wl,--as-needed" "${attnscale_torch_prefix}/lib/libc10.so" "${attnscale_torch_prefix}/lib/libtorch_cuda.so"
      "-Wl,--unresolved-symbols=ignore-in-shared-libs")
else()
  # TorchConfig.cmake warns that kineto, a profiler that wheels keep inside libtorch_cpu, is no separate library. A
  # value makes it skip that search; it ends in TORCH_LIBRARIES, which the target `torch` does not use.
  set(kineto_LIBRARY "within-libtorch_cpu" CACHE INTERNAL "")
  find_package(Torch REQUIRED)
  message(STATUS "LibTorch: ${Torch_VERSION} in ${attnscale_torch_prefix}")
  # Its MKL target names folders that exist on MKL installations only; they would end in the program's run path.
  if(TARGET caffe2::mkl)
    get_target_property(folders caffe2::mkl INTERFACE_LINK_DIRECTORIES)
    foreach(folder ${folders})
      if(NOT IS_DIRECTORY "${folder}")
        list(REMOVE_ITEM folders "${folder}")
      endif()
    endforeach()
    set_property(TARGET caffe2::mkl PROPERTY INTERFACE_LINK_DIRECTORIES ${folders})
  endif()
endif()

# CUDA graphs of training steps (lib/train/cuda_graph.cpp) are the one thing that wants headers of CUDA itself, those of
# its runtime. `pip install torch` brings them along beside torch, but for crt/, which is in nvidia-cuda-crt.
if(EXISTS "${attnscale_torch_prefix}/lib/libtorch_cuda.so")
  file(GLOB attnscale_cuda_folders "${attnscale_torch_prefix}/../nvidia/cu[0-9]*/include")
  find_path(ATTNSCALE_CUDA_INCLUDE crt/host_config.h HINTS ENV CUDA_HOME ENV CUDA_PATH ${attnscale_cuda_folders}
            PATHS /usr/local/cuda PATH_SUFFIXES include)
  if(ATTNSCALE_CUDA_INCLUDE AND EXISTS "${ATTNSCALE_CUDA_INCLUDE}/cuda_runtime.h")
    message(STATUS "CUDA graphs: by the headers in ${ATTNSCALE_CUDA_INCLUDE}")
  else()
    set(ATTNSCALE_CUDA_INCLUDE "" CACHE PATH "folder of cuda_runtime.h and crt/host_config.h" FORCE)
    message(STATUS "CUDA graphs: left out, without cuda_runtime.h and crt/host_config.h (ATTNSCALE_CUDA_INCLUDE)")
  endif()
endif()

# LibTorch's headers give some structs more members without NDEBUG (at::RecordFunction, for one), while the released
# libraries are built with it: code that sees those headers must have it in every kind of build, debug builds too.
target_compile_definitions(torch INTERFACE $<$<NOT:$<CONFIG:Release,RelWithDebInfo,MinSizeRel>>:NDEBUG>)
