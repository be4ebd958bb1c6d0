// All that a program needs to train with DeepScale: Engine, Config, initialize().
#pragma once

#include "comm/base/error.h"
#include "runtime/config/config.h"
#include "runtime/engine/activation_checkpoint.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/zero_init.h"
