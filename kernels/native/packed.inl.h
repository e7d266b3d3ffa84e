// Linear layers with weights of 4 or 8 bits and 8-bit activations; included by tier.cc.
//
// A block holds 16 outputs. With 4 bits it has 64 bytes for every 8 inputs: byte 4 * output + j
// carries input j in its low and input 4 + j in its high nibble, so that one load feeds two
// instructions that multiply and add four neighbouring bytes per 32-bit lane. With 8 bits it has 64
// bytes for every 4 inputs: byte 4 * output + j carries input j.

namespace livemind {
namespace LM_TIER {
namespace {

// Writes one byte of each lane, all of which fit one.
LM_INLINE void StoreBytes(int8_t* to, I v) {
#if LM_AVX512
  _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8((__m512i)v));
#elif LM_AVX2
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
  _mm_storel_epi64((__m128i*)to, _mm_packs_epi16(words, words));
#elif LM_NEON
  const int16x4_t words = vmovn_s32((int32x4_t)v);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
  __builtin_memcpy(to, &bytes, 4);
#else
  for (size_t lane = 0; lane < kW; ++lane) to[lane] = (int8_t)v[lane];
#endif
}

// x times 127 / largest, rounded to the nearest integer, half to even, by adding 1.5 * 2^23
LM_INLINE I Code(F x, float inverse) { return Bits(x * inverse + 12582912.0f) - 0x4b400000; }

template <Type kType>
void QuantizeRow(const void* data, size_t k, size_t group, int8_t* codes, float* scales,
                 float* sums) {
  const typename Element<kType>::Stored* x =
      static_cast<const typename Element<kType>::Stored*>(data);
  for (size_t start = 0, g = 0; start < k; start += group, ++g) {
    const size_t end = start + group;
    F largest{}, zeros{};
    size_t i = start;
    for (; i + kW <= end; i += kW) {
      const F v = Element<kType>::LoadN(x + i);
      largest = Max(v > -v ? v : -v, largest);
      zeros += v * 0.0f;
    }
    if (i < end) {
      const F v = LoadSome<kType>(x + i, end - i);
      largest = Max(v > -v ? v : -v, largest);
      zeros += v * 0.0f;
    }
    const float zero = Sum(zeros);
    if (zero != 0.0f) {  // an element is NaN or infinite: NaN, and so is all that it goes into
      __builtin_memset(codes + start, 0, group);
      scales[g] = sums[g] = zero;
      continue;
    }
    const float top = Largest(largest);
    const float scale = top / 127.0f, inverse = top > 0.0f ? 127.0f / top : 0.0f;
    I total{};
    for (i = start; i + kW <= end; i += kW) {
      const I code = Code(Element<kType>::LoadN(x + i), inverse);
      total += code;
      StoreBytes(codes + i, code);
    }
    if (i < end) {
      const I code = Code(LoadSome<kType>(x + i, end - i), inverse);
      total += code;
      for (size_t lane = 0; i + lane < end; ++lane) codes[i + lane] = (int8_t)code[lane];
    }
    scales[g] = scale;
    sums[g] = scale * Sum(__builtin_convertvector(total, F));  // whole numbers below 2^24: exact
  }
}

void Quantize(Type type, const void* x, size_t k, size_t group, int8_t* codes, float* scales,
              float* sums) {
#define LM_CALL(t) QuantizeRow<t>(x, k, group, codes, scales, sums)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

// How far ahead the weights of one token are fetched, by measurement.
constexpr size_t kGroupsAhead = 8, kBytesAhead = 2048;

// Integer sums of 16 outputs: kParts registers of kW lanes.
constexpr size_t kParts = 16 / kW;
#if LM_AVX512
typedef __m512i Q;
#elif LM_AVX2
typedef __m256i Q;
#elif LM_NEON
typedef int32x4_t Q;
#else
typedef int32_t Q;
#endif

// sum += the four products of unsigned nibbles and signed bytes in each 32-bit lane
#if LM_AVX512 || LM_AVX2
LM_INLINE Q MultiplyAdd(Q sum, Q nibbles, Q bytes) {
#if LM_VNNI
  return _mm512_dpbusd_epi32(sum, nibbles, bytes);
#elif LM_AVX512  // 2 * 15 * 127 fits 16 bits: no saturation
  const Q pairs = _mm512_maddubs_epi16(nibbles, bytes);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#else
  const Q pairs = _mm256_maddubs_epi16(nibbles, bytes);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}
#endif

// kM rows of x against one block of 16 outputs over one group of inputs.
template <size_t kM>
LM_INLINE void GroupSums(const uint8_t* codes, const int8_t* x, size_t x_stride, size_t group,
                         Q (&sums)[kM][kParts]) {
#if LM_I8MM
  SumsOnMatrices4<kM>(codes, x, x_stride, group, sums);
#else
  size_t i = 0;
#if LM_AVX512
  const __m512i nibble = _mm512_set1_epi8(15);
  if (kM == 1) {  // four independent sums: one chain would wait for itself
    Q chains[4] = {};
    for (; i + 16 <= group; i += 16, codes += 128) {
      const __m512i w = _mm512_loadu_si512(codes), v = _mm512_loadu_si512(codes + 64);
      int32_t bytes[4];
      __builtin_memcpy(bytes, x + i, 16);
      chains[0] = MultiplyAdd(chains[0], _mm512_and_si512(w, nibble), _mm512_set1_epi32(bytes[0]));
      chains[1] = MultiplyAdd(chains[1], _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble),
                              _mm512_set1_epi32(bytes[1]));
      chains[2] = MultiplyAdd(chains[2], _mm512_and_si512(v, nibble), _mm512_set1_epi32(bytes[2]));
      chains[3] = MultiplyAdd(chains[3], _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble),
                              _mm512_set1_epi32(bytes[3]));
    }
    sums[0][0] = _mm512_add_epi32(_mm512_add_epi32(chains[0], chains[1]),
                                  _mm512_add_epi32(chains[2], chains[3]));
  }
#endif
  for (; i < group; i += 8, codes += 64) {
#if LM_AVX512
    const __m512i w = _mm512_loadu_si512(codes);
    const __m512i low = _mm512_and_si512(w, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble);
    for (size_t m = 0; m < kM; ++m) {
      int32_t a, b;
      __builtin_memcpy(&a, x + m * x_stride + i, 4);
      __builtin_memcpy(&b, x + m * x_stride + i + 4, 4);
      sums[m][0] = MultiplyAdd(sums[m][0], low, _mm512_set1_epi32(a));
      sums[m][0] = MultiplyAdd(sums[m][0], high, _mm512_set1_epi32(b));
    }
#elif LM_AVX2
    const __m256i nibble = _mm256_set1_epi8(15);
    for (size_t part = 0; part < kParts; ++part) {
      const __m256i w = _mm256_loadu_si256((const __m256i*)(codes + 32 * part));
      const __m256i low = _mm256_and_si256(w, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
      for (size_t m = 0; m < kM; ++m) {
        int32_t a, b;
        __builtin_memcpy(&a, x + m * x_stride + i, 4);
        __builtin_memcpy(&b, x + m * x_stride + i + 4, 4);
        sums[m][part] = MultiplyAdd(sums[m][part], low, _mm256_set1_epi32(a));
        sums[m][part] = MultiplyAdd(sums[m][part], high, _mm256_set1_epi32(b));
      }
    }
#elif LM_NEON
    const uint8x16_t nibble = vdupq_n_u8(15);
    for (size_t part = 0; part < kParts; ++part) {
      const uint8x16_t w = vld1q_u8(codes + 16 * part);
      const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(w, nibble));
      const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(w, 4));
      for (size_t m = 0; m < kM; ++m) {
#if LM_DOTPROD
        const int8x8_t bytes = vld1_s8(x + m * x_stride + i);
        sums[m][part] =
            vdotq_lane_s32(vdotq_lane_s32(sums[m][part], low, bytes, 0), high, bytes, 1);
#else
        int32_t a, b;
        __builtin_memcpy(&a, x + m * x_stride + i, 4);
        __builtin_memcpy(&b, x + m * x_stride + i + 4, 4);
        const int8x16_t xa = vreinterpretq_s8_s32(vdupq_n_s32(a));
        const int8x16_t xb = vreinterpretq_s8_s32(vdupq_n_s32(b));
        // 4 * 15 * 127 fits 16 bits: all four are added before widening
        const int16x8_t first = vmlal_s8(vmull_s8(vget_low_s8(low), vget_low_s8(xa)),
                                         vget_low_s8(high), vget_low_s8(xb));
        const int16x8_t second = vmlal_s8(vmull_s8(vget_high_s8(low), vget_high_s8(xa)),
                                          vget_high_s8(high), vget_high_s8(xb));
        sums[m][part] = vpadalq_s16(sums[m][part], vpaddq_s16(first, second));
#endif
      }
    }
#else
    for (size_t output = 0; output < 16; ++output) {
      for (size_t j = 0; j < 4; ++j) {
        const int32_t low = codes[4 * output + j] & 15, high = codes[4 * output + j] >> 4;
        for (size_t m = 0; m < kM; ++m) {
          sums[m][output] += low * x[m * x_stride + i + j] + high * x[m * x_stride + i + 4 + j];
        }
      }
    }
#endif
  }
#endif  // not Arm with matrix instructions
}

