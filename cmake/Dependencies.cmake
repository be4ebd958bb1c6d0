# Third-party headers of the torch-free part: Boost (Asio, Process v1), fmt, spdlog, nlohmann-json, cxxopts; all header-only.
# A native build finds them where the system has them. A cross build must never see /usr/include itself, so their folders
# are linked into the build tree and only that folder is on its path.
find_package(Threads REQUIRED)

add_library(deepscale_third_party INTERFACE)
if(CMAKE_CROSSCOMPILING)
  set(overlay ${PROJECT_BINARY_DIR}/third_party)
  file(MAKE_DIRECTORY ${overlay})
  foreach(name boost fmt spdlog nlohmann cxxopts.hpp)
    if(NOT EXISTS /usr/include/${name})
      message(FATAL_ERROR "/usr/include/${name} is missing. Run ./build.sh deps (or install libboost1.81-dev libfmt-dev "
                          "libspdlog-dev nlohmann-json3-dev libcxxopts-dev).")
    endif()
    file(CREATE_LINK /usr/include/${name} ${overlay}/${name} SYMBOLIC)
  endforeach()
  file(WRITE ${overlay}/Windows.h "#pragma once\n#include <windows.h>\n")  # Boost spells it with a capital W
  target_include_directories(deepscale_third_party SYSTEM INTERFACE ${overlay})
else()
  find_path(BOOST_INCLUDE_DIR boost/asio.hpp)
  find_path(CXXOPTS_INCLUDE_DIR cxxopts.hpp)
  find_path(JSON_INCLUDE_DIR nlohmann/json.hpp)
  find_path(SPDLOG_INCLUDE_DIR spdlog/spdlog.h)
  find_path(FMT_INCLUDE_DIR fmt/format.h)
  foreach(dir BOOST_INCLUDE_DIR CXXOPTS_INCLUDE_DIR JSON_INCLUDE_DIR SPDLOG_INCLUDE_DIR FMT_INCLUDE_DIR)
    if(NOT ${dir})
      message(FATAL_ERROR "${dir} was not found. ./build.sh deps installs what DeepScale needs on Debian and Ubuntu.")
    endif()
    target_include_directories(deepscale_third_party SYSTEM INTERFACE ${${dir}})
  endforeach()
endif()
target_compile_definitions(deepscale_third_party INTERFACE
  FMT_HEADER_ONLY SPDLOG_FMT_EXTERNAL BOOST_PROCESS_USE_STD_FS BOOST_ASIO_NO_DEPRECATED)
target_link_libraries(deepscale_third_party INTERFACE Threads::Threads)
if(WIN32)
  target_compile_definitions(deepscale_third_party INTERFACE
    _WIN32_WINNT=0x0A00 WIN32_LEAN_AND_MEAN NOMINMAX UNICODE _UNICODE)
  target_link_libraries(deepscale_third_party INTERFACE ws2_32 mswsock)
endif()
