// Which tiers were compiled and which of them this processor runs.

#ifndef LIVEMIND_KERNELS_NATIVE_ISA_H_
#define LIVEMIND_KERNELS_NATIVE_ISA_H_

#include <cstddef>

#include "kernels.h"

namespace livemind {

struct Tier {
  const Kernels* kernels;
  bool supported;  // by this processor
};

// The compiled tiers, slowest first; at least the scalar one, which runs everywhere.
const Tier* Tiers(std::size_t* count);

// The fastest supported tier.
const Kernels& BestTier();

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_ISA_H_
