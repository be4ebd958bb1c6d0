# Third-party headers of the torch-free part: Boost (Asio, Process v1), fmt, spdlog, nlohmann-json, cxxopts; all header-only.
# A native build finds them where the system has them. A cross build must never see /usr/include itself, so their folders
# are linked into the build tree and only that folder is on its path.
include(PinnedWheel)
find_package(Threads REQUIRED)

# deepscale_find_header(VARIABLE header package): the folder that holds the header, on the building machine.
function(deepscale_find_header variable header package)
  find_path(${variable} ${header} NO_CMAKE_FIND_ROOT_PATH)
  if(NOT ${variable})
    message(FATAL_ERROR "${header} was not found. Run ./build.sh deps (or install ${package}).")
  endif()
endfunction()

# Boost from 1.78 (Process v1 with std::filesystem, without libraries) to 1.85 (later ones moved Process v1). Where the system has another or
# none, the pinned headers from PyPI.
function(deepscale_find_boost)
  find_path(BOOST_INCLUDE_DIR boost/asio.hpp NO_CMAKE_FIND_ROOT_PATH)
  if(BOOST_INCLUDE_DIR)
    file(STRINGS ${BOOST_INCLUDE_DIR}/boost/version.hpp line REGEX "define BOOST_VERSION ")
    string(REGEX MATCH "[0-9]+" version "${line}")
    if(version GREATER_EQUAL 107800 AND version LESS 108600)
      return()
    endif()
    message(STATUS "Boost ${version} in ${BOOST_INCLUDE_DIR} does not fit (1.78 to 1.85 do)")
  endif()
  deepscale_cached_wheels(boost-1.85.0 unpacked boost-headers==1.85.0 bfb6efe4b645efb23d895b76c7b8a77ae8235bcbf76c0879c16e8d8cde43256e)
  set(BOOST_INCLUDE_DIR ${unpacked}/boost_headers/include CACHE PATH "" FORCE)
endfunction()

deepscale_find_boost()
deepscale_find_header(CXXOPTS_INCLUDE_DIR cxxopts.hpp libcxxopts-dev)
deepscale_find_header(JSON_INCLUDE_DIR nlohmann/json.hpp nlohmann-json3-dev)
deepscale_find_header(SPDLOG_INCLUDE_DIR spdlog/spdlog.h libspdlog-dev)
deepscale_find_header(FMT_INCLUDE_DIR fmt/format.h libfmt-dev)

add_library(deepscale_third_party INTERFACE)
if(CMAKE_CROSSCOMPILING)
  set(overlay ${PROJECT_BINARY_DIR}/third_party)
  file(MAKE_DIRECTORY ${overlay})
  foreach(folder ${BOOST_INCLUDE_DIR}/boost ${CXXOPTS_INCLUDE_DIR}/cxxopts.hpp ${JSON_INCLUDE_DIR}/nlohmann
                 ${SPDLOG_INCLUDE_DIR}/spdlog ${FMT_INCLUDE_DIR}/fmt)
    get_filename_component(name ${folder} NAME)
    file(CREATE_LINK ${folder} ${overlay}/${name} SYMBOLIC)
  endforeach()
  file(WRITE ${overlay}/Windows.h "#pragma once\n#include <windows.h>\n")  # Boost spells it with a capital W
  target_include_directories(deepscale_third_party SYSTEM INTERFACE ${overlay})
else()
  target_include_directories(deepscale_third_party SYSTEM INTERFACE
    ${BOOST_INCLUDE_DIR} ${CXXOPTS_INCLUDE_DIR} ${JSON_INCLUDE_DIR} ${SPDLOG_INCLUDE_DIR} ${FMT_INCLUDE_DIR})
endif()
target_compile_definitions(deepscale_third_party INTERFACE
  FMT_HEADER_ONLY SPDLOG_FMT_EXTERNAL BOOST_PROCESS_USE_STD_FS BOOST_ASIO_NO_DEPRECATED)
target_link_libraries(deepscale_third_party INTERFACE Threads::Threads)
if(WIN32)
  target_compile_definitions(deepscale_third_party INTERFACE
    _WIN32_WINNT=0x0A00 WIN32_LEAN_AND_MEAN NOMINMAX UNICODE _UNICODE)
  target_link_libraries(deepscale_third_party INTERFACE ws2_32 mswsock)
  if(MINGW)
    # Else Asio's thread class depends on what a file included before it, and the files do not agree on its layout.
    target_compile_definitions(deepscale_third_party INTERFACE BOOST_ASIO_HAS_PTHREADS=1)
  endif()
endif()

# Optional, for files with io_uring (runtime/offload): liburing, without which threads read and write. The static library, so that a program
# needs nothing at run time.
if(NOT CMAKE_CROSSCOMPILING AND UNIX)
  find_path(LIBURING_INCLUDE_DIR liburing.h)
  find_library(LIBURING_LIBRARY NAMES liburing.a uring)
  mark_as_advanced(LIBURING_INCLUDE_DIR LIBURING_LIBRARY)
  if(NOT LIBURING_INCLUDE_DIR OR NOT LIBURING_LIBRARY)
    message(STATUS "liburing was not found: file offload uses threads (Debian's liburing-dev brings io_uring)")
  endif()
endif()

# Optional, for the backend that is chosen by its name (comm/gloo): Gloo. Sanitizers cannot open a library in isolation (RTLD_DEEPBIND).
if(NOT CMAKE_CROSSCOMPILING AND CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT DEEPSCALE_SANITIZE)
  find_path(GLOO_INCLUDE_DIR gloo/transport/tcp/device.h)
  find_library(GLOO_LIBRARY gloo)
  mark_as_advanced(GLOO_INCLUDE_DIR GLOO_LIBRARY)
  if(NOT GLOO_INCLUDE_DIR OR NOT GLOO_LIBRARY)
    set(GLOO_LIBRARY "")
    message(STATUS "Gloo was not found: no backend 'gloo' (Debian's libgloo-dev brings it)")
  endif()
endif()
