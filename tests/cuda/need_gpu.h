// Skips a test where there is no GPU.
#pragma once

#include <c10/cuda/CUDAFunctions.h>

#define DEEPSCALE_NEED_GPU() \
  if (c10::cuda::device_count() == 0) GTEST_SKIP() << "there is no CUDA device"
