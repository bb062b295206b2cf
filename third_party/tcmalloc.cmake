# tcmalloc: the program's allocator, where it is there. Found only, never downloaded: without it the C library's does the
# same, and steps of small models take 5 to 10 % longer (docs/reference/speed.md). Its shared library alone is needed, as
# Debian's libtcmalloc-minimal4 has it. Sanitizers bring their own allocator.
option(ATTNSCALE_TCMALLOC "Link the program with tcmalloc where it is found" ON)
add_library(attnscale_allocator INTERFACE)
if(ATTNSCALE_TCMALLOC AND NOT ATTNSCALE_SANITIZE AND NOT APPLE)
  find_library(TCMALLOC_LIBRARY NAMES tcmalloc_minimal libtcmalloc_minimal.so.4 NAMES_PER_DIR)
  if(TCMALLOC_LIBRARY)
    message(STATUS "Allocator: ${TCMALLOC_LIBRARY}")
    # Nothing calls it by name.
    target_link_libraries(attnscale_allocator INTERFACE "-Wl,--push-state,--no-as-needed" "${TCMALLOC_LIBRARY}"
                                                        "-Wl,--pop-state")
  else()
    message(STATUS "Allocator: the C library's; tcmalloc (Debian: libtcmalloc-minimal4) would be faster")
  endif()
endif()
