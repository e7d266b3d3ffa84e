// One register of float32 and what the kernels do with it; included by tier.cc, once per tier.
//
// Arithmetic, comparison, shifts and conversion are the compiler's own vector extensions (GCC and
// Clang); only what they cannot say is written in intrinsics. No standard library here: an inline
// function shared with baseline code could be linked in the copy that uses wide instructions.

#if LM_AVX512 || LM_AVX2
#include <immintrin.h>
#elif LM_NEON
#include <arm_neon.h>
#endif

namespace livemind {
namespace LM_TIER {
namespace {

#if LM_AVX512
constexpr size_t kW = 16;
#elif LM_AVX2
constexpr size_t kW = 8;
#elif LM_NEON
constexpr size_t kW = 4;
#else
constexpr size_t kW = 1;
#endif

#define LM_INLINE inline __attribute__((always_inline))

typedef float F __attribute__((vector_size(kW * 4)));
typedef int32_t I __attribute__((vector_size(kW * 4)));
typedef uint32_t U __attribute__((vector_size(kW * 4)));
typedef uint16_t H __attribute__((vector_size(kW * 2)));
typedef double D __attribute__((vector_size(kW * 8)));

constexpr float kInf = __builtin_inff();

LM_INLINE F Set(float value) { return value - F{}; }
LM_INLINE I Bits(F value) { return (I)value; }
LM_INLINE F FromBits(I value) { return (F)value; }

// ------------------------------------------------------------------------------ whole registers
LM_INLINE F Load(const float* p) {
  F v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
LM_INLINE void Store(float* p, F v) { __builtin_memcpy(p, &v, sizeof v); }

// ------------------------------------------------------------------- first `count` lanes, 0 < kW
LM_INLINE F LoadFirst(const float* p, size_t count, F fill) {
#if LM_AVX512
  return (F)_mm512_mask_loadu_ps((__m512)fill, (__mmask16)((1u << count) - 1), p);
#else
  float lanes[kW];
  __builtin_memcpy(lanes, &fill, sizeof lanes);
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return Load(lanes);
#endif
}
LM_INLINE void StoreFirst(float* p, size_t count, F v) {
#if LM_AVX512
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
  for (size_t i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// ------------------------------------------------------------------------------ min, max, masks
// Max(a, b) is b where a is NaN on every tier: Max(x, acc) skips a NaN in x.
LM_INLINE F Max(F a, F b) {
#if LM_AVX512
  return (F)_mm512_max_ps((__m512)a, (__m512)b);
#elif LM_AVX2
  return (F)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
LM_INLINE F Min(F a, F b) {
#if LM_AVX512
  return (F)_mm512_min_ps((__m512)a, (__m512)b);
#elif LM_AVX2
  return (F)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

// One bit per lane.
LM_INLINE uint32_t ToBits(I mask) {
#if LM_AVX512
  return _mm512_movepi32_mask((__m512i)mask);
#elif LM_AVX2
  return (uint32_t)_mm256_movemask_ps((__m256)mask);
#elif LM_NEON
  const uint32x4_t weights = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)mask, weights));
#else
  return mask[0] & 1;
#endif
}

// Writes the lanes whose bit is set, in order, to out; up to kW floats behind out are clobbered.
LM_INLINE void Compress(float* out, F v, uint32_t bits) {
#if LM_AVX512
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps((__mmask16)bits, (__m512)v));
#elif LM_AVX2
  const uint64_t bytes = _pdep_u64(bits, 0x0101010101010101) * 0xff;
  const uint64_t lanes = _pext_u64(0x0706050403020100, bytes);
  const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)lanes));
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps((__m256)v, order));
#else
  float lanes[kW];
  Store(lanes, v);
  size_t at = 0;
  for (size_t i = 0; i < kW; ++i) {
    out[at] = lanes[i];
    at += bits >> i & 1;
  }
#endif
}

