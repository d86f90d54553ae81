# packlight_room(NAME [DEPS room...] [LIBS target...] [PUBLIC_LIBS target...])
#   One static library packlight_NAME of every .cpp in src/NAME (subfolders too), linked with the
#   lower rooms it may include.
function(packlight_room name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;PUBLIC_LIBS;EXCLUDE" ${ARGN})
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
  if("graph" IN_LIST ARG_DEPS)
    packlight_reuse_precompiled(packlight_${name} packlight_graph)
  endif()
endfunction()

# packlight_reuse_precompiled(TARGET OTHER): compiles with the precompiled headers of another target of the same kind and flags:
#   packlight_graph has <ATen/ATen.h>, which costs 8 s a file, precompiled 1 s; graph_test has GoogleTest besides. ccache caches
#   such files only with this argument and the sloppiness set in the root CMakeLists.txt.
function(packlight_reuse_precompiled target other)
  target_precompile_headers(${target} REUSE_FROM ${other})
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endfunction()

# packlight_compile_fast(TARGET): little optimization, for what spends its time elsewhere (tests, the command line).
function(packlight_compile_fast target)
  if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT CMAKE_CROSSCOMPILING)
    target_compile_options(${target} PRIVATE -O1)
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

# packlight_test(ROOM [LIBS target...]): one GoogleTest program ROOM_test of every *_test.cpp beside the
#   CMakeLists.txt that calls it.
function(packlight_test room)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_executable(${room}_test ${sources})
  target_link_libraries(${room}_test PRIVATE packlight_${room} ${ARG_LIBS} GTest::gtest_main)
  target_include_directories(${room}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${room}_test PRIVATE
    PACKLIGHT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" PACKLIGHT_BINARY_DIR="${PROJECT_BINARY_DIR}")
  packlight_flags(${room}_test)
  packlight_compile_fast(${room}_test)
  get_target_property(precompiled packlight_${room} PRECOMPILE_HEADERS_REUSE_FROM)
  if("${room}" STREQUAL "graph")
    target_precompile_headers(${room}_test PRIVATE <ATen/ATen.h> <gtest/gtest.h>)
    target_compile_options(${room}_test PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  elseif(precompiled)
    packlight_reuse_precompiled(${room}_test graph_test)
  endif()
  gtest_discover_tests(${room}_test TEST_PREFIX ${room}. NO_PRETTY_VALUES DISCOVERY_TIMEOUT 120
                       PROPERTIES TIMEOUT 900)
endfunction()