// The same for weights of 8 bits, which as unsigned bytes are too large for products of signed ones
// in 16 bits: each nibble by itself, the high one sixteenfold.
template <size_t kM>
LM_INLINE void GroupSums8(const uint8_t* codes, const int8_t* x, size_t x_stride, size_t group,
                          Q (&sums)[kM][kParts]) {
#if LM_I8MM
  SumsOnMatrices8<kM>(codes, x, x_stride, group, sums);
#elif LM_DOTPROD
  SignedSums8<kM>(codes, x, x_stride, group, sums);
#else
  size_t i = 0;
#if LM_VNNI
  if (kM == 1) {  // independent sums, as above
    Q second{};
    for (; i + 8 <= group; i += 8, codes += 128) {
      int32_t bytes[2];
      __builtin_memcpy(bytes, x + i, 8);
      sums[0][0] = MultiplyAdd(sums[0][0], _mm512_loadu_si512(codes), _mm512_set1_epi32(bytes[0]));
      second = MultiplyAdd(second, _mm512_loadu_si512(codes + 64), _mm512_set1_epi32(bytes[1]));
    }
    sums[0][0] = _mm512_add_epi32(sums[0][0], second);
  }
#endif
  for (; i < group; i += 4, codes += 64) {
#if LM_VNNI
    const __m512i w = _mm512_loadu_si512(codes);
    for (size_t m = 0; m < kM; ++m) {
      int32_t a;
      __builtin_memcpy(&a, x + m * x_stride + i, 4);
      sums[m][0] = MultiplyAdd(sums[m][0], w, _mm512_set1_epi32(a));
    }
#elif LM_AVX512
    const __m512i w = _mm512_loadu_si512(codes), nibble = _mm512_set1_epi8(15);
    const __m512i low = _mm512_and_si512(w, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble);
    for (size_t m = 0; m < kM; ++m) {
      int32_t a;
      __builtin_memcpy(&a, x + m * x_stride + i, 4);
      const __m512i bytes = _mm512_set1_epi32(a);
      const __m512i upper =
          _mm512_madd_epi16(_mm512_maddubs_epi16(high, bytes), _mm512_set1_epi16(16));
      sums[m][0] = MultiplyAdd(_mm512_add_epi32(sums[m][0], upper), low, bytes);
    }
#elif LM_AVX2
    const __m256i nibble = _mm256_set1_epi8(15);
    for (size_t part = 0; part < kParts; ++part) {
      const __m256i w = _mm256_loadu_si256((const __m256i*)(codes + 32 * part));
      const __m256i low = _mm256_and_si256(w, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
      for (size_t m = 0; m < kM; ++m) {
        int32_t a;
        __builtin_memcpy(&a, x + m * x_stride + i, 4);
        const __m256i bytes = _mm256_set1_epi32(a);
        const __m256i upper =
            _mm256_madd_epi16(_mm256_maddubs_epi16(high, bytes), _mm256_set1_epi16(16));
        sums[m][part] = MultiplyAdd(_mm256_add_epi32(sums[m][part], upper), low, bytes);
      }
    }
#elif LM_NEON
    const uint8x16_t nibble = vdupq_n_u8(15);
    for (size_t part = 0; part < kParts; ++part) {
      const uint8x16_t w = vld1q_u8(codes + 16 * part);
      const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(w, nibble));
      const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(w, 4));
      for (size_t m = 0; m < kM; ++m) {
        int32_t a;
        __builtin_memcpy(&a, x + m * x_stride + i, 4);
        const int8x16_t bytes = vreinterpretq_s8_s32(vdupq_n_s32(a));
        // 17 * 15 * 127 fits 16 bits
        const int16x8_t first =
            vaddq_s16(vmull_s8(vget_low_s8(low), vget_low_s8(bytes)),
                      vshlq_n_s16(vmull_s8(vget_low_s8(high), vget_low_s8(bytes)), 4));
        const int16x8_t second =
            vaddq_s16(vmull_s8(vget_high_s8(low), vget_high_s8(bytes)),
                      vshlq_n_s16(vmull_s8(vget_high_s8(high), vget_high_s8(bytes)), 4));
        sums[m][part] =
            vaddq_s32(sums[m][part], vpaddq_s32(vpaddlq_s16(first), vpaddlq_s16(second)));
      }
    }
#else
    for (size_t output = 0; output < 16; ++output) {
      for (size_t j = 0; j < 4; ++j) {
        const int32_t code = codes[4 * output + j];
        for (size_t m = 0; m < kM; ++m) sums[m][output] += code * x[m * x_stride + i + j];
      }
    }
#endif
  }
