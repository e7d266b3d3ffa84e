// Scaled dot-product attention, direct and with an online softmax; included by tier.cc.
//
// Flash: Dao et al., arXiv:2205.14135, algorithm 1 - keys in tiles, the running maximum rescales
// what was added up so far. Direct: one whole row of scores per query, softmax, then the values.

namespace livemind {
namespace LM_TIER {
namespace {

constexpr size_t kKeyTile = 256;

template <Type kType>
LM_INLINE float DotHead(const float* q, const typename Element<kType>::Stored* k, size_t dim) {
  F a{}, b{};
  size_t i = 0;
  for (; i + 2 * kW <= dim; i += 2 * kW) {
    a += Load(q + i) * Element<kType>::LoadN(k + i);
    b += Load(q + i + kW) * Element<kType>::LoadN(k + i + kW);
  }
  for (; i < dim; i += kW) {
    a += LoadSome<Type::kF32>(q + i, dim - i) * LoadSome<kType>(k + i, dim - i);
  }
  return Sum(a + b);
}

// sum += weight * v
template <Type kType>
LM_INLINE void AddValues(float* sum, const float* weights, const typename Element<kType>::Stored* v,
                         ptrdiff_t stride, size_t keys, size_t dim) {
  for (size_t i = 0; i < dim; i += 4 * kW) {
    F parts[4] = {};
    size_t count = 0;
    for (; count < 4 && i + count * kW < dim; ++count) {
      parts[count] = LoadSome<Type::kF32>(sum + i + count * kW, dim - i - count * kW);
    }
    if (i + 4 * kW <= dim) {
      for (size_t key = 0; key < keys; ++key) {
        const auto* at = v + (ptrdiff_t)key * stride + i;
        const F weight = Set(weights[key]);
        for (size_t part = 0; part < 4; ++part) {
          parts[part] += weight * Element<kType>::LoadN(at + part * kW);
        }
      }
    } else {
      for (size_t key = 0; key < keys; ++key) {
        const auto* at = v + (ptrdiff_t)key * stride + i;
        const F weight = Set(weights[key]);
        for (size_t part = 0; part < count; ++part) {
          parts[part] += weight * LoadSome<kType>(at + part * kW, dim - i - part * kW);
        }
      }
    }
    for (size_t part = 0; part < count; ++part) {
      StoreSome<Type::kF32>(sum + i + part * kW, dim - i - part * kW, parts[part]);
    }
  }
}

template <Type kType>
void AttentionOf(const Attention& s, const void* q_data, const void* k_data, const void* v_data,
                 void* out_data, bool flash, float* scratch) {
  typedef typename Element<kType>::Stored S;
  const size_t padded = (s.dim + 63) / 64 * 64;
  float* query = scratch;
  float* sum = query + padded;
  float* scores = sum + padded;
  for (size_t head = 0; head < s.heads; ++head) {
    const size_t kv = head / (s.heads / s.kv_heads);
    const S* k = static_cast<const S*>(k_data) + (ptrdiff_t)kv * s.k_head;
    const S* v = static_cast<const S*>(v_data) + (ptrdiff_t)kv * s.v_head;
    for (size_t row = 0; row < s.queries; ++row) {
      const S* q =
          static_cast<const S*>(q_data) + (ptrdiff_t)head * s.q_head + (ptrdiff_t)row * s.q_row;
      S* out =
          static_cast<S*>(out_data) + (ptrdiff_t)head * s.out_head + (ptrdiff_t)row * s.out_row;
      for (size_t i = 0; i < s.dim; i += kW) {
        StoreSome<Type::kF32>(query + i, s.dim - i, LoadSome<kType>(q + i, s.dim - i) * s.scale);
        StoreSome<Type::kF32>(sum + i, s.dim - i, F{});
      }
      const size_t keys = s.causal ? s.keys - s.queries + row + 1 : s.keys;
      const size_t tile = flash ? kKeyTile : keys;
      float top = -kInf;
      double total = 0.0;
      for (size_t start = 0; start < keys; start += tile) {
        const size_t count = keys - start < tile ? keys - start : tile;
        for (size_t key = 0; key < count; ++key) {
          scores[key] = DotHead<kType>(query, k + (ptrdiff_t)(start + key) * s.k_row, s.dim);
        }
        const float tile_top = RowMax(scores, count);
        if (tile_top > top) {
          const float shrink = start == 0 ? 0.0f : Exp1(top - tile_top);
          if (start > 0) {
            for (size_t i = 0; i < s.dim; ++i) sum[i] *= shrink;
          }
          total *= (double)shrink;
          top = tile_top;
        }
        total += SumExp<true>(scores, count, top, scores);
        AddValues<kType>(sum, scores, v + (ptrdiff_t)start * s.v_row, s.v_row, count, s.dim);
      }
      const float inverse = (float)(1.0 / total);
      for (size_t i = 0; i < s.dim; i += kW) {
        StoreSome<kType>(out + i, s.dim - i, LoadSome<Type::kF32>(sum + i, s.dim - i) * inverse);
      }
    }
  }
}

void AttentionRun(Type type, const Attention& shape, const void* q, const void* k, const void* v,
                  void* out, bool flash, float* scratch) {
#define LM_CALL(t) AttentionOf<t>(shape, q, k, v, out, flash, scratch)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
