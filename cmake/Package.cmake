# What is installed and packed: programs, libraries, the headers that users include, a CMake package, and the sources of the examples.
# Archives hold it below one folder: bin, include/deepscale, lib, lib/cmake/DeepScale, share/deepscale/examples, share/doc/deepscale.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/DeepScale)
set(header_folder ${CMAKE_INSTALL_INCLUDEDIR}/deepscale)

# Users link DeepScale::comm, DeepScale::link, and with LibTorch DeepScale::runtime (DeepScaleConfig.cmake); those are made of these.
set(package_roots)
foreach(library communicator link engine models)
  if(TARGET deepscale_${library})
    list(APPEND package_roots deepscale_${library})
  endif()
endforeach()

# deepscale_linked_libraries(out target...): the libraries of this project that these are made of, themselves included.
function(deepscale_linked_libraries out)
  set(libraries)
  set(waiting ${ARGN})
  get_property(known GLOBAL PROPERTY DEEPSCALE_LIBRARIES)
  while(waiting)
    list(POP_FRONT waiting target)
    if(target IN_LIST known AND NOT target IN_LIST libraries)
      list(APPEND libraries ${target})
      get_target_property(linked ${target} LINK_LIBRARIES)
      list(APPEND waiting ${linked})
    endif()
  endwhile()
  set(${out} ${libraries} PARENT_SCOPE)
endfunction()

# deepscale_installed_headers(out header...): these and all headers of this project that they include.
function(deepscale_installed_headers out)
  set(headers)
  set(waiting ${ARGN})
  while(waiting)
    list(POP_FRONT waiting header)
    if(NOT header IN_LIST headers AND EXISTS ${PROJECT_SOURCE_DIR}/${header})
      list(APPEND headers ${header})
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
      file(STRINGS ${PROJECT_SOURCE_DIR}/${header} lines REGEX "^#include \"")
      foreach(line ${lines})
        string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" included ${line})
        list(APPEND waiting ${included})
      endforeach()
    endif()
  endwhile()
  set(${out} ${headers} PARENT_SCOPE)
endfunction()

# --- programs and libraries ------------------------------------------------------------------------------------------
install(TARGETS deepscale deepscale_model hello_ranks zero_inference RUNTIME)
install(PROGRAMS $<TARGET_FILE_DIR:deepscale>/ds_report${CMAKE_EXECUTABLE_SUFFIX} TYPE BIN)
if(TARGET deepscale_gloo)  # opened at run time, as ../lib/libdeepscale_gloo.so from the program
  install(TARGETS deepscale_gloo LIBRARY DESTINATION lib)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/agents/link/python DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/deepscale FILES_MATCHING PATTERN "*.py")
deepscale_linked_libraries(package_libraries ${package_roots})
foreach(library ${package_libraries})
  string(REGEX REPLACE "^deepscale_" "" name ${library})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
endforeach()
set_target_properties(deepscale_system PROPERTIES EXPORT_NAME system)
target_include_directories(deepscale_system INTERFACE $<INSTALL_INTERFACE:${header_folder}>)
install(TARGETS deepscale_system ${package_libraries} EXPORT DeepScaleExports ARCHIVE)
install(EXPORT DeepScaleExports NAMESPACE DeepScale:: DESTINATION ${package_folder})

# --- headers ---------------------------------------------------------------------------------------------------------
set(public_headers agents/link/rank_link.h comm/base/error.h comm/base/suggest.h comm/communicator.h comm/store/rendezvous.h
                   comm/store/store_server.h)
if(TARGET deepscale_engine)
  file(GLOB model_headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/runtime/models/*.h)
  list(APPEND public_headers runtime/deepscale.h ${model_headers})
endif()
deepscale_installed_headers(public_headers ${public_headers})
foreach(header ${public_headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${PROJECT_SOURCE_DIR}/${header} DESTINATION ${header_folder}/${folder})
endforeach()
# Log lines are formatted in the header of the logger; its user need not have fmt. (MIT licence, whole in fmt/format.h.)
get_filename_component(fmt_folder ${FMT_INCLUDE_DIR}/fmt REALPATH)
install(DIRECTORY ${fmt_folder} DESTINATION ${header_folder} FILES_MATCHING PATTERN "*.h")

# --- the CMake package -----------------------------------------------------------------------------------------------
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/package/DeepScaleConfig.cmake.in ${PROJECT_BINARY_DIR}/DeepScaleConfig.cmake
                              INSTALL_DESTINATION ${package_folder} PATH_VARS CMAKE_INSTALL_BINDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/DeepScaleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/DeepScaleConfig.cmake ${PROJECT_BINARY_DIR}/DeepScaleConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/LibTorch.cmake ${PROJECT_SOURCE_DIR}/cmake/PinnedWheel.cmake DESTINATION ${package_folder})

# --- examples and documents ------------------------------------------------------------------------------------------
set(example_folder ${CMAKE_INSTALL_DATAROOTDIR}/deepscale/examples)
set(document_folder ${CMAKE_INSTALL_DATAROOTDIR}/doc/deepscale)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/ DESTINATION ${example_folder} PATTERN CMakeLists.txt EXCLUDE)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/package/examples.cmake DESTINATION ${example_folder} RENAME CMakeLists.txt)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/CHANGELOG.md
        DESTINATION ${document_folder})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs DESTINATION ${document_folder})

# --- archives: cpack -G TGZ, DEB, or on Windows ZIP ------------------------------------------------------------------
string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_PACKAGE_NAME deepscale)
set(CPACK_PACKAGE_VENDOR DeepScale)
set(CPACK_PACKAGE_CONTACT "DeepScale developers <deepscale@localhost>")
set(CPACK_PACKAGE_FILE_NAME deepscale-${PROJECT_VERSION}-${system}-x86_64)
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # the libraries that the programs need, as dpkg-shlibdeps finds them
set(CPACK_DEBIAN_PACKAGE_SECTION science)
if(WIN32)
  set(CPACK_GENERATOR ZIP)
else()
  set(CPACK_GENERATOR TGZ DEB)
endif()
include(CPack)
