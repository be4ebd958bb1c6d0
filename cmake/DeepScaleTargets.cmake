# What every DeepScale target shares, and the few functions that make targets.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # ccache caches what uses a precompiled header only with these, and with -fpch-preprocess below.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()

# What a program that links our libraries needs besides, also one that uses an installed DeepScale (Package.cmake).
add_library(deepscale_system INTERFACE)
target_compile_features(deepscale_system INTERFACE cxx_std_20)
target_compile_definitions(deepscale_system INTERFACE $<INSTALL_INTERFACE:FMT_HEADER_ONLY>)
target_link_libraries(deepscale_system INTERFACE Threads::Threads)
if(WIN32)
  target_link_libraries(deepscale_system INTERFACE ws2_32 mswsock)
endif()

add_library(deepscale_options INTERFACE)
target_include_directories(deepscale_options INTERFACE ${PROJECT_SOURCE_DIR})
target_link_libraries(deepscale_options INTERFACE deepscale_third_party)
if(MSVC)
  target_compile_options(deepscale_options INTERFACE /W4 /utf-8 /permissive- /bigobj)
else()
  target_compile_options(deepscale_options INTERFACE -Wall -Wextra -Wpedantic -Wno-missing-field-initializers)
endif()
if(CCACHE_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(deepscale_options INTERFACE -fpch-preprocess)
endif()
if(DEEPSCALE_SANITIZE)  # for everything that this build compiles, GoogleTest too; the first finding ends the program
  add_compile_options(-fsanitize=${DEEPSCALE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${DEEPSCALE_SANITIZE})
endif()

# The one place where the platform is chosen: deepscale_platform_sources(out process) gives process_linux.cc or process_windows.cc.
function(deepscale_platform_sources out)
  if(WIN32)
    set(suffix windows)
  else()
    set(suffix linux)
  endif()
  set(sources)
  foreach(name ${ARGN})
    list(APPEND sources ${name}_${suffix}.cc)
  endforeach()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

# Windows: arguments and file names in UTF-8 also where a library takes them as char*, and paths of more than 260 characters.
if(MINGW)
  enable_language(RC)
  add_library(deepscale_manifest OBJECT ${PROJECT_SOURCE_DIR}/cmake/windows/program.rc)
endif()
function(deepscale_add_manifest program)
  if(MINGW)
    target_sources(${program} PRIVATE $<TARGET_OBJECTS:deepscale_manifest>)
  elseif(MSVC)
    target_sources(${program} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/windows/program.manifest)
  endif()
endfunction()

# deepscale_library(name SOURCES ... LIBRARIES ...): a static library with the project's options.
function(deepscale_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC $<BUILD_INTERFACE:deepscale_options> deepscale_system ${arg_LIBRARIES})
  set_property(GLOBAL APPEND PROPERTY DEEPSCALE_LIBRARIES ${name})
endfunction()

# deepscale_executable(name SOURCES ... LIBRARIES ...): a program in build/bin.
function(deepscale_executable name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE deepscale_options ${arg_LIBRARIES})
  deepscale_add_manifest(${name})
endfunction()
