// Dense products of float32 matrices in register tiles; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

// A tile of the result lives in registers: 8 x 8 on NEON (16 of 32 registers, four pipes times
// latency four), 14 x 32 on AVX-512 (28 of 32), 6 x 16 on AVX2 (12 of 16).
#if LM_AVX512
constexpr size_t kTileRows = 14, kTileParts = 2;
#elif LM_AVX2
constexpr size_t kTileRows = 6, kTileParts = 2;
#elif LM_NEON
constexpr size_t kTileRows = 8, kTileParts = 2;
#else
constexpr size_t kTileRows = 8, kTileParts = 8;
#endif
constexpr size_t kTileColumns = kTileParts * kW;
constexpr size_t kGemmDepth = 256;  // of k: a packed panel of b stays in the first-level cache

template <size_t kR>
LM_INLINE void GemmTile(const float* a, ptrdiff_t a_stride, const float* panel, size_t depth,
                        float* out, ptrdiff_t out_stride, size_t columns, bool first) {
  F sums[kR][kTileParts];
  for (size_t r = 0; r < kR; ++r) {
    for (size_t part = 0; part < kTileParts; ++part) sums[r][part] = F{};
  }
  for (size_t i = 0; i < depth; ++i) {
    F b[kTileParts];
    for (size_t part = 0; part < kTileParts; ++part) b[part] = Load(panel + part * kW);
    panel += kTileColumns;
    for (size_t r = 0; r < kR; ++r) {
      const F left = Set(a[(ptrdiff_t)r * a_stride + (ptrdiff_t)i]);
      for (size_t part = 0; part < kTileParts; ++part) sums[r][part] += left * b[part];
    }
  }
  for (size_t r = 0; r < kR; ++r) {
    float* to = out + (ptrdiff_t)r * out_stride;
    for (size_t part = 0; part * kW < columns; ++part) {
      const size_t left = columns - part * kW;
      F value = sums[r][part];
      if (!first) value += LoadSome<Type::kF32>(to + part * kW, left);
      StoreSome<Type::kF32>(to + part * kW, left, value);
    }
  }
}

void GemmRows(const float* a, ptrdiff_t a_stride, const float* panel, size_t depth, float* out,
              ptrdiff_t out_stride, size_t rows, size_t columns, bool first) {
  size_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    GemmTile<kTileRows>(a + (ptrdiff_t)row * a_stride, a_stride, panel, depth,
                        out + (ptrdiff_t)row * out_stride, out_stride, columns, first);
  }
  for (; row + 4 <= rows; row += 4) {
    GemmTile<4>(a + (ptrdiff_t)row * a_stride, a_stride, panel, depth,
                out + (ptrdiff_t)row * out_stride, out_stride, columns, first);
  }
  for (; row < rows; ++row) {
    GemmTile<1>(a + (ptrdiff_t)row * a_stride, a_stride, panel, depth,
                out + (ptrdiff_t)row * out_stride, out_stride, columns, first);
  }
}

void Gemm(Rows<const float> a, Rows<const float> b, Rows<float> out, size_t m, size_t n, size_t k,
          float* packed) {
  for (size_t deep = 0; deep < k; deep += kGemmDepth) {
    const size_t depth = k - deep < kGemmDepth ? k - deep : kGemmDepth;
    for (size_t column = 0; column < n; column += kTileColumns) {
      const size_t columns = n - column < kTileColumns ? n - column : kTileColumns;
      for (size_t i = 0; i < depth; ++i) {
        const float* from = b.data + (ptrdiff_t)(deep + i) * b.stride + column;
        for (size_t part = 0; part < kTileParts; ++part) {
          const size_t at = part * kW;
          Store(packed + i * kTileColumns + at,
                at < columns ? LoadSome<Type::kF32>(from + at, columns - at) : F{});
        }
      }
      GemmRows(a.data + deep, a.stride, packed, depth, out.data + column, out.stride, m, columns,
               deep == 0);
    }
  }
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
