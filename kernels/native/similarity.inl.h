// Products of one query with many rows; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

constexpr size_t kPair = 2 * kW;      // 16-bit elements in a register
constexpr size_t kLineBytes = 64;     // of the cache
constexpr size_t kAheadBytes = 8192;  // fetched this long before they are needed

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

// How products of one type of row are added up: kStep elements at a time, or fewer at the end.
template <Type kType>
struct FloatProducts {
  typedef float Query;
  typedef typename Element<kType>::Stored Stored;
  typedef F Sums;
  typedef float Total;
  static constexpr size_t kStep = 2 * kW;
  static constexpr size_t kSums = 2;
  static constexpr size_t kChains = LM_AVX512 ? 1 : 4;

  static LM_INLINE void Add(F* sums, const float* query, const Stored* row) {
    if constexpr (kType == Type::kBF16) {
      U pairs;
      __builtin_memcpy(&pairs, row, sizeof pairs);
#if LM_AVX512 || LM_AVX2
      asm("" : "+v"(pairs));  // one load: GCC would read the row for each of the two uses
#endif
      sums[0] += (F)(pairs << 16) * Load(query);
      sums[1] += (F)(pairs & 0xffff0000u) * Load(query + kW);
    } else {
      sums[0] += Element<kType>::LoadN(row) * Load(query);
      sums[1] += Element<kType>::LoadN(row + kW) * Load(query + kW);
    }
  }
  static LM_INLINE void AddSome(F* sums, const float* query, const Stored* row, size_t count) {
    for (size_t i = 0; i < count; i += kW) {
      sums[0] += LoadSome<kType>(row + i, count - i) * LoadSome<Type::kF32>(query + i, count - i);
    }
  }
};

// Exact for dim < 2^17: every product is at most 127 * 128, and sums wrap.
struct Int8Products {
  typedef int8_t Query;
  typedef int8_t Stored;
  typedef U Sums;
  typedef uint32_t Total;
#if LM_VNNI
  static constexpr size_t kStep = 64;
#elif LM_AVX512
  static constexpr size_t kStep = 32;
#elif LM_AVX2 || LM_DOTPROD
  static constexpr size_t kStep = 16;
#elif LM_NEON
  static constexpr size_t kStep = 8;
#else
  static constexpr size_t kStep = 1;
#endif
  static constexpr size_t kSums = 1;
  static constexpr size_t kChains = kStep == 1 ? 4 : kLineBytes / kStep;

  static LM_INLINE void Add(U* sums, const int8_t* query, const int8_t* row) {
#if LM_VNNI  // unsigned times signed: the row is shifted by 128, and DotsI8 shifts back
    const __m512i m = _mm512_xor_si512(_mm512_loadu_si512(row), _mm512_set1_epi8(-128));
    *sums = (U)_mm512_dpbusd_epi32((__m512i)*sums, m, _mm512_loadu_si512(query));
#elif LM_AVX512
    const __m512i m = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)row));
    const __m512i q = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)query));
    *sums += (U)_mm512_madd_epi16(m, q);
#elif LM_AVX2
    const __m256i m = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)row));
    const __m256i q = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)query));
    *sums += (U)_mm256_madd_epi16(m, q);
#elif LM_DOTPROD
    *sums = (U)vdotq_s32((int32x4_t)*sums, vld1q_s8(row), vld1q_s8(query));
#elif LM_NEON
    *sums = (U)vpadalq_s16((int32x4_t)*sums, vmull_s8(vld1_s8(row), vld1_s8(query)));
#else
    *sums += (uint32_t)((int32_t)*row * *query);
#endif
  }
  static LM_INLINE void AddSome(U* sums, const int8_t* query, const int8_t* row, size_t count) {
    int8_t of_query[kStep] = {}, of_row[kStep] = {};
    __builtin_memcpy(of_query, query, count);
    __builtin_memcpy(of_row, row, count);
    Add(sums, of_query, of_row);
  }
};

