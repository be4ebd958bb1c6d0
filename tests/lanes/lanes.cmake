# A lane is one more build of the project whose tests join the native ones in one ctest run (./build.sh test): with sanitizers, or for Windows
# under Wine. DEEPSCALE_LANE says whether this build is one.
if(DEEPSCALE_SANITIZE OR CMAKE_CROSSCOMPILING)
  set(DEEPSCALE_LANE ON)
else()
  set(DEEPSCALE_LANE OFF)
endif()

# Gives a lane's test the surroundings that its programs need.
function(deepscale_surround_lane_test test)
  if(CMAKE_CROSSCOMPILING)
    set_tests_properties(${test} PROPERTIES FIXTURES_REQUIRED wine)
    deepscale_use_own_wine(${test})
  else()
    set_tests_properties(${test} PROPERTIES ENVIRONMENT
      "ASAN_OPTIONS=halt_on_error=1:detect_leaks=1;UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1;TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")
  endif()
endfunction()

# Wine with a prefix of this build tree: the user's own stays untouched. No display: Wine is then headless.
function(deepscale_use_own_wine test)
  set_tests_properties(${test} PROPERTIES
    ENVIRONMENT "WINEPREFIX=${PROJECT_BINARY_DIR}/wine;WINEDEBUG=-all" ENVIRONMENT_MODIFICATION "DISPLAY=unset:")
endfunction()

if(DEEPSCALE_SANITIZE)
  # Each sanitizer must find the mistake that it is there for, and end the program at once.
  add_executable(sanitizer_probe ${CMAKE_CURRENT_LIST_DIR}/sanitizer_probe.cc)
  target_link_libraries(sanitizer_probe PRIVATE deepscale_options)
  foreach(probe "address:overflow:AddressSanitizer: heap-buffer-overflow" "address:leak:LeakSanitizer: detected memory leaks"
                "undefined:shift:runtime error: shift exponent" "thread:race:ThreadSanitizer: data race")
    string(REGEX MATCH "^([a-z]+):([a-z]+):(.*)$" ignored "${probe}")
    set(mistake ${CMAKE_MATCH_2})
    set(finding ${CMAKE_MATCH_3})
    if(DEEPSCALE_SANITIZE MATCHES ${CMAKE_MATCH_1})
      set(test ${DEEPSCALE_TEST_PREFIX}finds_${mistake})
      add_test(NAME ${test} COMMAND sanitizer_probe ${mistake})
      set_tests_properties(${test} PROPERTIES LABELS unit TIMEOUT 60 PASS_REGULAR_EXPRESSION "${finding}" FAIL_REGULAR_EXPRESSION "went on")
      deepscale_surround_lane_test(${test})
    endif()
  endforeach()
elseif(CMAKE_CROSSCOMPILING)
  # A new prefix takes some 10 s; Debian's wineserver ends with its last client unless told to stay.
  add_test(NAME ${DEEPSCALE_TEST_PREFIX}start COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/start_wine.sh)
  set_tests_properties(${DEEPSCALE_TEST_PREFIX}start PROPERTIES LABELS unit TIMEOUT 180 FIXTURES_SETUP wine)
  add_test(NAME ${DEEPSCALE_TEST_PREFIX}stop COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/stop_wine.sh)
  set_tests_properties(${DEEPSCALE_TEST_PREFIX}stop PROPERTIES LABELS unit TIMEOUT 60 FIXTURES_CLEANUP wine)
  deepscale_use_own_wine(${DEEPSCALE_TEST_PREFIX}start)
  deepscale_use_own_wine(${DEEPSCALE_TEST_PREFIX}stop)
else()
  # build.sh writes there which lanes were built, and why the others were not.
  set(lanes ${PROJECT_BINARY_DIR}/lanes.cmake)
  if(NOT EXISTS ${lanes})
    file(WRITE ${lanes} "")
  endif()
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${lanes})
endif()

# What the CUDA lane compiles and links: the programs and tests/cuda, which need a device to run.
if(DEEPSCALE_CUDA_ENABLED)
  add_custom_target(cuda_targets)
  foreach(program cifar10 zero_inference)
    if(TARGET ${program})
      add_dependencies(cuda_targets ${program})
    endif()
  endforeach()
endif()
