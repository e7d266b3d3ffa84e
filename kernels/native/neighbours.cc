#include "neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace livemind {
namespace {

constexpr std::size_t kBlock = 64;  // rows whose products are held at once

// Queries begin at a cache line: they are read once for every row.
template <typename T>
struct alignas(64) Line {
  static constexpr std::size_t kElements = 64 / sizeof(T);
  T elements[kElements];
};

bool Better(const Neighbour& a, const Neighbour& b) {
  return a.similarity != b.similarity ? a.similarity > b.similarity : a.row < b.row;
}

// Keeps the k best; the heap's front is the worst of them. Rows arrive in ascending order, so a
// newcomer that ties with the worst never replaces it.
void Offer(std::vector<Neighbour>& heap, std::size_t k, const Neighbour& candidate) {
  if (heap.size() < k) {
    heap.push_back(candidate);
    std::push_heap(heap.begin(), heap.end(), Better);
  } else if (candidate.similarity > heap.front().similarity) {
    std::pop_heap(heap.begin(), heap.end(), Better);
    heap.back() = candidate;
    std::push_heap(heap.begin(), heap.end(), Better);
  }
}

// Whether any of the products is above `least` or not finite.
bool AnyMatters(const float* products, std::size_t count, float least) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  int matters = 0;
  for (std::size_t row = 0; row < count; ++row) {
    matters |=
        static_cast<int>(!(products[row] <= least)) | static_cast<int>(!(products[row] >= kLowest));
  }
  return matters != 0;
}

bool QuantizeRow(const float* row, std::size_t dim, std::int8_t* codes, float* scale) {
  float largest = 0.0F, sum = 0.0F;
  for (std::size_t i = 0; i < dim; ++i) {
    largest = std::max(largest, std::fabs(row[i]));
    sum += row[i] - row[i];  // 0, or NaN from here on
  }
  if (sum != 0.0F || std::isnan(sum)) return false;
  *scale = largest / 127.0F;
  for (std::size_t i = 0; i < dim; ++i) {
    // divided first: 127 / largest overflows where largest is subnormal
    const float share = largest > 0.0F ? row[i] / largest : 0.0F;
    codes[i] = static_cast<std::int8_t>(std::lrintf(share * 127.0F));
  }
  return true;
}

}  // namespace

NonFinite TopK(const Kernels& kernels, const float* queries, std::ptrdiff_t query_stride,
               std::size_t q, const Matrix& matrix, std::size_t k, std::int64_t* indices,
               float* values) {
  const std::size_t dim = matrix.dim;
  std::vector<std::vector<Neighbour>> heaps(q);
  for (auto& heap : heaps) heap.reserve(k);
  typedef Line<float> Floats;
  typedef Line<std::int8_t> Codes;
  const std::size_t float_lines = (dim + Floats::kElements - 1) / Floats::kElements;
  const std::size_t code_lines = (dim + Codes::kElements - 1) / Codes::kElements;
  std::vector<Floats> prepared(matrix.int8 ? 0 : q * float_lines);
  std::vector<Codes> codes(matrix.int8 ? q * code_lines : 0);
  std::vector<float> scales(matrix.int8 ? q : 0);
  for (std::size_t i = 0; i < q; ++i) {
    const float* query = queries + static_cast<std::ptrdiff_t>(i) * query_stride;
    if (!matrix.int8) {
      kernels.prepare_query(query, dim, matrix.type, prepared[i * float_lines].elements);
    } else if (!QuantizeRow(query, dim, codes[i * code_lines].elements, &scales[i])) {
      return {true, i, 0};
    }
  }
  const std::ptrdiff_t row_bytes = matrix.stride * (matrix.int8                 ? 1
                                                    : matrix.type == Type::kF32 ? 4
                                                                                : 2);
  float products[kBlock];
  std::int32_t wholes[kBlock];
  for (std::size_t start = 0; start < matrix.rows; start += kBlock) {
    const std::size_t count = std::min(kBlock, matrix.rows - start);
    const char* block =
        static_cast<const char*>(matrix.data) + static_cast<std::ptrdiff_t>(start) * row_bytes;
    for (std::size_t i = 0; i < q; ++i) {
      if (matrix.int8) {
        kernels.dots_i8(codes[i * code_lines].elements, reinterpret_cast<const std::int8_t*>(block),
                        matrix.stride, count, dim, wholes);
        for (std::size_t row = 0; row < count; ++row) {
          products[row] =
              static_cast<float>(wholes[row]) * (scales[i] * matrix.scales[start + row]);
        }
      } else {
        kernels.dots(prepared[i * float_lines].elements, matrix.type, block, matrix.stride, count,
                     dim, products);
      }
      std::vector<Neighbour>& heap = heaps[i];
      const float least =
          heap.size() < k ? -std::numeric_limits<float>::infinity() : heap.front().similarity;
      if (!AnyMatters(products, count, least)) continue;
      for (std::size_t row = 0; row < count; ++row) {
        if (!std::isfinite(products[row])) return {true, i, start + row};
        Offer(heap, k, {products[row], static_cast<std::int64_t>(start + row)});
      }
    }
  }
  for (auto& heap : heaps) {
    std::sort_heap(heap.begin(), heap.end(), Better);
    for (const Neighbour& best : heap) {
      *indices++ = best.row;
      *values++ = best.similarity;
    }
  }
  return {};
}

NonFinite PairwiseCosine(const Kernels& kernels, const float* rows, std::ptrdiff_t stride,
                         std::size_t n, std::size_t dim, float* cosines) {
  std::vector<double> unit(n * dim);  // the rows at length 1
  for (std::size_t i = 0; i < n; ++i) {
    const float* row = rows + static_cast<std::ptrdiff_t>(i) * stride;
    double squared = 0.0;
    for (std::size_t d = 0; d < dim; ++d) squared += static_cast<double>(row[d]) * row[d];
    if (!std::isfinite(squared)) return {true, 0, i};
    const double inverse = squared > 0.0 ? 1.0 / std::sqrt(squared) : 0.0;
    for (std::size_t d = 0; d < dim; ++d) unit[i * dim + d] = row[d] * inverse;
  }
  std::vector<double> products(n);
  for (std::size_t i = 0; i < n; ++i) {
    kernels.dots_f64(unit.data() + i * dim, unit.data() + i * dim, n - i, dim, products.data());
    for (std::size_t j = i; j < n; ++j) {
      const double cosine = std::clamp(products[j - i], -1.0, 1.0);
      cosines[i * n + j] = cosines[j * n + i] = static_cast<float>(cosine);
    }
  }
  return {};
}

NonFinite QuantizeRows(const float* rows, std::ptrdiff_t stride, std::size_t n, std::size_t dim,
                       std::int8_t* codes, float* scales) {
  for (std::size_t i = 0; i < n; ++i) {
    if (!QuantizeRow(rows + static_cast<std::ptrdiff_t>(i) * stride, dim, codes + i * dim,
                     &scales[i])) {
      return {true, 0, i};
    }
  }
  return {};
}

}  // namespace livemind