#endif  // not Arm with dot products
}

template <Type kType, int kBits, size_t kM>
void PackedTile(const Packed& w, const int8_t* codes, const float* scales, const float* sums,
                const float* bias, Rows<void> out, size_t block) {
  typedef typename Element<kType>::Stored S;
  const size_t groups = w.k / w.group;
  constexpr size_t kPerLoad = 32 / kBits;  // inputs whose codes lie in 64 bytes
  const uint8_t* weights = w.codes + block * (w.k / kPerLoad) * 64;
  const float* weight_scales = w.scales + block * groups * 16;
  const float* weight_offsets = w.offsets + block * groups * 16;
  F totals[kM][kParts] = {};
  for (size_t g = 0; g < groups; ++g) {
    Q group_sums[kM][kParts] = {};
    const uint8_t* group_codes = weights + g * (w.group / kPerLoad) * 64;
    // Three streams are more than the processor follows by itself; past the end nothing happens.
    __builtin_prefetch(weight_scales + (g + kGroupsAhead) * 16);
    __builtin_prefetch(weight_offsets + (g + kGroupsAhead) * 16);
    for (size_t at = 0; at < (w.group / kPerLoad) * 64; at += 64) {
      __builtin_prefetch(group_codes + kBytesAhead + at);
    }
    if constexpr (kBits == 4) {
      GroupSums<kM>(group_codes, codes + g * w.group, w.k, w.group, group_sums);
    } else {
      GroupSums8<kM>(group_codes, codes + g * w.group, w.k, w.group, group_sums);
    }
    for (size_t part = 0; part < kParts; ++part) {
      const F scale = Load(weight_scales + g * 16 + part * kW);
      const F offset = Load(weight_offsets + g * 16 + part * kW);
      for (size_t m = 0; m < kM; ++m) {
        I whole;
        __builtin_memcpy(&whole, &group_sums[m][part], sizeof whole);
        totals[m][part] += __builtin_convertvector(whole, F) * (scale * scales[m * groups + g]);
        totals[m][part] -= offset * sums[m * groups + g];
      }
    }
  }
  for (size_t m = 0; m < kM; ++m) {
    S* to = static_cast<S*>(out.data) + (ptrdiff_t)m * out.stride + block * 16;
    for (size_t part = 0; part < kParts; ++part) {
      const size_t column = block * 16 + part * kW;
      if (column >= w.n) break;
      F value = totals[m][part];
      if (bias != nullptr) value += LoadSome<Type::kF32>(bias + column, w.n - column);
      StoreSome<kType>(to + part * kW, w.n - column, value);
    }
  }
}

