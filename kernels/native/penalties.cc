#include "penalties.h"

namespace livemind {
namespace {

// Marks a token of the prompt; the lower bits count how often the output has it.
constexpr std::uint32_t kInPrompt = 1u << 31;

}  // namespace

void ApplyPenalties(float* logits, std::size_t vocabulary, const std::int64_t* prompt,
                    std::size_t prompt_length, const std::int64_t* output,
                    std::size_t output_length, Penalties penalties, std::uint32_t* counts) {
  const auto known = [vocabulary](std::int64_t token) {
    return token >= 0 && static_cast<std::uint64_t>(token) < vocabulary;
  };
  for (std::size_t i = 0; i < prompt_length; ++i) {
    if (known(prompt[i])) counts[prompt[i]] = kInPrompt;
  }
  for (std::size_t i = 0; i < output_length; ++i) {
    if (known(output[i])) ++counts[output[i]];
  }
  // Each token once: the first visit also clears its count.
  const auto apply = [&](std::int64_t token) {
    if (!known(token) || counts[token] == 0) return;
    const std::uint32_t times = counts[token] & ~kInPrompt;
    counts[token] = 0;
    float logit = logits[token];
    logit = logit > 0.0f ? logit / penalties.repetition : logit * penalties.repetition;
    if (times > 0) {
      logit -= penalties.frequency * static_cast<float>(times);
      logit -= penalties.presence;
    }
    logits[token] = logit;
  };
  for (std::size_t i = 0; i < output_length; ++i) apply(output[i]);
  for (std::size_t i = 0; i < prompt_length; ++i) apply(prompt[i]);
}

}  // namespace livemind
