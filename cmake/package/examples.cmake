# The examples as a project of its own, on an installed DeepScale:
#   cmake -S share/deepscale/examples -B build -DCMAKE_PREFIX_PATH=<where DeepScale is> && cmake --build build
cmake_minimum_required(VERSION 3.22)
project(DeepScaleExamples LANGUAGES C CXX)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
find_package(DeepScale REQUIRED OPTIONAL_COMPONENTS runtime)

add_executable(hello_ranks hello_ranks/main.cc)
target_link_libraries(hello_ranks PRIVATE DeepScale::comm)

# cifar10 also reads its command line, with cxxopts.
find_path(CXXOPTS_INCLUDE_DIR cxxopts.hpp)
if(TARGET DeepScale::runtime AND CXXOPTS_INCLUDE_DIR)
  file(READ cifar10/ds_config.json DEFAULT_CONFIG)
  configure_file(cifar10/default_config.cc.in default_config.cc @ONLY)
  file(GLOB sources CONFIGURE_DEPENDS cifar10/*.cc)
  add_executable(cifar10 ${sources} ${CMAKE_CURRENT_BINARY_DIR}/default_config.cc)
  target_include_directories(cifar10 PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/.. SYSTEM ${CXXOPTS_INCLUDE_DIR})
  target_link_libraries(cifar10 PRIVATE DeepScale::runtime)
else()
  message(STATUS "cifar10 is left out: it needs a DeepScale with its runtime, and cxxopts.")
endif()
