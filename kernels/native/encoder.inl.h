// One layer of a BERT encoder on packed bfloat16 weights; included by tier.cc.
//
// Products add up in float32 and take the weights widened to it; where an instruction multiplies
// bfloat16, the left side is rounded to that and nothing is widened. The rest is float32.
// Rows of all texts lie one after another, without padding: only attention knows the texts apart.

namespace livemind {
namespace LM_TIER {
namespace {

constexpr Type kLeft = LM_VNNI ? Type::kBF16 : Type::kF32;  // how a product's left side is stored
typedef Element<kLeft>::Stored Left;

// A tile: its sums (rows x parts of kW columns) and a row of weights stay in registers.
#if LM_VNNI
constexpr size_t kEncoderRows = 14, kEncoderParts = 2;
#elif LM_AVX512
constexpr size_t kEncoderRows = 12, kEncoderParts = 2;
#elif LM_AVX2
constexpr size_t kEncoderRows = 5, kEncoderParts = 2;  // 6 are no faster, and Clang spills them
#elif LM_NEON
constexpr size_t kEncoderRows = 2, kEncoderParts = 8;
#else
constexpr size_t kEncoderRows = 1, kEncoderParts = 32;
#endif

enum class Then { kStore, kAdd, kGelu };

// What a product is written to: float32, or the next one's left side after a GELU; rows are `n`
// apart.
struct Product {
  Then then;
  void* out;
  const float* bias;
  size_t n;
};

// x Phi(x); the error function is 7.1.26 of Abramowitz and Stegun, within 1.5e-7.
LM_INLINE F Gelu(F x) {
  const F z = x * 0.70710678f;
  const F size = Max(z, -z);
  const F t = 1.0f / (1.0f + 0.3275911f * size);
  F p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = (p * t + 0.254829592f) * t;
  const F tail = 0.5f * p * Exp(-size * size);  // of the normal distribution, beyond |x|
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

// sums += two columns of `a`, whose rows are k apart, times a row of pairs of weights
template <size_t kR>
LM_INLINE void AddPairs(F (&sums)[kR][kEncoderParts], const Left* a, size_t k,
                        const uint16_t* weights) {
#if LM_VNNI
  U pairs[kEncoderParts];
  for (size_t part = 0; part < kEncoderParts; ++part) {
    __builtin_memcpy(&pairs[part], weights + 2 * part * kW, sizeof(U));
  }
  for (size_t r = 0; r < kR; ++r) {
    uint32_t pair;
    __builtin_memcpy(&pair, a + r * k, sizeof pair);
    const __m512i left = _mm512_set1_epi32((int)pair);
    for (size_t part = 0; part < kEncoderParts; ++part) {
      sums[r][part] =
          (F)_mm512_dpbf16_ps((__m512)sums[r][part], (__m512bh)left, (__m512bh)pairs[part]);
    }
  }
#else
  for (size_t odd = 0; odd < 2; ++odd) {
    F wide[kEncoderParts];
    for (size_t part = 0; part < kEncoderParts; ++part) {
      U pairs;
      __builtin_memcpy(&pairs, weights + 2 * part * kW, sizeof pairs);
      wide[part] = (F)(odd ? pairs & 0xffff0000u : pairs << 16);
    }
    for (size_t r = 0; r < kR; ++r) {
      const F left = Set(a[r * k + odd]);
      for (size_t part = 0; part < kEncoderParts; ++part) sums[r][part] += left * wide[part];
    }
  }
#endif
}

LM_INLINE void Write(const Product& product, size_t row, size_t column, F value) {
  const size_t at = row * product.n + column;
  value += Load(product.bias + column);
  if (product.then == Then::kGelu) {
    Element<kLeft>::StoreN(static_cast<Left*>(product.out) + at, Gelu(value));
    return;
  }
  float* to = static_cast<float*>(product.out) + at;
  Store(to, product.then == Then::kAdd ? value + Load(to) : value);
}

// Weights to fetch into the cache while others are multiplied.
struct Fetch {
  const uint16_t *next, *end;
};

template <size_t kR>
LM_INLINE void EncoderTile(const Left* a, size_t k, const uint16_t* panel, Fetch ahead,
                           const Product& product, size_t row, size_t column) {
  constexpr size_t kColumns = kEncoderParts * kW;
  for (size_t first = 0; first < kEncoderPanel; first += kColumns) {
    F sums[kR][kEncoderParts];
    for (size_t r = 0; r < kR; ++r) {
      for (size_t part = 0; part < kEncoderParts; ++part) sums[r][part] = F{};
    }
    for (size_t i = 0; i < k; i += 2) {
      if (ahead.next < ahead.end) {  // as much as this step reads, in lines of 64 bytes
        for (size_t at = 0; at < 2 * kColumns; at += 32) __builtin_prefetch(ahead.next + at, 0, 2);
        ahead.next += 2 * kColumns;
      }
      AddPairs(sums, a + row * k + i, k, panel + i * kEncoderPanel + 2 * first);
    }
    F found[kR][kEncoderParts];  // a copy: sums that an index picks from would be kept in memory
#pragma GCC unroll 16
    for (size_t r = 0; r < kR; ++r) {
      for (size_t part = 0; part < kEncoderParts; ++part) found[r][part] = sums[r][part];
    }
    for (size_t r = 0; r < kR; ++r) {
      for (size_t part = 0; part < kEncoderParts; ++part) {
        Write(product, row + r, column + first + part * kW, found[r][part]);
      }
    }
  }
}

template <size_t kR>
void EncoderRows(size_t rows, const Left* a, size_t k, const uint16_t* panel, Fetch ahead,
                 const Product& product, size_t row, size_t column) {
  if (rows == kR) return EncoderTile<kR>(a, k, panel, ahead, product, row, column);
  if constexpr (kR > 1) EncoderRows<kR - 1>(rows, a, k, panel, ahead, product, row, column);
}

// a (rows, k) times packed weights. Rows are split evenly: a tile of few rows costs as much time.
// Each tile fetches its share of the panel that follows: a short text waits for memory.
void EncoderLinear(const Left* a, size_t rows, size_t k, const uint16_t* packed,
                   const Product& product) {
  const size_t blocks = (rows + kEncoderRows - 1) / kEncoderRows;
  for (size_t column = 0; column < product.n; column += kEncoderPanel) {
    const uint16_t* panel = packed + column * k;
    const uint16_t* following = panel + k * kEncoderPanel;
    const size_t depth = column + kEncoderPanel < product.n ? k : 0;  // of the panel that follows
    for (size_t block = 0; block < blocks; ++block) {
      const size_t row = block * rows / blocks, end = (block + 1) * rows / blocks;
      const Fetch share = {following + block * depth / blocks * kEncoderPanel,
                           following + (block + 1) * depth / blocks * kEncoderPanel};
      EncoderRows<kEncoderRows>(end - row, a, k, panel, share, product, row, column);
    }
  }
}

void ToLeft(const float* from, Left* to, size_t count) {
  for (size_t i = 0; i < count; i += kW) Element<kLeft>::StoreN(to + i, Load(from + i));
}

// Layer norm of each row in place and, where `left` is given, once more for the next product.
void EncoderNorm(float* x, Left* left, size_t rows, size_t dim, const float* norm, float epsilon) {
  for (size_t row = 0; row < rows; ++row) {
    float* at = x + row * dim;
    F sum{}, squares{};
    for (size_t i = 0; i < dim; i += kW) sum += Load(at + i);
    const F mean = Set(Sum(sum) / (float)dim);
    for (size_t i = 0; i < dim; i += kW) {
      const F v = Load(at + i) - mean;
      squares += v * v;
    }
    const F scale = Set(1.0f / __builtin_sqrtf(Sum(squares) / (float)dim + epsilon));
    for (size_t i = 0; i < dim; i += kW) {
      Store(at + i, (Load(at + i) - mean) * scale * Load(norm + i) + Load(norm + dim + i));
    }
    if (left != nullptr) ToLeft(at, left + row * dim, dim);
  }
}

// scores (count, count) become exponentials; returns by row what they are to be divided by.
void Exponentials(float* scores, size_t count, float* sums) {
  for (size_t row = 0; row < count; ++row) {
    float* at = scores + row * count;
    F top = Set(-kInf);
    size_t i = 0;
    for (; i + kW <= count; i += kW) top = Max(Load(at + i), top);
    if (i < count) top = Max(LoadFirst(at + i, count - i, top), top);
    const F most = Set(Largest(top));
    F sum{};
    for (i = 0; i + kW <= count; i += kW) {
      const F value = Exp(Load(at + i) - most);
      sum += value;
      Store(at + i, value);
    }
    if (i < count) {
      const F value = Exp(LoadFirst(at + i, count - i, Set(-kInf)) - most);
      sum += value;
      StoreFirst(at + i, count - i, value);
    }
    sums[row] = Sum(sum);
  }
}

// Attention of one text within itself: `qkv` (count, 3 dim), `seen` (count, dim).
void EncoderAttention(const EncoderLayer& layer, const float* qkv, Left* seen, size_t count,
                      float* scratch) {
  const size_t dim = layer.dim, wide = 3 * dim, size = dim / layer.heads;
  const float scale = 1.0f / __builtin_sqrtf((float)size);
  float* scores = scratch;
  float* keys = scores + count * count;
  float* found = keys + size * count;
  float* sums = found + size * count;
  float* packed = sums + count;
  const ptrdiff_t row_stride = (ptrdiff_t)wide;
  for (size_t head = 0; head < layer.heads; ++head) {
    const float* q = qkv + head * size;
    for (size_t row = 0; row < count; ++row) {
      const float* k = q + row * wide + dim;
      for (size_t i = 0; i < size; ++i) keys[i * count + row] = k[i] * scale;
    }
    Gemm({q, row_stride}, {keys, (ptrdiff_t)count}, {scores, (ptrdiff_t)count}, count, count, size,
         packed);
    Exponentials(scores, count, sums);
    Gemm({scores, (ptrdiff_t)count}, {q + 2 * dim, row_stride}, {found, (ptrdiff_t)size}, count,
         size, count, packed);
    for (size_t row = 0; row < count; ++row) {
      const F part = Set(1.0f / sums[row]);
      for (size_t i = 0; i < size; i += kW) {
        const F value = LoadSome<Type::kF32>(found + row * size + i, size - i) * part;
        StoreSome<kLeft>(seen + row * dim + head * size + i, size - i, value);
      }
    }
  }
}

void EncoderLayerRun(const EncoderLayer& layer, float* x, const int64_t* lengths, size_t texts,
                     size_t rows, float* scratch) {
  const size_t dim = layer.dim;
  float* qkv = scratch;
  Left* left = (Left*)(qkv + rows * 3 * dim);
  Left* inner = left + rows * dim;
  float* rest = (float*)(inner + rows * layer.inner);
  ToLeft(x, left, rows * dim);
  EncoderLinear(left, rows, dim, layer.qkv, {Then::kStore, qkv, layer.qkv_bias, 3 * dim});
  size_t first = 0;
  for (size_t text = 0; text < texts; ++text) {
    const size_t count = (size_t)lengths[text];
    EncoderAttention(layer, qkv + first * 3 * dim, left + first * dim, count, rest);
    first += count;
  }
  EncoderLinear(left, rows, dim, layer.attention_out, {Then::kAdd, x, layer.attention_bias, dim});
  EncoderNorm(x, left, rows, dim, layer.attention_norm, layer.epsilon);
  EncoderLinear(left, rows, dim, layer.up, {Then::kGelu, inner, layer.up_bias, layer.inner});
  EncoderLinear(inner, rows, layer.inner, layer.down, {Then::kAdd, x, layer.down_bias, dim});
  EncoderNorm(x, nullptr, rows, dim, layer.output_norm, layer.epsilon);
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
