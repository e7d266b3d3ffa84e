// Every kernel for one instruction set. CMake compiles this file once per tier with
// -DLM_TIER=name, the feature macros below and the tier's own compiler flags.

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

#ifndef LM_TIER
#error "LM_TIER names the instruction set"
#endif
#ifndef LM_AVX512
#define LM_AVX512 0
#endif
#ifndef LM_VNNI  // AVX512_VNNI and AVX512_BF16
#define LM_VNNI 0
#endif
#ifndef LM_AVX2
#define LM_AVX2 0
#endif
#ifndef LM_NEON
#define LM_NEON 0
#endif
#ifndef LM_DOTPROD
#define LM_DOTPROD 0
#endif
#ifndef LM_I8MM  // I8MM and BF16
#define LM_I8MM 0
#endif

// The order matters: each builds on those before it.
// clang-format off
#include "vec.h"
#include "rows.inl.h"
#include "sampling.inl.h"
#include "divergence.inl.h"
#include "similarity.inl.h"
#include "packed_tiles.inl.h"
#include "packed_arm.inl.h"
#include "packed.inl.h"
#include "fp8.inl.h"
#include "gemm.inl.h"
#include "attention.inl.h"
#include "encoder.inl.h"
#include "limits.inl.h"
// clang-format on

namespace livemind {
namespace LM_TIER {

#define LM_STRING(name) #name
#define LM_NAME(name) LM_STRING(name)

extern const Kernels kTable;
const Kernels kTable = {
    LM_NAME(LM_TIER), kW,           Filter,    Softmax,   Entropy, Kl,           Js,
    PrepareQuery,     Dots,         DotsI8,    DotsF64,   RmsNorm, Swiglu,       Rope,
    Quantize,         PackedLinear, Fp8Encode, Fp8Decode, Gemm,    AttentionRun, EncoderLayerRun,
    ReadAll,          MultiplyAdds,
};

}  // namespace LM_TIER
}  // namespace livemind
