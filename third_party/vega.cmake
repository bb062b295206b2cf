# The runtime that draws the report's figures: Vega, Vega-Lite and Vega-Embed (BSD-3), as three
# browser scripts put into the library by the assembler. First a folder of the user's (VEGA_DIR), then
# npm, then PyPI (the wheel of panel carries them). Nothing is fetched twice in one build tree.
include(GNUInstallDirs)
include(${CMAKE_CURRENT_LIST_DIR}/fetch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/quickjs.cmake)

set(VEGA_DIR "" CACHE PATH "Folder that holds vega.min.js, vega-lite.min.js and vega-embed.min.js; empty: fetch")
set(VEGA_SCRIPTS vega vega-lite vega-embed)
set(VEGA_PINS
    vega 5.33.0 7b61f992d1a1e196e7f2eeb3d6176e5694949d0d4bbfea237a842d523dd6e1f3
    vega-lite 5.23.0 e4cbfdd8f6f1abe381c59cd558fd6a559c12b1496bfdf2e0c3295263a40fe4da
    vega-embed 6.29.0 ecf1ee709c2bac9e0a4ead6908114b05b62c71493e10a8a4308109bb070f8eb1)
set(VEGA_WHEEL panel==1.5.4 98521ff61dfe2ef684181213842521674d2db95f692c7942ab9103a2c0e882b9)
set(vega_runtime "${CMAKE_BINARY_DIR}/vega-runtime")

function(attnscale_vega_from_npm result folder)
  set(${result} FALSE PARENT_SCOPE)
  set(pins ${VEGA_PINS})
  while(pins)
    list(POP_FRONT pins package version hash)
    attnscale_npm_pack(tarball "${folder}" ${package} ${version} ${hash})
    if(NOT tarball)
      return()
    endif()
    file(ARCHIVE_EXTRACT INPUT "${tarball}" DESTINATION "${folder}/${package}"
         PATTERNS "package/build/${package}.min.js")
    file(RENAME "${folder}/${package}/package/build/${package}.min.js" "${folder}/${package}.min.js")
  endwhile()
  set(${result} TRUE PARENT_SCOPE)
endfunction()

function(attnscale_vega_from_pypi result folder)
  set(${result} FALSE PARENT_SCOPE)
  attnscale_pip_download(done "${folder}" ${VEGA_WHEEL} --only-binary=:all:)
  file(GLOB wheel "${folder}/panel-*.whl")
  if(NOT done OR NOT wheel)
    return()
  endif()
  file(ARCHIVE_EXTRACT INPUT "${wheel}" DESTINATION "${folder}" PATTERNS "panel/dist/bundled/vegaplot/*")
  file(RENAME "${folder}/panel/dist/bundled/vegaplot/vega@5" "${folder}/vega.min.js")
  file(RENAME "${folder}/panel/dist/bundled/vegaplot/vega-lite@5" "${folder}/vega-lite.min.js")
  file(RENAME "${folder}/panel/dist/bundled/vegaplot/vega-embed@6" "${folder}/vega-embed.min.js")
  set(${result} TRUE PARENT_SCOPE)
endfunction()

# Fills `vega_runtime` unless its stamp says that these pins are there already.
function(attnscale_fetch_vega)
  set(pins "${VEGA_PINS};${VEGA_WHEEL}")
  if(EXISTS "${vega_runtime}/stamp")
    file(READ "${vega_runtime}/stamp" stamp)
    if(stamp STREQUAL pins)
      return()
    endif()
  endif()
  set(staging "${CMAKE_BINARY_DIR}/vega-fetch")
  foreach(registry npm pypi)
    file(REMOVE_RECURSE "${staging}")
    file(MAKE_DIRECTORY "${staging}" "${vega_runtime}")
    message(STATUS "Vega runtime: asking ${registry}")
    cmake_language(CALL attnscale_vega_from_${registry} done "${staging}")
    if(done)
      foreach(script ${VEGA_SCRIPTS})
        file(RENAME "${staging}/${script}.min.js" "${vega_runtime}/${script}.min.js")
      endforeach()
      file(REMOVE_RECURSE "${staging}")
      file(WRITE "${vega_runtime}/stamp" "${pins}")
      return()
    endif()
    file(APPEND "${staging}/fetch.log" "no files from ${registry}\n")
    file(RENAME "${staging}/fetch.log" "${CMAKE_BINARY_DIR}/vega-${registry}.log")
  endforeach()
  message(FATAL_ERROR
      "The Vega runtime, which draws the report, could not be had from npm (is npm installed?) or PyPI (is python3 "
      "with pip?); what they said is in ${CMAKE_BINARY_DIR}/vega-npm.log and vega-pypi.log. Mend that, or put "
      "vega.min.js (5.x), vega-lite.min.js (5.x) and vega-embed.min.js (6.x) into a folder and configure with "
      "-DVEGA_DIR=FOLDER.")
endfunction()

if(VEGA_DIR)
  set(vega_runtime "${VEGA_DIR}")
  foreach(script ${VEGA_SCRIPTS})
    if(NOT EXISTS "${VEGA_DIR}/${script}.min.js")
      message(FATAL_ERROR "VEGA_DIR=${VEGA_DIR}: there is no ${script}.min.js; "
                          "vega.min.js, vega-lite.min.js and vega-embed.min.js must be there")
    endif()
  endforeach()
else()
  attnscale_fetch_vega()
endif()
message(STATUS "Vega runtime: ${vega_runtime}")

set(vega_notice "${CMAKE_CURRENT_LIST_DIR}/vega-licence.txt")
configure_file(${CMAKE_CURRENT_LIST_DIR}/vega_runtime.c.in ${CMAKE_BINARY_DIR}/generated/vega_runtime.c @ONLY)
add_library(vega_runtime STATIC ${CMAKE_BINARY_DIR}/generated/vega_runtime.c)
set_source_files_properties(${CMAKE_BINARY_DIR}/generated/vega_runtime.c PROPERTIES OBJECT_DEPENDS
    "${vega_runtime}/vega.min.js;${vega_runtime}/vega-lite.min.js;${vega_runtime}/vega-embed.min.js;${vega_notice}")
install(FILES ${vega_notice} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/attnscale/licences)
