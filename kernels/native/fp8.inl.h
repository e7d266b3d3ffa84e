// 8-bit floats (OCP OFP8 specification, 1.0): e4m3 without infinities, e5m2 with; tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

// Exponent field of 1 in float32 less that of the format, and what lies beyond its range.
template <Float8 kFormat>
struct Format;
template <>
struct Format<Float8::kE4M3> {
  static constexpr int kMantissa = 3;
  static constexpr float kLargest = 448.0f, kSmallestNormal = 0x1p-6f, kSubnormalStep = 0x1p-9f;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr int kBias = 7;
};
template <>
struct Format<Float8::kE5M2> {
  static constexpr int kMantissa = 2;
  static constexpr float kLargest = 57344.0f, kSmallestNormal = 0x1p-14f, kSubnormalStep = 0x1p-16f;
  static constexpr uint32_t kNan = 0x7f;
  static constexpr int kBias = 15;
};

typedef uint8_t B __attribute__((vector_size(kW)));

// Round to nearest even; beyond the largest number to the largest (saturating).
template <Float8 kFormat>
LM_INLINE B Encode(F value) {
  typedef Format<kFormat> Fm;
  const U bits = (U)value;
  const U sign = bits >> 24 & 0x80;
  const F magnitude = (F)(bits & 0x7fffffff);
  const F clamped = magnitude > Fm::kLargest ? Set(Fm::kLargest) : magnitude;
  const U wide = (U)clamped;
  constexpr int kDrop = 23 - Fm::kMantissa;
  const U rounded = wide + ((1u << (kDrop - 1)) - 1) + (wide >> kDrop & 1);
  const U normal = (rounded >> kDrop) - ((127u - Fm::kBias) << Fm::kMantissa);
  // multiples of the subnormal step: adding 2^23 steps rounds to a whole number of them
  const F shifted = clamped * (1.0f / Fm::kSubnormalStep) + 8388608.0f;
  const U subnormal = (U)shifted - 0x4b000000u;
  const U code = clamped < Fm::kSmallestNormal ? subnormal : normal;
  return __builtin_convertvector((value != value ? U{} + Fm::kNan : code) | sign, B);
}

template <Float8 kFormat>
LM_INLINE F Decode(B codes) {
  typedef Format<kFormat> Fm;
  const U wide = __builtin_convertvector(codes, U);
  const U magnitude = wide & 0x7f, sign = (wide & 0x80) << 24;
  const U normal = (magnitude << (23 - Fm::kMantissa)) + ((127u - Fm::kBias) << 23);
  const F small = __builtin_convertvector((I)magnitude, F) * Fm::kSubnormalStep;
  F value = magnitude < (1u << Fm::kMantissa) ? small : (F)normal;
  if (kFormat == Float8::kE4M3) {
    value = magnitude == 0x7f ? Set(__builtin_nanf("")) : value;
  } else {
    value = magnitude == 0x7c ? Set(kInf) : value;
    value = magnitude > 0x7c ? Set(__builtin_nanf("")) : value;
  }
  return (F)((U)value | sign);
}

template <Type kType, Float8 kFormat>
void EncodeAll(const void* data, uint8_t* out, size_t n, float inverse_scale) {
  const auto* x = static_cast<const typename Element<kType>::Stored*>(data);
  for (size_t i = 0; i < n; i += kW) {
    const B codes = Encode<kFormat>(LoadSome<kType>(x + i, n - i) * inverse_scale);
    __builtin_memcpy(out + i, &codes, n - i < kW ? n - i : kW);
  }
}

template <Type kType, Float8 kFormat>
void DecodeAll(const uint8_t* x, void* data, size_t n, float scale) {
  auto* out = static_cast<typename Element<kType>::Stored*>(data);
  for (size_t i = 0; i < n; i += kW) {
    B codes{};
    if (n - i >= kW)
      __builtin_memcpy(&codes, x + i, kW);
    else
      __builtin_memcpy(&codes, x + i, n - i);
    StoreSome<kType>(out + i, n - i, Decode<kFormat>(codes) * scale);
  }
}

void Fp8Encode(Type type, Float8 format, const void* x, uint8_t* out, size_t n, float inverse) {
  if (format == Float8::kE4M3) {
#define LM_CALL(t) EncodeAll<t, Float8::kE4M3>(x, out, n, inverse)
    LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
  } else {
#define LM_CALL(t) EncodeAll<t, Float8::kE5M2>(x, out, n, inverse)
    LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
  }
}

void Fp8Decode(Type type, Float8 format, const uint8_t* x, void* out, size_t n, float scale) {
  if (format == Float8::kE4M3) {
#define LM_CALL(t) DecodeAll<t, Float8::kE4M3>(x, out, n, scale)
    LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
  } else {
#define LM_CALL(t) DecodeAll<t, Float8::kE5M2>(x, out, n, scale)
    LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
  }
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