// Where the element lies, seen from this one, that is read kAheadBytes later.
template <typename Stored>
ptrdiff_t Ahead(ptrdiff_t stride, size_t dim) {
  constexpr size_t kAhead = kAheadBytes / sizeof(Stored);
  return dim >= kAhead ? (ptrdiff_t)kAhead : stride * (ptrdiff_t)((kAhead + dim - 1) / dim);
}

template <size_t kCount, typename V>
LM_INLINE V Folded(V* sums) {
  if constexpr (kCount == 1) return sums[0];
  for (size_t i = 0; i < kCount / 2; ++i) sums[i] += sums[i + kCount / 2];
  return Folded<(kCount + 1) / 2>(sums);
}

template <typename P>
LM_INLINE typename P::Sums DotRow(const typename P::Query* query, const typename P::Stored* row,
                                  ptrdiff_t ahead, size_t dim) {
  constexpr size_t kLine = kLineBytes / sizeof(typename P::Stored);
  constexpr size_t kRound = P::kChains * P::kStep;
  typename P::Sums sums[P::kChains * P::kSums] = {};
  const size_t whole = dim / kRound * kRound;
  for (size_t i = 0; i < whole; i += kRound) {
    for (size_t chain = 0; chain < P::kChains; ++chain) {
      const size_t at = i + chain * P::kStep;
      if (kRound < kLine ? at % kLine == 0 : chain * P::kStep % kLine == 0) {
        __builtin_prefetch(row + at + ahead);
      }
      P::Add(sums + chain * P::kSums, query + at, row + at);
    }
  }
  if (whole < dim) {
    size_t i = whole;
    __builtin_prefetch(row + i + ahead);
    for (; i + P::kStep <= dim; i += P::kStep) P::Add(sums, query + i, row + i);
    if (i < dim) P::AddSome(sums, query + i, row + i, dim - i);
  }
  return Folded<P::kChains * P::kSums>(sums);
}

// One row after the other, as memory is read fastest. Every row is added up in the same order:
// equal rows get equal products.
template <typename P, typename Out>
LM_INLINE void DotRows(const typename P::Query* query, const typename P::Stored* matrix,
                       ptrdiff_t stride, size_t rows, size_t dim, typename P::Total less,
                       Out* out) {
  const ptrdiff_t ahead = Ahead<typename P::Stored>(stride, dim);
  typename P::Sums sums[4];
  typename P::Total totals[4];
  for (; rows >= 4; rows -= 4) {
    for (size_t row = 0; row < 4; ++row) {
      sums[row] = DotRow<P>(query, matrix, ahead, dim);
      matrix += stride;
    }
    SumFour(sums, totals);
    for (size_t row = 0; row < 4; ++row) *out++ = (Out)(totals[row] - less);
  }
  for (size_t row = 0; row < 4; ++row) {
    sums[row] = row < rows ? DotRow<P>(query, matrix + (ptrdiff_t)row * stride, ahead, dim)
                           : typename P::Sums{};
  }
  SumFour(sums, totals);
  for (size_t row = 0; row < rows; ++row) out[row] = (Out)(totals[row] - less);
}

void Dots(const float* prepared, Type type, const void* matrix, ptrdiff_t stride, size_t rows,
          size_t dim, float* out) {
#define LM_CALL(t)                                                                             \
  DotRows<FloatProducts<t>>(prepared, static_cast<const typename Element<t>::Stored*>(matrix), \
                            stride, rows, dim, 0.0f, out)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

void DotsI8(const int8_t* query, const int8_t* matrix, ptrdiff_t stride, size_t rows, size_t dim,
            int32_t* out) {
  uint32_t shift = 0;
#if LM_VNNI
  for (size_t i = 0; i < dim; ++i) shift += 128u * (uint32_t)(int32_t)query[i];
#endif
  DotRows<Int8Products>(query, matrix, stride, rows, dim, shift, out);
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
