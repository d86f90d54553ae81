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
    packlight_reuse_aten(packlight_${name})
  endif()
endfunction()

# packlight_reuse_aten(TARGET): compiles with the precompiled ATen headers of packlight_graph. <ATen/ATen.h> costs 8 s a file,
#   precompiled 1 s. ccache caches such files only with this argument and the sloppiness set in the root CMakeLists.txt.
function(packlight_reuse_aten target)
  target_precompile_headers(${target} REUSE_FROM packlight_graph)
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")  # -fPIE would not match the -fPIC of the precompiled headers
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
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
  get_target_property(precompiled packlight_${room} PRECOMPILE_HEADERS_REUSE_FROM)
  if(precompiled OR "${room}" STREQUAL "graph")
    packlight_reuse_aten(${room}_test)
  endif()
  gtest_discover_tests(${room}_test TEST_PREFIX ${room}. NO_PRETTY_VALUES DISCOVERY_TIMEOUT 120
                       PROPERTIES TIMEOUT 900)
endfunction()
