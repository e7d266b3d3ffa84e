// Sums of packed linear layers by Arm's int8 instructions; included by tier.cc.
//
// SDOT multiplies signed bytes and adds four products in each lane. USDOT takes unsigned codes;
// SMMLA and USMMLA make the four sums of 2 rows by 2 outputs over 8 inputs. All sums are whole
// numbers, the same as without them. Arm, Architecture Reference Manual, FEAT_DotProd and
// FEAT_I8MM.

#if LM_DOTPROD && !LM_I8MM

namespace livemind {
namespace LM_TIER {
namespace {

// kM rows of x against 16 outputs with codes of 8 bits. Codes less 128 are signed bytes; 128 times
// the sum of x is what that leaves out.
template <size_t kM>
LM_INLINE void SignedSums8(const uint8_t* codes, const int8_t* x, size_t x_stride, size_t group,
                           int32x4_t (&sums)[kM][4]) {
  for (size_t m = 0; m < kM; ++m) {
    int32x2_t total{};
    for (size_t i = 0; i < group; i += 8) {
      total = vdot_s32(total, vld1_s8(x + m * x_stride + i), vdup_n_s8(1));
    }
    for (size_t part = 0; part < 4; ++part) sums[m][part] = vdupq_n_s32(128 * vaddv_s32(total));
  }
  for (size_t i = 0; i < group; i += 8, codes += 128) {
    int8x8_t bytes[kM];
    for (size_t m = 0; m < kM; ++m) bytes[m] = vld1_s8(x + m * x_stride + i);
    for (size_t part = 0; part < 4; ++part) {
      const uint8x16_t low = veorq_u8(vld1q_u8(codes + 16 * part), vdupq_n_u8(128));
      const uint8x16_t high = veorq_u8(vld1q_u8(codes + 64 + 16 * part), vdupq_n_u8(128));
      for (size_t m = 0; m < kM; ++m) {
        sums[m][part] = vdotq_lane_s32(sums[m][part], vreinterpretq_s8_u8(low), bytes[m], 0);
        sums[m][part] = vdotq_lane_s32(sums[m][part], vreinterpretq_s8_u8(high), bytes[m], 1);
      }
    }
  }
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind

#elif LM_I8MM

namespace livemind {
namespace LM_TIER {
namespace {

// Two rows of 8 inputs side by side.
LM_INLINE int8x16_t RowPair(const int8_t* x, size_t x_stride) {
  return vcombine_s8(vld1_s8(x), vld1_s8(x + x_stride));
}

// One row of x against 16 outputs with codes of 4 bits. The high nibbles stay where they are, which
// makes their sums sixteenfold: shifts have half the vector pipes of Neoverse V2.
LM_INLINE void RowSums4(const uint8_t* codes, const int8_t* x, size_t group, int32x4_t (&sums)[4]) {
  int32x4_t upper[4] = {};
  for (size_t i = 0; i < group; i += 8, codes += 64) {
    const int8x8_t bytes = vld1_s8(x + i);
    for (size_t part = 0; part < 4; ++part) {
      const uint8x16_t w = vld1q_u8(codes + 16 * part);
      sums[part] = vusdotq_lane_s32(sums[part], vandq_u8(w, vdupq_n_u8(15)), bytes, 0);
      upper[part] = vusdotq_lane_s32(upper[part], vandq_u8(w, vdupq_n_u8(240)), bytes, 1);
    }
  }
  for (size_t part = 0; part < 4; ++part) sums[part] = vsraq_n_s32(sums[part], upper[part], 4);
}

// The same of kM rows, one or an even number.
template <size_t kM>
LM_INLINE void SumsOnMatrices4(const uint8_t* codes, const int8_t* x, size_t x_stride, size_t group,
                               int32x4_t (&sums)[kM][4]) {
  if constexpr (kM == 1) return RowSums4(codes, x, group, sums[0]);
  const uint8x16_t nibble = vdupq_n_u8(15);
  int32x4_t pairs[kM / 2][4][2] = {};  // of 2 rows, 4 outputs: outputs 0 and 1, outputs 2 and 3
  for (size_t i = 0; i < group; i += 8, codes += 64) {
    int8x16_t rows[kM / 2];
    for (size_t p = 0; p < kM / 2; ++p) rows[p] = RowPair(x + 2 * p * x_stride + i, x_stride);
    for (size_t part = 0; part < 4; ++part) {
      const uint8x16_t w = vld1q_u8(codes + 16 * part);
      const int32x4_t low = vreinterpretq_s32_u8(vandq_u8(w, nibble));
      const int32x4_t high = vreinterpretq_s32_u8(vshrq_n_u8(w, 4));
      const int8x16_t first = vreinterpretq_s8_s32(vzip1q_s32(low, high));
      const int8x16_t second = vreinterpretq_s8_s32(vzip2q_s32(low, high));
      for (size_t p = 0; p < kM / 2; ++p) {
        pairs[p][part][0] = vmmlaq_s32(pairs[p][part][0], rows[p], first);
        pairs[p][part][1] = vmmlaq_s32(pairs[p][part][1], rows[p], second);
      }
    }
  }
  for (size_t p = 0; p < kM / 2; ++p) {
    for (size_t part = 0; part < 4; ++part) {
      const int64x2_t first = vreinterpretq_s64_s32(pairs[p][part][0]);
      const int64x2_t second = vreinterpretq_s64_s32(pairs[p][part][1]);
      sums[2 * p][part] = vreinterpretq_s32_s64(vzip1q_s64(first, second));
      sums[2 * p + 1][part] = vreinterpretq_s32_s64(vzip2q_s64(first, second));
    }
  }
}

// One row with codes of 8 bits. Two chains of sums: one would wait for itself.
LM_INLINE void RowSums8(const uint8_t* codes, const int8_t* x, size_t group, int32x4_t (&sums)[4]) {
  int32x4_t second[4] = {};
  size_t i = 0;
  for (; i + 8 <= group; i += 8, codes += 128) {
    const int8x8_t bytes = vld1_s8(x + i);
    for (size_t part = 0; part < 4; ++part) {
      sums[part] = vusdotq_lane_s32(sums[part], vld1q_u8(codes + 16 * part), bytes, 0);
      second[part] = vusdotq_lane_s32(second[part], vld1q_u8(codes + 64 + 16 * part), bytes, 1);
    }
  }
  for (size_t part = 0; part < 4; ++part) sums[part] = vaddq_s32(sums[part], second[part]);
}

// The same of kM rows, one or an even number.
template <size_t kM>
LM_INLINE void SumsOnMatrices8(const uint8_t* codes, const int8_t* x, size_t x_stride, size_t group,
                               int32x4_t (&sums)[kM][4]) {
  if constexpr (kM == 1) return RowSums8(codes, x, group, sums[0]);
  int32x4_t pairs[kM / 2][4][2] = {};
  for (size_t i = 0; i < group; i += 8, codes += 128) {
    int8x16_t rows[kM / 2];
    for (size_t p = 0; p < kM / 2; ++p) rows[p] = RowPair(x + 2 * p * x_stride + i, x_stride);
    for (size_t part = 0; part < 4; ++part) {
      const uint32x4_t low = vreinterpretq_u32_u8(vld1q_u8(codes + 16 * part));
      const uint32x4_t high = vreinterpretq_u32_u8(vld1q_u8(codes + 64 + 16 * part));
      const uint8x16_t first = vreinterpretq_u8_u32(vzip1q_u32(low, high));
      const uint8x16_t second = vreinterpretq_u8_u32(vzip2q_u32(low, high));
      for (size_t p = 0; p < kM / 2; ++p) {
        pairs[p][part][0] = vusmmlaq_s32(pairs[p][part][0], first, rows[p]);
        pairs[p][part][1] = vusmmlaq_s32(pairs[p][part][1], second, rows[p]);
      }
    }
  }
  for (size_t p = 0; p < kM / 2; ++p) {
    for (size_t part = 0; part < 4; ++part) {
      sums[2 * p][part] = vuzp1q_s32(pairs[p][part][0], pairs[p][part][1]);
      sums[2 * p + 1][part] = vuzp2q_s32(pairs[p][part][0], pairs[p][part][1]);
    }
  }
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind

#endif
