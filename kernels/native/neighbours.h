// The most similar rows of a matrix, over any tier's products.
//
// Callers guarantee the shapes; outputs alias nothing. References: kernels/reference.

#ifndef LIVEMIND_KERNELS_NATIVE_NEIGHBOURS_H_
#define LIVEMIND_KERNELS_NATIVE_NEIGHBOURS_H_

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace livemind {

// Where a value was not finite. `found` is false when all were.
struct NonFinite {
  bool found = false;
  std::size_t query = 0;
  std::size_t row = 0;
};

struct Matrix {
  const void* data;
  std::ptrdiff_t stride;  // elements
  std::size_t rows, dim;
  bool int8;  // else `type`
  Type type;
  const float* scales;  // one per row of an int8 matrix
};

// The k rows with the largest dot product for each of q queries (float32, `query_stride` apart),
// best first, ties by lower row, into indices and values (q, k). 1 <= k <= rows, dim >= 1.
// The matrix is read once for all queries. With a non-finite product the outputs are unspecified.
NonFinite TopK(const Kernels& kernels, const float* queries, std::ptrdiff_t query_stride,
               std::size_t q, const Matrix& matrix, std::size_t k, std::int64_t* indices,
               float* values);

// Cosine of every row with every row into cosines (n, n), within [-1, 1]; 0 for a zero row.
// Adds up in float64. A row that is not finite is reported as `row`.
NonFinite PairwiseCosine(const Kernels& kernels, const float* rows, std::ptrdiff_t stride,
                         std::size_t n, std::size_t dim, float* cosines);

// Rows as int8: round(row / scale) with scale = largest magnitude / 127 (0 for a zero row).
NonFinite QuantizeRows(const float* rows, std::ptrdiff_t stride, std::size_t n, std::size_t dim,
                       std::int8_t* codes, float* scales);

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_NEIGHBOURS_H_