// ------------------------------------------------------------------------------------ reductions
LM_INLINE float Sum(F v) {
#if LM_AVX512
  return _mm512_reduce_add_ps((__m512)v);
#elif LM_NEON
  return vaddvq_f32((float32x4_t)v);
#else
  float lanes[kW];
  Store(lanes, v);
  for (size_t half = kW / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
#endif
}
// The sum of the lanes of each of four registers of T, all added in the same order.
template <typename V, typename T>
LM_INLINE void SumFour(const V v[4], T* out) {
#if LM_AVX512 || LM_AVX2
  typedef T Quarter __attribute__((vector_size(16)));
  typedef T Half __attribute__((vector_size(32)));
#if LM_AVX512
  const V ab = (V)_mm512_unpacklo_ps((__m512)v[0], (__m512)v[1]) +
               (V)_mm512_unpackhi_ps((__m512)v[0], (__m512)v[1]);
  const V cd = (V)_mm512_unpacklo_ps((__m512)v[2], (__m512)v[3]) +
               (V)_mm512_unpackhi_ps((__m512)v[2], (__m512)v[3]);
  const V all = (V)_mm512_unpacklo_pd((__m512d)ab, (__m512d)cd) +
                (V)_mm512_unpackhi_pd((__m512d)ab, (__m512d)cd);
  const Half half =
      (Half)_mm512_castps512_ps256((__m512)all) + (Half)_mm512_extractf32x8_ps((__m512)all, 1);
#else
  const V ab = (V)_mm256_unpacklo_ps((__m256)v[0], (__m256)v[1]) +
               (V)_mm256_unpackhi_ps((__m256)v[0], (__m256)v[1]);
  const V cd = (V)_mm256_unpacklo_ps((__m256)v[2], (__m256)v[3]) +
               (V)_mm256_unpackhi_ps((__m256)v[2], (__m256)v[3]);
  const Half half = (Half)_mm256_unpacklo_pd((__m256d)ab, (__m256d)cd) +
                    (Half)_mm256_unpackhi_pd((__m256d)ab, (__m256d)cd);
#endif
  const Quarter sums = (Quarter)_mm256_castps256_ps128((__m256)half) +
                       (Quarter)_mm256_extractf128_ps((__m256)half, 1);
  __builtin_memcpy(out, &sums, sizeof sums);
#elif LM_NEON
  const V ab = (V)vuzp1q_u32((uint32x4_t)v[0], (uint32x4_t)v[1]) +
               (V)vuzp2q_u32((uint32x4_t)v[0], (uint32x4_t)v[1]);
  const V cd = (V)vuzp1q_u32((uint32x4_t)v[2], (uint32x4_t)v[3]) +
               (V)vuzp2q_u32((uint32x4_t)v[2], (uint32x4_t)v[3]);
  const V sums =
      (V)vuzp1q_u32((uint32x4_t)ab, (uint32x4_t)cd) + (V)vuzp2q_u32((uint32x4_t)ab, (uint32x4_t)cd);
  __builtin_memcpy(out, &sums, sizeof sums);
#else
  for (size_t i = 0; i < 4; ++i) out[i] = v[i][0];
#endif
}
LM_INLINE float Largest(F v) {
#if LM_AVX512
  return _mm512_reduce_max_ps((__m512)v);
#else
  float best = v[0];
  for (size_t i = 1; i < kW; ++i) best = v[i] > best ? v[i] : best;
  return best;
#endif
}
LM_INLINE float Smallest(F v) { return -Largest(-v); }

// -------------------------------------------------------------------- 16-bit formats, as float32
LM_INLINE float FromF16Bits(uint16_t bits) {
  const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
  const uint32_t magnitude = bits & 0x7fff;
  uint32_t wide;
  if (magnitude >= 0x7c00) {
    wide = 0x7f800000 | (magnitude & 0x3ff) << 13;
  } else if (magnitude >= 0x0400) {
    wide = (magnitude << 13) + (112u << 23);
  } else {
    const float tiny = (float)magnitude * 0x1p-24f;
    __builtin_memcpy(&wide, &tiny, sizeof wide);
  }
  wide |= sign;
  float value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}
// Round to nearest even, as every conversion here.
LM_INLINE uint16_t ToF16Bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (bits >= 0x47800000) return (uint16_t)(sign | 0x7c00);
  if (bits < 0x38800000) {  // becomes subnormal: let the float adder round
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5f;
    __builtin_memcpy(&bits, &magnitude, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1) - (112u << 23);
  return (uint16_t)(sign | bits >> 13);
}

template <Type kType>
struct Element;

template <>
struct Element<Type::kF32> {
  typedef float Stored;
  static LM_INLINE F LoadN(const float* p) { return Load(p); }
  static LM_INLINE void StoreN(float* p, F v) { Store(p, v); }
};

template <>
struct Element<Type::kBF16> {
  typedef uint16_t Stored;
  static LM_INLINE F LoadN(const uint16_t* p) {
#if LM_AVX512  // one instruction; GCC makes five of the conversion below
    return (F)((U)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)) << 16);
#elif LM_AVX2
    return (F)((U)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)) << 16);
#elif LM_NEON  // one instruction behind the load; GCC takes the conversion below lane by lane
    return (F)vshll_n_u16(vld1_u16(p), 16);
#else
    H half;
    __builtin_memcpy(&half, p, sizeof half);
    return (F)(__builtin_convertvector(half, U) << 16);
