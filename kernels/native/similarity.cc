#include "similarity.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace livemind {
namespace {

constexpr std::size_t kLanes = 16;

// Lane-wise partial sums fix the order of additions: the result does not depend on the compiler's
// vector width, and equal rows always get equal products.
template <typename Sum>
Sum Dot(const float* a, const float* b, std::size_t dim) {
  Sum lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<Sum>(a[i + lane]) * static_cast<Sum>(b[i + lane]);
    }
  }
  for (std::size_t lane = 0; i < dim; ++i, ++lane) {
    lanes[lane] += static_cast<Sum>(a[i]) * static_cast<Sum>(b[i]);
  }
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

struct Candidate {
  float value;
  std::int64_t row;
};

bool Better(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.row < b.row;
}

// Keeps the k best candidates; the heap's front is the worst of them. Rows arrive in ascending
// order, so a newcomer that ties with the worst never replaces it.
void Offer(std::vector<Candidate>& heap, std::size_t k, const Candidate& candidate) {
  if (heap.size() < k) {
    heap.push_back(candidate);
    std::push_heap(heap.begin(), heap.end(), Better);
  } else if (candidate.value > heap.front().value) {
    std::pop_heap(heap.begin(), heap.end(), Better);
    heap.back() = candidate;
    std::push_heap(heap.begin(), heap.end(), Better);
  }
}

}  // namespace

NonFinite CosineTopK(const float* queries, std::size_t q, const float* matrix, std::size_t n,
                     std::size_t dim, std::size_t k, std::int64_t* indices, float* values) {
  std::vector<std::vector<Candidate>> heaps(q);
  for (auto& heap : heaps) heap.reserve(k);
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t query = 0; query < q; ++query) {
      const float value = Dot<float>(queries + query * dim, matrix + row * dim, dim);
      if (!std::isfinite(value)) return {true, query, row};
      Offer(heaps[query], k, {value, static_cast<std::int64_t>(row)});
    }
  }
  for (auto& heap : heaps) {
    std::sort_heap(heap.begin(), heap.end(), Better);
    for (const Candidate& best : heap) {
      *indices++ = best.row;
      *values++ = best.value;
    }
  }
  return {};
}

NonFinite PairwiseCosine(const float* rows, std::size_t n, std::size_t dim, float* cosines) {
  std::vector<double> inverse_norms(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double squared = Dot<double>(rows + i * dim, rows + i * dim, dim);
    if (!std::isfinite(squared)) return {true, 0, i};
    inverse_norms[i] = squared > 0.0 ? 1.0 / std::sqrt(squared) : 0.0;
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) {
      const double dot = Dot<double>(rows + i * dim, rows + j * dim, dim);
      const double cosine = dot * inverse_norms[i] * inverse_norms[j];
      cosines[i * n + j] = cosines[j * n + i] = static_cast<float>(std::clamp(cosine, -1.0, 1.0));
    }
  }
  return {};
}

}  // namespace livemind
