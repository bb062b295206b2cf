# Pinned files from npm and PyPI through those registries' own clients, for what Debian lacks.
# A fetch happens once per build tree: the folder it fills carries a stamp with the pins.

# Runs a command in a folder; `result` is true when it ended well. Its words are kept for the log.
function(attnscale_try result folder)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${folder}" RESULT_VARIABLE code
                  OUTPUT_VARIABLE output ERROR_VARIABLE output TIMEOUT 300)
  file(APPEND "${folder}/fetch.log" "${ARGN}\n${output}\n(exit ${code})\n")
  if(code STREQUAL "0")
    set(${result} TRUE PARENT_SCOPE)
  else()
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

# Fetches one npm package into `folder` and checks the tarball's SHA-256; `result` is the tarball or "".
function(attnscale_npm_pack result folder package version hash)
  set(${result} "" PARENT_SCOPE)
  find_program(NPM_PROGRAM npm)
  if(NOT NPM_PROGRAM)
    return()
  endif()
  attnscale_try(done "${folder}" "${NPM_PROGRAM}" pack --ignore-scripts --silent "${package}@${version}")
  set(tarball "${folder}/${package}-${version}.tgz")
  if(NOT done OR NOT EXISTS "${tarball}")
    return()
  endif()
  attnscale_check_hash("${tarball}" ${hash})
  set(${result} "${tarball}" PARENT_SCOPE)
endfunction()

# Fetches one distribution from PyPI into `folder`, pip checking its SHA-256; `result` is true when it is there.
function(attnscale_pip_download result folder requirement hash)
  set(${result} FALSE PARENT_SCOPE)
  find_program(PYTHON_PROGRAM NAMES python3 HINTS "${CMAKE_BINARY_DIR}/venv/bin" NO_CACHE)
  if(NOT PYTHON_PROGRAM)
    return()
  endif()
  file(WRITE "${folder}/requirement.txt" "${requirement} --hash=sha256:${hash}\n")
  attnscale_try(done "${folder}" "${PYTHON_PROGRAM}" -m pip download --quiet --disable-pip-version-check
                --no-deps --require-hashes ${ARGN} --dest "${folder}" --requirement requirement.txt)
  set(${result} ${done} PARENT_SCOPE)
endfunction()

# A file that is not the pinned one ends the configuration: never build from it.
function(attnscale_check_hash file expected)
  file(SHA256 "${file}" actual)
  if(NOT actual STREQUAL expected)
    message(FATAL_ERROR "${file}: SHA-256 is ${actual}, pinned is ${expected}. It was changed on the way; "
                        "delete it and configure again, or give the files by hand.")
  endif()
endfunction()
