// Similarity kernels over rows of float32, free of Python.
//
// Callers guarantee the shapes; pointers are aligned for float and never alias an output.
// Portable C++17: inner loops keep independent lanes so that any compiler can vectorise them.

#ifndef LIVEMIND_KERNELS_NATIVE_SIMILARITY_H_
#define LIVEMIND_KERNELS_NATIVE_SIMILARITY_H_

#include <cstddef>
#include <cstdint>

namespace livemind {

// Where a value was not finite. `found` is false when all were.
struct NonFinite {
  bool found = false;
  std::size_t query = 0;
  std::size_t row = 0;
};

// The k rows of `matrix` (n, dim) with the largest dot product for each row of `queries`
// (q, dim), best first, ties by lower row. Writes indices (q, k) and values (q, k).
// Requires 1 <= k <= n and dim >= 1. On a non-finite product the outputs are unspecified.
// Reads the matrix once for all queries. Reference: kernels/reference.py::cosine_top_k.
NonFinite CosineTopK(const float* queries, std::size_t q, const float* matrix, std::size_t n,
                     std::size_t dim, std::size_t k, std::int64_t* indices, float* values);

// Cosine of every row of `rows` (n, dim) with every row into `cosines` (n, n), within [-1, 1];
// 0 for a zero row. Accumulates in double. A row that is not finite is reported as `row`.
// Reference: kernels/reference.py::pairwise_cosine.
NonFinite PairwiseCosine(const float* rows, std::size_t n, std::size_t dim, float* cosines);

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_SIMILARITY_H_
