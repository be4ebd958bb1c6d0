// Loops that are compiled for several instruction sets and chosen at run time.
//
// A loop is a DEEPSCALE_INLINE function, called from one function for each set that DEEPSCALE_FOR_AVX2 or
// DEEPSCALE_FOR_AVX512 marks, and from an unmarked one. Where the compiler cannot do that (another processor,
// MSVC), the marks are empty, and available() never returns these sets.
#pragma once

namespace deepscale {

// Functions for one instruction set can take in others only where these are inlined into them.
#if defined(__GNUC__)
#define DEEPSCALE_INLINE [[gnu::always_inline]] inline
#else
#define DEEPSCALE_INLINE inline
#endif
// A hint to fetch the line of this address, which need not exist.
#if defined(__GNUC__)
#define DEEPSCALE_PREFETCH(address) __builtin_prefetch(address)
#else
#define DEEPSCALE_PREFETCH(address) static_cast<void>(address)
#endif
#if defined(__GNUC__) && defined(__x86_64__)
#define DEEPSCALE_FOR_AVX2 [[gnu::target("avx2,f16c")]]
#define DEEPSCALE_FOR_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]
#else
#define DEEPSCALE_FOR_AVX2
#define DEEPSCALE_FOR_AVX512
#endif

// kBest is the best that this processor has.
enum class InstructionSet { kPortable, kAvx2, kAvx512, kBest };

// What stands for `wanted` here: itself, the best for kBest, kPortable for one that this processor lacks.
InstructionSet available(InstructionSet wanted);

}  // namespace deepscale
