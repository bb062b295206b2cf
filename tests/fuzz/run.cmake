# Builds one fuzzing program and runs it on a copy of its corpus, so that the tree stays as it is.
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BUILD} --target ${TARGET} COMMAND_ERROR_IS_FATAL ANY)
set(work ${BUILD}/fuzz/${TARGET})
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work}/corpus)
file(GLOB seeds ${CORPUS}/*)
file(COPY ${seeds} DESTINATION ${work}/corpus)
execute_process(COMMAND ${PROGRAM} -runs=${RUNS} -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
                        -artifact_prefix=${work}/ ${work}/corpus
                WORKING_DIRECTORY ${work} RESULT_VARIABLE status ERROR_VARIABLE said)
string(REGEX MATCHALL "stat::[^\n]*|(ERROR|SUMMARY|DONE)[^\n]*" summary "${said}")
foreach(line ${summary})
  message(STATUS ${line})
endforeach()
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${said}")
endif()
