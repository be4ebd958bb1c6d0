# Resolves LibTorch and defines two targets:
#   deepscale_torch_cpu   libtorch_cpu + libc10, all that a CPU program needs
#   deepscale_torch_cuda  the CUDA half on top (only where DEEPSCALE_CUDA_ENABLED is then ON)
# Order: Torch_DIR, CMAKE_PREFIX_PATH, the torch that python3 imports (DEEPSCALE_USE_PYTHON_TORCH=ON), else the pinned wheel from PyPI, unpacked
# once into DEEPSCALE_CACHE_DIR. DEEPSCALE_LIBTORCH_HINT is tried before that wheel. find_package(Torch) is not used: the wheel's own package
# needs every GPU library to link.
include(PinnedWheel)
option(DEEPSCALE_USE_PYTHON_TORCH "Use the LibTorch of the torch that python3 imports" OFF)
set(oldest_torch 2.4)

# --- where it is: the root of a LibTorch is the folder that holds include/torch and lib ----------------------------------------------
function(deepscale_user_torch_candidates out)
  set(candidates)
  foreach(torch_dir ${Torch_DIR} $ENV{Torch_DIR})
    get_filename_component(root "${torch_dir}/../../.." ABSOLUTE)
    if(NOT EXISTS ${root}/include/torch)
      message(FATAL_ERROR "Torch_DIR=${torch_dir} is not <libtorch>/share/cmake/Torch: ${root}/include/torch does not exist.")
    endif()
    list(APPEND candidates ${root})
  endforeach()
  file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" prefixes_of_environment)
  foreach(prefix ${CMAKE_PREFIX_PATH} ${prefixes_of_environment})
    list(APPEND candidates ${prefix} ${prefix}/libtorch ${prefix}/../..)  # the last: torch.utils.cmake_prefix_path of Python
  endforeach()
  if(DEEPSCALE_USE_PYTHON_TORCH)
    execute_process(COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                    OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed EQUAL 0)
      message(FATAL_ERROR "DEEPSCALE_USE_PYTHON_TORCH is on, but python3 has no package torch. Activate the virtual environment that has.")
    endif()
    list(APPEND candidates ${root})
  endif()
  list(APPEND candidates ${DEEPSCALE_LIBTORCH_HINT})
  set(${out} ${candidates} PARENT_SCOPE)
endfunction()

function(deepscale_resolve_libtorch out)
  deepscale_user_torch_candidates(candidates)
  foreach(root ${candidates})
    if(EXISTS ${root}/include/torch/csrc/api/include/torch/torch.h)
      get_filename_component(root ${root} ABSOLUTE)
      set(${out} ${root} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR NOT (MSVC OR CMAKE_SYSTEM_NAME STREQUAL "Linux"))
    message(FATAL_ERROR "The pinned LibTorch wheels are for x86-64, Linux or Windows with MSVC. Elsewhere give your own: "
                        "-DTorch_DIR=<libtorch>/share/cmake/Torch.")
  endif()
  if(MSVC)  # for the CPU; its DLLs must be in PATH when a program starts (build_win.bat sees to it)
    set(DEEPSCALE_WHEEL_PLATFORMS win_amd64)
    deepscale_cached_wheels(libtorch-2.15.0 unpacked
      torch==2.15.0 d2c5938f593a47cf6d151a16d130a3cc3f0c105df1b905a571efc00b01e38c1f)
  else()
    # libtorch_cpu of this wheel needs libcudart.so.13 and libcupti.so.13 even on the CPU; its RPATH finds them beside itself.
    deepscale_cached_wheels(libtorch-2.15.0 unpacked
      torch==2.15.0 48c2d861134c0b5697c7602cb5ffa68f62a2989fdcd1717e593356f67996ca1e
      nvidia-cuda-runtime==13.5.37 df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d
      nvidia-cuda-cupti==13.5.25 9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650)
  endif()
  set(${out} ${unpacked}/torch PARENT_SCOPE)
endfunction()

# --- what it is ----------------------------------------------------------------------------------------------------------------------
function(deepscale_libtorch_version root out)
  set(file ${root}/share/cmake/Torch/TorchConfigVersion.cmake)
  if(EXISTS ${file})
    file(STRINGS ${file} line REGEX "set\\(PACKAGE_VERSION ")
  endif()
  if(NOT line MATCHES "[0-9]+\\.[0-9]+\\.[0-9]+")
    message(FATAL_ERROR "${file} does not tell the version of LibTorch.")
  endif()
  set(${out} ${CMAKE_MATCH_0} PARENT_SCOPE)
endfunction()

