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

// Whether this processor multiplies bytes on AMX tiles and Linux has given them to this process,
// which it does only on request (kernels/vllm_plugin/tiles.py).
bool TilesAllowed();

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_ISA_H_
