# packlight_room(NAME [TOGETHER] [DEPS room...] [LIBS target...] [PUBLIC_LIBS target...])
#   One static library packlight_NAME of every .cpp in src/NAME (subfolders too), linked with the
#   lower rooms it may include.
function(packlight_room name)
  cmake_parse_arguments(ARG "TOGETHER" "" "DEPS;LIBS;PUBLIC_LIBS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(pattern IN LISTS ARG_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX ${pattern})
  endforeach()
  add_library(packlight_${name} STATIC ${sources})
  target_include_directories(packlight_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  foreach(dep IN LISTS ARG_DEPS)
    target_link_libraries(packlight_${name} PUBLIC packlight_${dep})
  endforeach()
  target_link_libraries(packlight_${name} PRIVATE ${ARG_LIBS})
  target_link_libraries(packlight_${name} PUBLIC ${ARG_PUBLIC_LIBS})
  packlight_flags(packlight_${name})
  set_target_properties(packlight_${name} PROPERTIES PACKLIGHT_DEPS "${ARG_DEPS}")
  packlight_precompiled(${name} "${ARG_DEPS}")
  if(ARG_TOGETHER)
    packlight_compile_together(packlight_${name})
  endif()
endfunction()

# packlight_compile_together(TARGET): a few files at a time, in rooms whose files spend most of their compilation on headers. Names
#   in their unnamed namespaces must differ within the room.
function(packlight_compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
endfunction()

# packlight_precompile(TARGET header...): a precompiled header. ccache caches what uses one only with -fpch-preprocess and the
#   sloppiness set in the root CMakeLists.txt.
function(packlight_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endfunction()

# packlight_precompiled(ROOM DEPS [IS_TEST]): what a room, or its test, precompiles. Reading a precompiled header costs time too, so
#   each kind of room has just the large ones that most of its files include: nlohmann's costs 2 s a file, <ATen/ATen.h> 8 s.
#   The first room of a kind owns them, the others reuse them.
function(packlight_precompiled room deps)
  cmake_parse_arguments(ARG "IS_TEST" "" "" ${ARGN})
  set(io_headers <nlohmann/json.hpp>)
  set(graph_headers <ATen/ATen.h>)
  set(import_headers <ATen/ATen.h> <nlohmann/json.hpp>)
  if(room MATCHES "^(io|graph|import)$")
    set(owner ${room})
  elseif("import" IN_LIST deps)
    set(owner import)
  elseif("graph" IN_LIST deps)
    set(owner graph)
  elseif(ARG_IS_TEST)
    set(owner base)
  else()
    return()
  endif()
  if(ARG_IS_TEST)
    set(room_target ${room}_test)
    set(owner_target ${owner}_test)
    list(APPEND ${owner}_headers <gtest/gtest.h>)
  else()
    set(room_target packlight_${room})
    set(owner_target packlight_${owner})
  endif()
  if(owner STREQUAL room)
    packlight_precompile(${room_target} ${${room}_headers})
  else()
    target_precompile_headers(${room_target} REUSE_FROM ${owner_target})
    target_compile_options(${room_target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  endif()
endfunction()

# packlight_compile_fast(TARGET): little optimization, for what spends its time elsewhere (tests, the command line).
function(packlight_compile_fast target)
  if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT CMAKE_CROSSCOMPILING)
    target_compile_options(${target} PRIVATE -O1)
  endif()
endfunction()

# packlight_compile_small(TARGET): small code, for what a device carries and spends no time in.
function(packlight_compile_small target)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${target} PRIVATE -Os)
  endif()
endfunction()

# packlight_flags(TARGET): warnings, and the sanitizer asked for.
function(packlight_flags target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wno-sign-compare)
  if(CMAKE_BUILD_TYPE STREQUAL "MinSizeRel")
    # A section a function lets the linker drop what a small program does not use.
    target_compile_options(${target} PRIVATE -ffunction-sections -fdata-sections)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)  # false alarms on std::string (gcc bug 105329)
  endif()
  if(PACKLIGHT_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${PACKLIGHT_SANITIZE} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer -g)
    target_link_options(${target} PUBLIC -fsanitize=${PACKLIGHT_SANITIZE})
  endif()
endfunction()

# packlight_test(ROOM [APART] [LIBS target...]): one GoogleTest program ROOM_test of every *_test.cpp beside the
#   CMakeLists.txt that calls it. ctest runs it as a few shards and not test by test: a program that loads LibTorch takes most of
#   a second to start.
function(packlight_test room)
  cmake_parse_arguments(ARG "APART" "" "LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_executable(${room}_test ${sources})
  target_link_libraries(${room}_test PRIVATE packlight_${room} ${ARG_LIBS} GTest::gtest_main)
  target_include_directories(${room}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${room}_test PRIVATE
    PACKLIGHT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" PACKLIGHT_BINARY_DIR="${PROJECT_BINARY_DIR}")
  packlight_flags(${room}_test)
  target_compile_options(${room}_test PRIVATE -Wno-missing-field-initializers)  # options that a test leaves at their defaults
  packlight_compile_fast(${room}_test)
  get_target_property(deps packlight_${room} PACKLIGHT_DEPS)
  packlight_precompiled(${room} "${deps}" IS_TEST)
  if(NOT ARG_APART)
    packlight_compile_together(${room}_test)
  endif()
  set(shards 4)
  foreach(shard RANGE 1 ${shards})
    math(EXPR index "${shard} - 1")
    add_test(NAME ${room}.${shard} COMMAND ${room}_test)
    set_tests_properties(${room}.${shard} PROPERTIES TIMEOUT 900
      # Under the address sanitizer, too, memory that is not there is what the caller is told of.
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${index};ASAN_OPTIONS=allocator_may_return_null=1;TSAN_OPTIONS=allocator_may_return_null=1")
  endforeach()
endfunction()
