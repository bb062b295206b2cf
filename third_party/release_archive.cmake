# Pinned downloads, for where a dependency is not installed: release archives from the projects' own release pages,
# checked against a SHA-256 before they are unpacked. Each hash was compared with at least two independent packagers'
# (vcpkg, Conan, Spack, Homebrew, xmake, Bazel workspaces).
#
# Machines without network: put the archives into a folder, under the names that the configuration step prints, and
# name it: cmake -DATTNSCALE_DOWNLOADS=<folder>.

include(FetchContent)
set(ATTNSCALE_DOWNLOADS "" CACHE PATH "folder with the release archives, for machines without network")

# attnscale_fetch(<name> VERSION <version> URL <url> SHA256 <hash> [HEADERS_ONLY])
# leaves <name>_SOURCE_DIR; with HEADERS_ONLY the project's own CMakeLists.txt is not run.
macro(attnscale_fetch name)
  cmake_parse_arguments(FETCH "HEADERS_ONLY" "VERSION;URL;SHA256" "" ${ARGN})
  string(REGEX MATCH "\\.(tar\\.[a-z0-9]+|zip)$" FETCH_EXTENSION "${FETCH_URL}")
  set(FETCH_FILE "${name}-${FETCH_VERSION}${FETCH_EXTENSION}")
  if(ATTNSCALE_DOWNLOADS AND EXISTS "${ATTNSCALE_DOWNLOADS}/${FETCH_FILE}")
    set(FETCH_URL "${ATTNSCALE_DOWNLOADS}/${FETCH_FILE}")
  endif()
  message(STATUS "${name}: not installed; taking release ${FETCH_VERSION} from ${FETCH_URL} (as ${FETCH_FILE})")
  if(FETCH_HEADERS_ONLY)
    set(FETCH_SUBDIR SOURCE_SUBDIR headers-only)  # a folder without CMakeLists.txt: nothing is built
  else()
    set(FETCH_SUBDIR "")
  endif()
  FetchContent_Declare(${name} URL "${FETCH_URL}" URL_HASH SHA256=${FETCH_SHA256} DOWNLOAD_NAME ${FETCH_FILE}
      DOWNLOAD_EXTRACT_TIMESTAMP FALSE SYSTEM ${FETCH_SUBDIR})
  FetchContent_MakeAvailable(${name})
  string(TOLOWER ${name} FETCH_LOWER)
  set(${name}_SOURCE_DIR "${${FETCH_LOWER}_SOURCE_DIR}")
endmacro()

# attnscale_fetch_headers(<target> <include folder> <name> VERSION ... URL ... SHA256 ...): a header library as <target>.
macro(attnscale_fetch_headers target include name)
  attnscale_fetch(${name} ${ARGN} HEADERS_ONLY)
  add_library(${target} INTERFACE IMPORTED)
  target_include_directories(${target} SYSTEM INTERFACE "${${name}_SOURCE_DIR}/${include}")
endmacro()
