// Products of one query with many rows; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

constexpr size_t kPair = 2 * kW;  // 16-bit elements in a register
constexpr ptrdiff_t kAhead = 8;   // rows fetched into the cache before they are needed

// A bfloat16 register holds pairs: the low half of each 32 bits is the even element. The query is
// laid out to match, evens of a register then its odds, so that no element is moved.
void PrepareQuery(const float* query, size_t dim, Type type, float* prepared) {
  const size_t whole = type == Type::kBF16 ? dim / kPair * kPair : 0;
  for (size_t i = 0; i < whole; i += kPair) {
    for (size_t lane = 0; lane < kW; ++lane) {
      prepared[i + lane] = query[i + 2 * lane];
      prepared[i + kW + lane] = query[i + 2 * lane + 1];
    }
  }
  for (size_t i = whole; i < dim; ++i) prepared[i] = query[i];
}

// kRows rows at once share the loads of the query. Each row is added up in the same order
// whatever kRows is: equal rows get equal products.
template <Type kType, size_t kRows>
LM_INLINE void DotRows(const float* query, const typename Element<kType>::Stored* matrix,
                       ptrdiff_t stride, size_t dim, float* out) {
  F a[kRows] = {}, b[kRows] = {};
  size_t i = 0;
  if (kType == Type::kBF16) {
    for (; i + kPair <= dim; i += kPair) {
      const F even = Load(query + i), odd = Load(query + i + kW);
      for (size_t row = 0; row < kRows; ++row) {
        U pairs;
        const uint16_t* at = (const uint16_t*)matrix + (ptrdiff_t)row * stride + i;
        __builtin_memcpy(&pairs, at, sizeof pairs);
        if (kRows > 1) __builtin_prefetch(at + kAhead * stride);
        a[row] += (F)(pairs << 16) * even;
        b[row] += (F)(pairs & 0xffff0000u) * odd;
      }
    }
  } else {
    for (; i + 2 * kW <= dim; i += 2 * kW) {
      const F first = Load(query + i), second = Load(query + i + kW);
      for (size_t row = 0; row < kRows; ++row) {
        const typename Element<kType>::Stored* at = matrix + (ptrdiff_t)row * stride + i;
        if (kRows > 1) {
          __builtin_prefetch(at + kAhead * stride);
          if (sizeof(*at) == 4) __builtin_prefetch(at + kAhead * stride + kW);
        }
        a[row] += Element<kType>::LoadN(at) * first;
        b[row] += Element<kType>::LoadN(at + kW) * second;
      }
    }
  }
  for (; i < dim; i += kW) {
    const F part = LoadSome<Type::kF32>(query + i, dim - i);
    for (size_t row = 0; row < kRows; ++row) {
      a[row] += LoadSome<kType>(matrix + (ptrdiff_t)row * stride + i, dim - i) * part;
    }
  }
  for (size_t row = 0; row < kRows; ++row) out[row] = Sum(a[row] + b[row]);
}

template <Type kType>
void DotsOf(const float* query, const void* data, ptrdiff_t stride, size_t rows, size_t dim,
            float* out) {
  const typename Element<kType>::Stored* matrix =
      static_cast<const typename Element<kType>::Stored*>(data);
  size_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    const typename Element<kType>::Stored* at = matrix + (ptrdiff_t)row * stride;
    DotRows<kType, 4>(query, at, stride, dim, out + row);
  }
  for (; row < rows; ++row) {
    DotRows<kType, 1>(query, matrix + (ptrdiff_t)row * stride, stride, dim, out + row);
  }
}

void Dots(const float* prepared, Type type, const void* matrix, ptrdiff_t stride, size_t rows,
          size_t dim, float* out) {
#define LM_CALL(t) DotsOf<t>(prepared, matrix, stride, rows, dim, out)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

// Exact for dim < 2^17: every product is at most 127 * 128.
void DotsI8(const int8_t* query, const int8_t* matrix, ptrdiff_t stride, size_t rows, size_t dim,
            int32_t* out) {
#if LM_VNNI
  int32_t query_sum = 0;  // u8 * s8 instruction: rows are shifted by 128
  for (size_t i = 0; i + 64 <= dim; i += 64) {
    for (size_t lane = 0; lane < 64; ++lane) query_sum += query[i + lane];
  }
#endif
  for (size_t row = 0; row < rows; ++row) {
    const int8_t* at = matrix + (ptrdiff_t)row * stride;
    int32_t sum = 0;
    size_t i = 0;
#if LM_VNNI
    __m512i total = _mm512_setzero_si512();
    const __m512i flip = _mm512_set1_epi8(-128);
    for (; i + 64 <= dim; i += 64) {
      const __m512i m = _mm512_xor_si512(_mm512_loadu_si512(at + i), flip);
      total = _mm512_dpbusd_epi32(total, m, _mm512_loadu_si512(query + i));
    }
    sum = _mm512_reduce_add_epi32(total) - 128 * query_sum;
#elif LM_AVX512
    __m512i total = _mm512_setzero_si512();
    for (; i + 32 <= dim; i += 32) {
      const __m512i m = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(at + i)));
      const __m512i q = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(query + i)));
      total = _mm512_add_epi32(total, _mm512_madd_epi16(m, q));
    }
    sum = _mm512_reduce_add_epi32(total);
#elif LM_AVX2
    I total{};
    for (; i + 16 <= dim; i += 16) {
      const __m256i m = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(at + i)));
      const __m256i q = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(query + i)));
      total += (I)_mm256_madd_epi16(m, q);
    }
    for (size_t lane = 0; lane < kW; ++lane) sum += total[lane];
#elif LM_DOTPROD
    int32x4_t total = vdupq_n_s32(0);
    for (; i + 16 <= dim; i += 16) total = vdotq_s32(total, vld1q_s8(at + i), vld1q_s8(query + i));
    sum = vaddvq_s32(total);
#elif LM_NEON
    int32x4_t total = vdupq_n_s32(0);
    for (; i + 8 <= dim; i += 8) {
      total = vpadalq_s16(total, vmull_s8(vld1_s8(at + i), vld1_s8(query + i)));
    }
    sum = vaddvq_s32(total);
#endif
    for (; i < dim; ++i) sum += (int32_t)at[i] * query[i];
    out[row] = sum;
  }
}

template <size_t kRows>
LM_INLINE void DotRowsF64(const double* query, const double* matrix, size_t dim, double* out) {
  D sums[kRows];
  for (size_t row = 0; row < kRows; ++row) sums[row] = D{};
  size_t i = 0;
  for (; i + kW <= dim; i += kW) {
    D part;
    __builtin_memcpy(&part, query + i, sizeof part);
    for (size_t row = 0; row < kRows; ++row) {
      D other;
      __builtin_memcpy(&other, matrix + row * dim + i, sizeof other);
      sums[row] += part * other;
    }
  }
  for (size_t row = 0; row < kRows; ++row) {
    double sum = 0.0;
    for (size_t lane = 0; lane < kW; ++lane) sum += sums[row][lane];
    for (size_t at = i; at < dim; ++at) sum += query[at] * matrix[row * dim + at];
    out[row] = sum;
  }
}

void DotsF64(const double* query, const double* matrix, size_t rows, size_t dim, double* out) {
  size_t row = 0;
  for (; row + 4 <= rows; row += 4) DotRowsF64<4>(query, matrix + row * dim, dim, out + row);
  for (; row < rows; ++row) DotRowsF64<1>(query, matrix + row * dim, dim, out + row);
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
