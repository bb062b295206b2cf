# Pinned releases, for where a dependency is not installed: archives from the projects' own release pages, checked
# against their SHA-256 before they are unpacked. Each hash was compared with at least two independent packagers'
# (among Spack, Homebrew, xmake, Termux and Bazel workspaces); those of Catch2, Eigen and JSON with Debian's source
# packages too, which are the same files.
#
# Machines without network: put the archives into a folder and name it, cmake -DATTNSCALE_DOWNLOADS=<folder>; the file
# names are those in the message of the failed attempt.

include_guard()
set(ATTNSCALE_DOWNLOADS "" CACHE PATH "folder with the release archives, for machines without network")

# attnscale_release(<name> <version> URL <url> SHA256 <hash>): unpacks the release once per build tree and sets
# <name>_SOURCE_DIR to its top folder.
function(attnscale_release name version)
  cmake_parse_arguments(PARSE_ARGV 2 RELEASE "" "URL;SHA256" "")
  string(REGEX MATCH "\\.(tar\\.[a-z0-9]+|zip)$" extension "${RELEASE_URL}")
  set(file "${name}-${version}${extension}")
  set(home "${CMAKE_BINARY_DIR}/releases/${name}-${version}")
  if(NOT EXISTS "${home}/stamp")
    message(STATUS "${name}: not installed, taking its release ${version}")
    attnscale_release_archive(archive)
    file(REMOVE_RECURSE "${home}")
    file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${home}")
    file(WRITE "${home}/stamp" "${RELEASE_SHA256}\n")
  endif()
  # Archives hold one folder.
  file(GLOB entries LIST_DIRECTORIES true "${home}/*")
  foreach(entry ${entries})
    if(IS_DIRECTORY "${entry}")
      set(${name}_SOURCE_DIR "${entry}" PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

# The checked archive's path, for attnscale_release, whose variables it reads.
function(attnscale_release_archive result)
  set(archive "${ATTNSCALE_DOWNLOADS}/${file}")
  if(NOT ATTNSCALE_DOWNLOADS OR NOT EXISTS "${archive}")
    set(archive "${CMAKE_BINARY_DIR}/releases/${file}")
    file(DOWNLOAD "${RELEASE_URL}" "${archive}" STATUS status INACTIVITY_TIMEOUT 30 TLS_VERIFY ON)
    list(POP_FRONT status code reason)
    if(NOT code EQUAL 0)
      file(REMOVE "${archive}")
      message(FATAL_ERROR
          "${name} is not installed, and its release ${version} could not be downloaded: ${reason}.\n"
          "Install it (the packages are named in scripts/bootstrap.sh), or save\n  ${RELEASE_URL}\nas ${file} in a "
          "folder and configure with -DATTNSCALE_DOWNLOADS=<folder>.")
    endif()
  endif()
  file(SHA256 "${archive}" actual)
  if(NOT actual STREQUAL RELEASE_SHA256)
    message(FATAL_ERROR "${archive}: its SHA-256 is ${actual}, pinned is ${RELEASE_SHA256}. It is not the release "
                        "that was reviewed; delete it and try again.")
  endif()
  set(${result} "${archive}" PARENT_SCOPE)
endfunction()

# A header library of such a release, as an imported target; its own CMakeLists.txt is not run.
function(attnscale_header_library target folder)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE "${folder}")
endfunction()
