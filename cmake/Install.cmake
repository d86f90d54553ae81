# What `cmake --install` puts in place: the packlight command, the headers of include/packlight/, and the device side as
# static libraries that find_package(Packlight) offers as Packlight::runtime (C++) and Packlight::bindings (C).
include(CMakePackageConfigHelpers)

set(PACKLIGHT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Packlight)
set(PACKLIGHT_INSTALLED_ROOMS base codec operators io kernels text runtime bindings)

foreach(room IN LISTS PACKLIGHT_INSTALLED_ROOMS)
  set_target_properties(packlight_${room} PROPERTIES EXPORT_NAME ${room})
  install(TARGETS packlight_${room} EXPORT PacklightTargets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
endforeach()
install(EXPORT PacklightTargets NAMESPACE Packlight:: DESTINATION ${PACKLIGHT_PACKAGE_DIR} COMPONENT runtime)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/packlight DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT runtime
        FILES_MATCHING PATTERN "*.h")
install(TARGETS packlight RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT command)
if(TARGET packlight-compress)
  install(TARGETS packlight-compress RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/packlight COMPONENT command)
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/PacklightConfig.cmake.in
  ${PROJECT_BINARY_DIR}/PacklightConfig.cmake INSTALL_DESTINATION ${PACKLIGHT_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/PacklightConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/PacklightConfig.cmake ${PROJECT_BINARY_DIR}/PacklightConfigVersion.cmake
        DESTINATION ${PACKLIGHT_PACKAGE_DIR} COMPONENT runtime)
