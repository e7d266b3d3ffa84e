// The kernels free of Python: one table of functions per instruction set ("tier").
//
// Every tier is compiled from the same sources (tier.cc) with its own flags; isa.h finds the tables
// this processor can run. Callers check shapes, types and aliasing first: a kernel sees pointers,
// counts and strides in elements. Rows may lie anywhere; the elements of one row are adjacent.
// Nothing here allocates, throws or keeps state; scratch is given by the caller.

#ifndef LIVEMIND_KERNELS_NATIVE_KERNELS_H_
#define LIVEMIND_KERNELS_NATIVE_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace livemind {

// How the elements behind a `void*` are stored. Arithmetic is always float32.
enum class Type : std::uint8_t { kF32, kBF16, kF16 };
enum class Float8 : std::uint8_t { kE4M3, kE5M2 };

// `rows` rows of `n` elements, the first at `data`, `stride` elements from row to row.
template <typename T>
struct Rows {
  T* data;
  std::ptrdiff_t stride;
};

// Limits of one row's next token; see kernels/reference::filter_logits.
struct Cut {
  std::int64_t top_k;  // n or more: off
  float top_p;         // 1 or more: off
  float min_p;         // 0 or less: off
};

struct Neighbour {
  float similarity;
  std::int64_t row;
};

// Weights packed by kernels/quantized.py: blocks of 16 outputs, groups of `group` inputs.
constexpr std::size_t kTileHeight = 16;  // rows that AMX tiles multiply together

struct Packed {
  const std::uint8_t* codes;  // (n16 / 16, k * bits / 32, 64)
  const float* scales;        // (n16 / 16, k / group, 16)
  const float* offsets;       // same: scale * zero point
  std::size_t n, k, group;    // n16 = n rounded up to 16; group divides k, 8 divides group
  int bits;                   // 4 or 8
  bool tiles;                 // this process may use AMX
};

struct Attention {
  std::size_t heads, kv_heads, queries, keys, dim;
  std::ptrdiff_t q_head, q_row, k_head, k_row, v_head, v_row, out_head, out_row;  // in elements
  float scale;
  bool causal;  // query i sees keys up to keys - queries + i
};

// Columns of weights that lie together: in panels of (k / 2, columns, 2), see kernels/encoder.py.
constexpr std::size_t kEncoderPanel = 32;

// One layer of a BERT encoder: weights packed bfloat16, everything else float32.
struct EncoderLayer {
  std::size_t dim, inner, heads;  // dim and inner are multiples of kEncoderPanel
  const std::uint16_t *qkv, *attention_out, *up, *down;
  const float *qkv_bias, *attention_bias, *up_bias, *down_bias;
  const float *attention_norm, *output_norm;  // (2, dim): weight, bias
  float epsilon;
};

// Where a tier's function pointers live. Reference and error bounds: kernels/reference.
struct Kernels {
  const char* name;
  std::size_t lanes;  // float32 per register

  // sampling: `scratch` holds FilterScratch(n) floats; returns how many were kept, -1 = row as it
  // was (a NaN, +inf, or nothing above -inf).
  std::int64_t (*filter)(float* logits, std::size_t n, Cut cut, float* scratch);
  void (*softmax)(Rows<const float> x, Rows<float> out, std::size_t rows, std::size_t n, bool log);

  // divergences in nats, one per row
  void (*entropy)(Rows<const float> p, double* out, std::size_t rows, std::size_t n);
  void (*kl)(Rows<const float> p, Rows<const float> q, double* out, std::size_t rows,
             std::size_t n);
  void (*js)(Rows<const float> p, Rows<const float> q, double* out, std::size_t rows,
             std::size_t n);

  // similarity: products of one prepared query with `rows` rows
  void (*prepare_query)(const float* query, std::size_t dim, Type type, float* prepared);
  void (*dots)(const float* prepared, Type type, const void* matrix, std::ptrdiff_t stride,
               std::size_t rows, std::size_t dim, float* out);
  void (*dots_i8)(const std::int8_t* query, const std::int8_t* matrix, std::ptrdiff_t stride,
                  std::size_t rows, std::size_t dim, std::int32_t* out);
  void (*dots_f64)(const double* query, const double* matrix, std::size_t rows, std::size_t dim,
                   double* out);  // rows are dim apart

  // transformer rows; `residual` null: plain RMSNorm, else x + residual is stored there first
  void (*rms_norm)(Type type, Rows<const void> x, Rows<void> residual, const void* weight,
                   Rows<void> out, std::size_t rows, std::size_t n, float epsilon);
  void (*swiglu)(Type type, Rows<const void> x, Rows<void> out, std::size_t rows, std::size_t n);
  void (*rope)(Type type, void* x, std::ptrdiff_t token_stride, std::ptrdiff_t head_stride,
               const std::int64_t* positions, const float* cos_sin, std::size_t tokens,
               std::size_t heads, std::size_t rotary, bool neox);

  // packed linear: x (m, k) quantised by packed_quantize, output columns [16 * first, 16 * last)
  void (*packed_quantize)(Type type, const void* x, std::size_t k, std::size_t group,
                          std::int8_t* codes, float* scales, float* sums);
  void (*packed_multiply)(const Packed& weight, const std::int8_t* codes, const float* scales,
                          const float* sums, std::size_t m, const float* bias, Type type,
                          Rows<void> out, std::size_t first, std::size_t last);

  void (*fp8_encode)(Type type, Float8 format, const void* x, std::uint8_t* out, std::size_t n,
                     float inverse_scale);
  void (*fp8_decode)(Type type, Float8 format, const std::uint8_t* x, void* out, std::size_t n,
                     float scale);

  // out (m, n) = a (m, k) b (k, n); `packed` holds kGemmScratch floats
  void (*gemm)(Rows<const float> a, Rows<const float> b, Rows<float> out, std::size_t m,
               std::size_t n, std::size_t k, float* packed);
  // `scratch` holds AttentionScratch(shape) floats; flash: online softmax over tiles of keys
  void (*attention)(Type type, const Attention& shape, const void* q, const void* k, const void* v,
                    void* out, bool flash, float* scratch);

  // x (rows, dim) in place; `lengths` of the texts add up to rows; `scratch` holds EncoderScratch
  void (*encoder_layer)(const EncoderLayer& layer, float* x, const std::int64_t* lengths,
                        std::size_t texts, std::size_t rows, float* scratch);

  // limits of the machine, for benchmarks: see limits.inl.h
  double (*read_all)(const float* data, std::size_t n);
  double (*multiply_adds)(std::size_t rounds, float* result);
};

constexpr std::size_t kFilterBlock = 64;  // logits per block maximum

// Floats of scratch for a row of n logits.
constexpr std::size_t FilterScratch(std::size_t n) {
  return 2 * (n + 64) + 2 * (n / kFilterBlock + 64);
}

// A panel of the right matrix: as deep and as wide as any tier's tile.
constexpr std::size_t kGemmScratch = 256 * 32;

constexpr std::size_t AttentionScratch(const Attention& shape) {
  return 2 * ((shape.dim + 63) / 64 * 64) + shape.keys + 64;
}

// Floats of scratch for `rows` tokens of texts of at most `longest`.
constexpr std::size_t EncoderScratch(const EncoderLayer& layer, std::size_t rows,
                                     std::size_t longest) {
  return rows * (4 * layer.dim + layer.inner) +
         longest * (longest + 2 * (layer.dim / layer.heads) + 1) + kGemmScratch;
}

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_KERNELS_H_
