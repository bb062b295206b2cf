# Where LibTorch is. One search for the build (third_party/torch.cmake) and for scripts/bootstrap.sh, which runs
#   cmake -DATTNSCALE_TORCH_SEARCH=given|importable -P third_party/find_torch.cmake
# and reads the folder from the output, or gets an error if there is none.

set(ATTNSCALE_TORCH_MINIMUM 2.11)

# The folder of TorchConfig.cmake under one of the prefixes, as far as it is new enough.
function(attnscale_torch_under result)
  set(${result} "" PARENT_SCOPE)
  foreach(prefix ${ARGN})
    foreach(suffix "" /Torch /share/cmake/Torch /torch/share/cmake/Torch /lib/cmake/Torch)
      set(folder "${prefix}${suffix}")
      if(NOT EXISTS "${folder}/TorchConfig.cmake" OR NOT EXISTS "${folder}/TorchConfigVersion.cmake")
        continue()
      endif()
      file(STRINGS "${folder}/TorchConfigVersion.cmake" line LIMIT_COUNT 1 REGEX "set\\(PACKAGE_VERSION \"[0-9.]+")
      string(REGEX MATCH "[0-9]+[0-9.]*" version "${line}")
      if(version VERSION_LESS ATTNSCALE_TORCH_MINIMUM)
        message(STATUS "LibTorch ${version} in ${folder} passed over: older than ${ATTNSCALE_TORCH_MINIMUM}")
        continue()
      endif()
      set(${result} "${folder}" PARENT_SCOPE)
      return()
    endforeach()
  endforeach()
endfunction()

# What the user named: Torch_DIR and CMAKE_PREFIX_PATH, as CMake variables or in the environment.
function(attnscale_torch_given result)
  set(prefixes "")
  # Torch_DIR in the cache may be our own earlier find.
  if(Torch_DIR AND NOT Torch_DIR STREQUAL "${ATTNSCALE_TORCH_FOUND}")
    list(APPEND prefixes "${Torch_DIR}")
  endif()
  list(APPEND prefixes ${CMAKE_PREFIX_PATH})
  foreach(variable Torch_DIR CMAKE_PREFIX_PATH)
    if(DEFINED ENV{${variable}})
      file(TO_CMAKE_PATH "$ENV{${variable}}" paths)
      list(APPEND prefixes ${paths})
    endif()
  endforeach()
  attnscale_torch_under(folder ${prefixes})
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# The wheel that scripts/bootstrap.sh installs.
function(attnscale_torch_in_venv result)
  file(GLOB prefixes "${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages"
       "${CMAKE_SOURCE_DIR}/build/venv/lib/python3*/site-packages")
  attnscale_torch_under(folder ${prefixes})
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# A torch that python3 can import. It is located, not imported: importing takes seconds.
function(attnscale_torch_importable result)
  set(prefix "")
  find_program(ATTNSCALE_PYTHON3 python3)
  if(ATTNSCALE_PYTHON3)
    execute_process(COMMAND "${ATTNSCALE_PYTHON3}" -c
        "import importlib.util, os; print(os.path.dirname(importlib.util.find_spec('torch').origin))"
        OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  endif()
  attnscale_torch_under(folder "${prefix}")
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  if(ATTNSCALE_TORCH_SEARCH STREQUAL "given")
    attnscale_torch_given(folder)
  elseif(ATTNSCALE_TORCH_SEARCH STREQUAL "importable")
    attnscale_torch_importable(folder)
  else()
    message(FATAL_ERROR "ATTNSCALE_TORCH_SEARCH is \"${ATTNSCALE_TORCH_SEARCH}\"; expected given or importable")
  endif()
  if(NOT folder)
    message(FATAL_ERROR "no LibTorch found")
  endif()
  message("${folder}")
endif()