#endif
  }
  static LM_INLINE void StoreN(uint16_t* p, F v) {
#if LM_VNNI  // subnormal results become 0
    const __m256bh half = _mm512_cvtneps_pbh((__m512)v);
    __builtin_memcpy(p, &half, sizeof half);
#else
    const U bits = (U)v;
    const U rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const U quiet = bits >> 16 | 0x40;
    const U result = v != v ? quiet : rounded;
#if LM_AVX512
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)result));
#else
    const H half = __builtin_convertvector(result, H);
    __builtin_memcpy(p, &half, sizeof half);
#endif
#endif
  }
};

template <>
struct Element<Type::kF16> {
  typedef uint16_t Stored;
  static LM_INLINE F LoadN(const uint16_t* p) {
#if LM_AVX512
    return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif LM_AVX2
    return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif LM_NEON
    return (F)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    return Set(FromF16Bits(*p));
#endif
  }
  static LM_INLINE void StoreN(uint16_t* p, F v) {
#if LM_AVX512
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif LM_AVX2
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#elif LM_NEON
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
#else
    *p = ToF16Bits(v[0]);
#endif
  }
};

// The first `count` lanes of any type; the others are `fill` (bits of the stored type: zero).
template <Type kType>
LM_INLINE F LoadSome(const typename Element<kType>::Stored* p, size_t count) {
  if (count >= kW) return Element<kType>::LoadN(p);
  typename Element<kType>::Stored lanes[kW] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return Element<kType>::LoadN(lanes);
}
template <Type kType>
LM_INLINE void StoreSome(typename Element<kType>::Stored* p, size_t count, F v) {
  if (count >= kW) return Element<kType>::StoreN(p, v);
  typename Element<kType>::Stored lanes[kW];
  Element<kType>::StoreN(lanes, v);
  for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// Calls body.template operator()<type>() for the run-time type.
template <typename Body>
LM_INLINE void ForType(Type type, Body body) {
  switch (type) {
    case Type::kF32:
      return body.template Run<Type::kF32>();
    case Type::kBF16:
      return body.template Run<Type::kBF16>();
    case Type::kF16:
      return body.template Run<Type::kF16>();
  }
}

// ----------------------------------------------------------------------------------- exp and log
// e^x by Cody-Waite reduction and the degree-7 polynomial of Cephes expf (Moshier,
// netlib.org/cephes): within 2 ulp for x in [-87.3, 88.3]; 0 below, e^88.3 above, NaN for NaN.
LM_INLINE F Exp(F x) {
#if LM_AVX512
  // as below, with the instructions that round and scale: gradual underflow instead of 0
  const __m512 t =
      _mm512_min_ps(_mm512_set1_ps(88.3f), _mm512_max_ps(_mm512_set1_ps(-105.0f), (__m512)x));
  const F n = (F)_mm512_roundscale_ps(t * 1.44269504088896341f, 8);
  const F r = ((F)t - n * 0.693359375f) + n * 2.12194440e-4f;
#else
  constexpr float kLow = -87.33f, kMagic = 12582912.0f;
#if LM_NEON  // both hand on a NaN, as the comparisons below do, in one instruction each
  const F t = (F)vminq_f32(vmaxq_f32((float32x4_t)x, vdupq_n_f32(kLow)), vdupq_n_f32(88.3f));
#else
  F t = x < kLow ? Set(kLow) : x;
  t = t > 88.3f ? Set(88.3f) : t;
#endif
  const F shifted = t * 1.44269504088896341f + kMagic;
  const F n = shifted - kMagic;
  const F r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
#endif
  F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if LM_AVX512
  return (F)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const F power = FromBits((Bits(shifted) - 0x4b400000 + 127) << 23);
  const F value = p * power;
#if LM_NEON  // GCC turns the comparison round and then must look for NaN: six instructions
  return (F)vbicq_u32((uint32x4_t)value, vcltq_f32((float32x4_t)x, vdupq_n_f32(kLow)));
#else
  return x < kLow ? F{} : value;
#endif
#endif
}

// Natural logarithm of x > 0 (normal), polynomial of Cephes logf; within 2 ulp; finite for 0.
LM_INLINE F Log(F x) {
  const I shifted = Bits(x) - 0x3f3504f3;
  const F e = __builtin_convertvector(shifted >> 23, F);
  const F f = FromBits((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const F z = f * f;
  F p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const F y = p * f * z + e * -2.12194440e-4f - 0.5f * z;
  return f + y + e * 0.693359375f;
}

LM_INLINE float Exp1(float x) { return Exp(Set(x))[0]; }

// Terms are added in float32 within a chunk of this many elements, in float64 between chunks.
constexpr size_t kChunk = 2048;

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
