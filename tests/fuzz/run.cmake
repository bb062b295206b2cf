# Builds one fuzzing program and runs it on a copy of its corpus, so that the tree stays as it is.
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BUILD} --target ${TARGET} COMMAND_ERROR_IS_FATAL ANY)
set(work ${BUILD}/fuzz/${TARGET})
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work}/corpus)
file(GLOB seeds ${CORPUS}/*)
file(COPY ${seeds} DESTINATION ${work}/corpus)
set(options "")
if(EXISTS ${DICTIONARY})
  set(options -dict=${DICTIONARY})
endif()
# The time limit is by the wall's clock, of a machine that others may use. A limit of an hour hid two endless loops.
# Where memory came from is told when a crash is tried again: on every call it would cost more than the reading.
set(ENV{ASAN_OPTIONS} "malloc_context_size=0:quarantine_size_mb=8")
execute_process(COMMAND ${PROGRAM} ${options} -runs=${RUNS} -max_len=4096 -timeout=300 -rss_limit_mb=1024 -print_final_stats=1
                        -artifact_prefix=${work}/ ${work}/corpus
                WORKING_DIRECTORY ${work} RESULT_VARIABLE status ERROR_VARIABLE said)
string(REGEX MATCHALL "stat::[^\n]*|(ERROR|SUMMARY|DONE)[^\n]*" summary "${said}")
foreach(line ${summary})
  message(STATUS ${line})
endforeach()
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${said}")
endif()