# Wheels before 2.6 were built with the old string ABI; then every target has to be.
macro(deepscale_adopt_libtorch_abi root)
  file(STRINGS ${root}/share/cmake/Torch/TorchConfig.cmake old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(old_abi)
    add_compile_definitions(_GLIBCXX_USE_CXX11_ABI=0)
  endif()
endmacro()

deepscale_resolve_libtorch(DEEPSCALE_LIBTORCH_ROOT)
deepscale_libtorch_version(${DEEPSCALE_LIBTORCH_ROOT} DEEPSCALE_LIBTORCH_VERSION)
if(DEEPSCALE_LIBTORCH_VERSION VERSION_LESS oldest_torch)
  message(FATAL_ERROR "LibTorch ${DEEPSCALE_LIBTORCH_VERSION} in ${DEEPSCALE_LIBTORCH_ROOT} is too old: ${oldest_torch} is the oldest that works.")
endif()
deepscale_adopt_libtorch_abi(${DEEPSCALE_LIBTORCH_ROOT})
set(DEEPSCALE_LIBTORCH_FOLDER ${DEEPSCALE_LIBTORCH_ROOT} CACHE INTERNAL "Where LibTorch was found")
message(STATUS "LibTorch ${DEEPSCALE_LIBTORCH_VERSION} in ${DEEPSCALE_LIBTORCH_ROOT}")

# --- the CPU half --------------------------------------------------------------------------------------------------------------------
set(torch_lib ${DEEPSCALE_LIBTORCH_ROOT}/lib)
function(deepscale_torch_library name out)
  find_library(found ${name} PATHS ${torch_lib} NO_DEFAULT_PATH NO_CACHE)
  set(${out} ${found} PARENT_SCOPE)
endfunction()
deepscale_torch_library(torch_cpu torch_cpu_library)
deepscale_torch_library(c10 c10_library)
if(NOT torch_cpu_library OR NOT c10_library)
  message(FATAL_ERROR "${torch_lib} lacks the torch_cpu or the c10 library.")
endif()

add_library(deepscale_torch_cpu INTERFACE)
target_include_directories(deepscale_torch_cpu SYSTEM INTERFACE
  ${DEEPSCALE_LIBTORCH_ROOT}/include ${DEEPSCALE_LIBTORCH_ROOT}/include/torch/csrc/api/include)
# Release LibTorch is built with NDEBUG, and at::RecordFunction has a member that depends on it.
target_compile_definitions(deepscale_torch_cpu INTERFACE NDEBUG)
target_link_libraries(deepscale_torch_cpu INTERFACE ${torch_cpu_library} ${c10_library})
if(UNIX)
  # The CUDA wheel's libraries name others (cuDNN, NCCL) that a CPU program never loads and this machine may not have.
  target_link_options(deepscale_torch_cpu INTERFACE -Wl,-rpath,${torch_lib} -Wl,--unresolved-symbols=ignore-in-shared-libs)
endif()

# --- the CUDA half -------------------------------------------------------------------------------------------------------------------
# AUTO asks for a CUDA program that can start here: the toolkit to compile with, and every library that libtorch_cuda loads.
function(deepscale_can_load library out)
  execute_process(COMMAND ldd ${library} OUTPUT_VARIABLE needed RESULT_VARIABLE failed ERROR_QUIET)
  if(failed EQUAL 0 AND NOT needed MATCHES "not found")
    set(${out} ON PARENT_SCOPE)
  else()
    set(${out} OFF PARENT_SCOPE)
  endif()
endfunction()

set(DEEPSCALE_CUDA_ENABLED OFF)
if(NOT DEEPSCALE_WITH_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  deepscale_torch_library(torch_cuda torch_cuda_library)
  deepscale_torch_library(c10_cuda c10_cuda_library)
  if(CUDAToolkit_FOUND AND torch_cuda_library)
    deepscale_can_load(${torch_cuda_library} loadable)
    if(loadable OR NOT DEEPSCALE_WITH_CUDA STREQUAL "AUTO")
      set(DEEPSCALE_CUDA_ENABLED ON)
    endif()
  elseif(NOT DEEPSCALE_WITH_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "DEEPSCALE_WITH_CUDA=${DEEPSCALE_WITH_CUDA} needs the CUDA toolkit (found: ${CUDAToolkit_FOUND}) and a LibTorch with "
                        "CUDA (libtorch_cuda in ${torch_lib}). Use -DDEEPSCALE_WITH_CUDA=OFF for a CPU build.")
  endif()
endif()
if(DEEPSCALE_CUDA_ENABLED)
  add_library(deepscale_torch_cuda INTERFACE)
  target_link_libraries(deepscale_torch_cuda INTERFACE deepscale_torch_cpu CUDA::cudart)
  if(UNIX)  # a program that names no symbol of libtorch_cuda needs it all the same: loading it registers the kernels
    target_link_libraries(deepscale_torch_cuda INTERFACE -Wl,--no-as-needed ${torch_cuda_library} -Wl,--as-needed ${c10_cuda_library})
  else()
    target_link_libraries(deepscale_torch_cuda INTERFACE ${torch_cuda_library} ${c10_cuda_library})
  endif()
endif()
message(STATUS "CUDA: ${DEEPSCALE_CUDA_ENABLED}")
