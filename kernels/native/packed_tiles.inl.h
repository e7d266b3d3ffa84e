// Packed linear layers of many rows on AMX tiles; included by tier.cc.
//
// 16 rows of x by 16 outputs over one group of inputs are one instruction, whose 32-bit sums are
// those that PackedTile makes. They are scaled and added up in the same order, so a row's result
// has the same bits. Nothing is assumed of the tiles' configuration, and it is put back: oneDNN
// keeps its own.

#define LM_TILES 0
#if LM_VNNI && defined(__linux__) && defined(__has_include)
#if __has_include(<amxint8intrin.h>)
#undef LM_TILES
#define LM_TILES 1
#endif
#endif

#if LM_TILES

namespace livemind {
namespace LM_TIER {
namespace {

#define LM_ON_TILES __attribute__((target("amx-tile,amx-int8")))

constexpr size_t kMostRows = 512;  // at once: their scales lie in memory a second time

// Intel, Architecture Instruction Set Extensions, LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette = 0, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Whether a group's products fit one instruction.
LM_INLINE bool FitsTiles(const Packed& w) { return w.tiles && w.group % 8 == 0 && w.group <= 64; }

// Computes whole tiles of the first rows; returns how many rows that were.
template <Type kType, int kBits>
LM_ON_TILES size_t PackedOnTiles(const Packed& w, const int8_t* codes, const float* scales,
                                 const float* sums, size_t m, const float* bias, Rows<void> out,
                                 size_t first, size_t last) {
  typedef typename Element<kType>::Stored S;
  m = m < kMostRows ? m - m % kTileHeight : kMostRows;
  if (m == 0 || !FitsTiles(w)) return 0;
  const size_t groups = w.k / w.group, group_bytes = w.group * 16;
  // A block's weights, one byte each; then scales and sums of 16 rows side by side, by group.
  const size_t weight_bytes = kBits == 4 ? w.k * 16 : 0;
  const size_t bytes = weight_bytes + m * groups * 2 * sizeof(float) + 64;
  void* const scratch = __builtin_malloc(bytes);
  if (scratch == nullptr) return 0;
  uint8_t* const unpacked =
      static_cast<uint8_t*>(scratch) + (64 - reinterpret_cast<uintptr_t>(scratch) % 64) % 64;
  float* const turned = reinterpret_cast<float*>(unpacked + weight_bytes);
  for (size_t row = 0; row < m; ++row) {
    for (size_t g = 0; g < groups; ++g) {
      float* to = turned + ((row - row % kTileHeight) * groups + g * kTileHeight) * 2;
      to[row % kTileHeight] = scales[row * groups + g];
      to[kTileHeight + row % kTileHeight] = sums[row * groups + g];
    }
  }
  TileConfig before, mine;
  _tile_storeconfig(&before);
  // GCC's intrinsics name a part of what they read and write, or nothing of it.
  __asm__ volatile("" ::: "memory");
  mine.palette = 1;
  const uint8_t depth = (uint8_t)(w.group / 4);
  for (int pair = 0; pair < 2; ++pair) {  // two sets, so that one is read while the other is made
    mine.row_bytes[pair] = 64, mine.rows[pair] = kTileHeight;                         // sums
    mine.row_bytes[2 + pair] = (uint16_t)w.group, mine.rows[2 + pair] = kTileHeight;  // rows of x
    mine.row_bytes[4 + pair] = 64, mine.rows[4 + pair] = depth;                       // weights
  }
  __asm__ volatile("" ::: "memory");
  _tile_loadconfig(&mine);
  alignas(64) int32_t products[2][kTileHeight * 16];
  for (size_t block = first; block < last; ++block) {
    const uint8_t* weights = w.codes + block * w.k * 2 * kBits;
    if (kBits == 4) {
      const __m512i nibble = _mm512_set1_epi8(15);
      for (size_t at = 0; at < w.k * 8; at += 64) {
        const __m512i both = _mm512_loadu_si512(weights + at);
        _mm512_store_si512(unpacked + 2 * at, _mm512_and_si512(both, nibble));
        _mm512_store_si512(unpacked + 2 * at + 64,
                           _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
      }
      weights = unpacked;
      __asm__ volatile("" ::: "memory");
    }
    const float* weight_scales = w.scales + block * groups * 16;
    const float* weight_offsets = w.offsets + block * groups * 16;
    for (size_t row = 0; row < m; row += kTileHeight) {
      F totals[kTileHeight] = {};
      const int8_t* x = codes + row * w.k;
#define LM_PRODUCTS(to, left, right, at)                 \
  _tile_zero(to);                                        \
  _tile_loadd(left, x + (at) * w.group, (long)w.k);      \
  _tile_loadd(right, weights + (at) * group_bytes, 64L); \
  _tile_dpbsud(to, left, right);                         \
  _tile_stored(to, products[to], 64L)
      LM_PRODUCTS(0, 2, 4, 0);
      for (size_t g = 0; g < groups; ++g) {
        if (g + 1 < groups) {  // the next products are made while these are scaled
          if (g % 2 == 0) {
            LM_PRODUCTS(1, 3, 5, g + 1);
          } else {
            LM_PRODUCTS(0, 2, 4, g + 1);
          }
        }
        const int32_t* made = products[g % 2];
        const float* of_rows = turned + (row * groups + g * kTileHeight) * 2;
        const F scale = Load(weight_scales + g * 16), offset = Load(weight_offsets + g * 16);
#pragma GCC unroll 16
        for (size_t r = 0; r < kTileHeight; ++r) {
          I whole;
          __builtin_memcpy(&whole, made + r * 16, sizeof whole);
          totals[r] += __builtin_convertvector(whole, F) * (scale * of_rows[r]);
          totals[r] -= offset * of_rows[kTileHeight + r];
        }
      }
#undef LM_PRODUCTS
#pragma GCC unroll 16
      for (size_t r = 0; r < kTileHeight; ++r) {
        const size_t column = block * 16;
        S* to = static_cast<S*>(out.data) + (ptrdiff_t)(row + r) * out.stride + column;
        F value = totals[r];
        if (bias != nullptr) value += LoadSome<Type::kF32>(bias + column, w.n - column);
        StoreSome<kType>(to, w.n - column, value);
      }
    }
  }
  __builtin_free(scratch);
  if (before.palette == 0) {
    _tile_release();
  } else {
    _tile_loadconfig(&before);
  }
  return m;
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind

#endif  // LM_TILES
