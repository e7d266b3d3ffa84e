// Penalties on tokens that were seen; scattered memory, no SIMD.

#ifndef LIVEMIND_KERNELS_NATIVE_PENALTIES_H_
#define LIVEMIND_KERNELS_NATIVE_PENALTIES_H_

#include <cstddef>
#include <cstdint>

namespace livemind {

struct Penalties {
  float repetition, presence, frequency;
};

// Changes the logits of the tokens in `prompt` and `output`; ids outside [0, vocabulary) are
// padding. `counts` holds one number per token of the vocabulary, all zero before and after.
// Reference: kernels/reference::apply_penalties.
void ApplyPenalties(float* logits, std::size_t vocabulary, const std::int64_t* prompt,
                    std::size_t prompt_length, const std::int64_t* output,
                    std::size_t output_length, Penalties penalties, std::uint32_t* counts);

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_PENALTIES_H_
