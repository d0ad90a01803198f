# Every target of the project is made by one of these functions, so that all share one set of flags.

set(VIBE_SANITIZE "" CACHE STRING "Sanitizers to build with, as in -fsanitize=")

add_library(vibe_flags INTERFACE)
target_compile_options(vibe_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror)
# GCC 12 reports it wrongly inside absl::StatusOr at -O2: it does not see that the value is read only
# when the status is ok.
target_compile_options(vibe_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
target_compile_definitions(vibe_flags INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION)
target_include_directories(vibe_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
if(VIBE_SANITIZE)
  add_compile_options(-fsanitize=${VIBE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VIBE_SANITIZE})
endif()

# vibe_library(NAME SOURCES a.cpp ... DEPS lib ...): a room under src/.
function(vibe_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC vibe_flags ${ARG_DEPS})
endfunction()

# vibe_program(NAME SOURCES a.cpp ... DEPS lib ...): a program in build/bin.
function(vibe_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE vibe_flags ${ARG_DEPS})
endfunction()

# vibe_test(NAME SOURCES a.cpp ... DEPS lib ...): a GoogleTest program that ctest runs.
function(vibe_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE vibe_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_definitions(${name} PRIVATE VIBE_TEST_SOURCE_DIR="${CMAKE_SOURCE_DIR}/tests"
    VIBE_TEST_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()