template <Type kType, int kBits>
void PackedBlocks(const Packed& w, const int8_t* codes, const float* scales, const float* sums,
                  size_t m, const float* bias, Rows<void> out, size_t first, size_t last) {
  typedef typename Element<kType>::Stored S;
  const size_t groups = w.k / w.group;
  constexpr size_t kTile = LM_AVX512 ? 8 : 4;
  size_t done = 0;
#if LM_TILES
  while (m - done >= kTileHeight) {
    const size_t rows = PackedOnTiles<kType, kBits>(
        w, codes + done * w.k, scales + done * groups, sums + done * groups, m - done, bias,
        {static_cast<S*>(out.data) + (ptrdiff_t)done * out.stride, out.stride}, first, last);
    if (rows == 0) break;
    done += rows;
  }
#endif
  for (size_t block = first; block < last && done < m; ++block) {
    size_t row = done;
#define LM_TILE(rows)                                                         \
  PackedTile<kType, kBits, rows>(                                             \
      w, codes + row * w.k, scales + row * groups, sums + row * groups, bias, \
      {static_cast<S*>(out.data) + (ptrdiff_t)row * out.stride, out.stride}, block)
    for (; row + kTile <= m; row += kTile) LM_TILE(kTile);
    if constexpr (kTile > 4) {
      for (; row + 4 <= m; row += 4) LM_TILE(4);
    }
    for (; row + 2 <= m; row += 2) LM_TILE(2);
    if (row < m) LM_TILE(1);
#undef LM_TILE
  }
}

void PackedLinear(const Packed& weight, const int8_t* codes, const float* scales, const float* sums,
                  size_t m, const float* bias, Type type, Rows<void> out, size_t first,
                  size_t last) {
#define LM_CALL(t)                                                                              \
  weight.bits == 4 ? PackedBlocks<t, 4>(weight, codes, scales, sums, m, bias, out, first, last) \
                   : PackedBlocks<t, 8>(weight, codes, scales, sums, m, bias, out, first, last)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
