// Kernels over the rows of a transformer: RMSNorm, SwiGLU, RoPE; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

// v as it would be read back after being stored.
template <Type kType>
LM_INLINE F Rounded(F v) {
  if (kType == Type::kF32) return v;
#if LM_VNNI  // in registers
  if (kType == Type::kBF16) {
    return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)), 16);
  }
#endif
  typename Element<kType>::Stored stored[kW];
  Element<kType>::StoreN(stored, v);
  return Element<kType>::LoadN(stored);
}

// Independent sums of RMSNorm: those of NEON are short, and four would wait for each other.
constexpr size_t kSquares = LM_NEON ? 8 : 4;

// Both sums are taken before rounding, and the row is rounded before it meets the weight: so do
// vLLM's and transformers' own, whose results these are to equal.
template <Type kType>
void RmsNormRows(Rows<const void> x, Rows<void> residual, const void* weight, Rows<void> out,
                 size_t rows, size_t n, float epsilon) {
  typedef Element<kType> E;
  typedef typename E::Stored S;
  const S* w = static_cast<const S*>(weight);
  const bool adds = residual.data != nullptr;
  for (size_t row = 0; row < rows; ++row) {
    const S* in = static_cast<const S*>(x.data) + (ptrdiff_t)row * x.stride;
    S* added = adds ? static_cast<S*>(residual.data) + (ptrdiff_t)row * residual.stride : nullptr;
    S* to = static_cast<S*>(out.data) + (ptrdiff_t)row * out.stride;
    F squares[kSquares] = {};
    size_t i = 0;
    if (adds) {
      for (; i + kSquares * kW <= n; i += kSquares * kW) {
        for (size_t part = 0; part < kSquares; ++part) {
          const size_t at = i + part * kW;
          const F v = E::LoadN(in + at) + E::LoadN(added + at);
          squares[part] += v * v;
        }
      }
    } else {
      for (; i + kSquares * kW <= n; i += kSquares * kW) {
        for (size_t part = 0; part < kSquares; ++part) {
          const F v = E::LoadN(in + i + part * kW);
          squares[part] += v * v;
        }
      }
    }
    for (; i < n; i += kW) {
      F v = LoadSome<kType>(in + i, n - i);
      if (adds) v += LoadSome<kType>(added + i, n - i);
      squares[0] += v * v;
    }
    F sum = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    if constexpr (kSquares == 8) sum += (squares[4] + squares[5]) + (squares[6] + squares[7]);
    const float mean = Sum(sum) / (float)n;
    const F scale = Set(1.0f / __builtin_sqrtf(mean + epsilon));
    i = 0;
    if (adds) {
      for (; i + 2 * kW <= n; i += 2 * kW) {
        const F v = E::LoadN(in + i) + E::LoadN(added + i);
        const F u = E::LoadN(in + i + kW) + E::LoadN(added + i + kW);
        const F a = Rounded<kType>(v * scale) * E::LoadN(w + i);
        const F b = Rounded<kType>(u * scale) * E::LoadN(w + i + kW);
        E::StoreN(added + i, v);
        E::StoreN(added + i + kW, u);
        E::StoreN(to + i, a);
        E::StoreN(to + i + kW, b);
      }
    } else {
      for (; i + 2 * kW <= n; i += 2 * kW) {
        const F v = E::LoadN(in + i), u = E::LoadN(in + i + kW);
        E::StoreN(to + i, Rounded<kType>(v * scale) * E::LoadN(w + i));
        E::StoreN(to + i + kW, Rounded<kType>(u * scale) * E::LoadN(w + i + kW));
      }
    }
    for (; i < n; i += kW) {
      F v = LoadSome<kType>(in + i, n - i);
      if (adds) {
        v += LoadSome<kType>(added + i, n - i);
        StoreSome<kType>(added + i, n - i, v);
      }
      StoreSome<kType>(to + i, n - i, Rounded<kType>(v * scale) * LoadSome<kType>(w + i, n - i));
    }
  }
}

// 1 / x within 2 ulp; 0 for x above 2^126.
LM_INLINE F Reciprocal(F x) {
#if LM_AVX512  // an estimate and one step of Newton's: division is the slowest instruction here
  const F estimate = (F)_mm512_rcp14_ps((__m512)x);
  return estimate * (2.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

template <Type kType>
void SwigluRows(Rows<const void> x, Rows<void> out, size_t rows, size_t n) {
  typedef Element<kType> E;
  typedef typename E::Stored S;
  for (size_t row = 0; row < rows; ++row) {
    const S* gate = static_cast<const S*>(x.data) + (ptrdiff_t)row * x.stride;
    const S* up = gate + n;
    S* to = static_cast<S*>(out.data) + (ptrdiff_t)row * out.stride;
    size_t i = 0;
    for (; i + 2 * kW <= n; i += 2 * kW) {  // two at once: each is one long chain
      const F g = E::LoadN(gate + i), h = E::LoadN(gate + i + kW);
      const F eg = Exp(-g), eh = Exp(-h);
      E::StoreN(to + i, g * Reciprocal(1.0f + eg) * E::LoadN(up + i));
      E::StoreN(to + i + kW, h * Reciprocal(1.0f + eh) * E::LoadN(up + i + kW));
    }
    for (; i + kW <= n; i += kW) {
      const F g = E::LoadN(gate + i);
      E::StoreN(to + i, g * Reciprocal(1.0f + Exp(-g)) * E::LoadN(up + i));
    }
    if (i < n) {
      const F g = LoadSome<kType>(gate + i, n - i);
      StoreSome<kType>(to + i, n - i,
                       g * Reciprocal(1.0f + Exp(-g)) * LoadSome<kType>(up + i, n - i));
    }
  }
}

template <Type kType>
void RopeRows(void* data, ptrdiff_t token_stride, ptrdiff_t head_stride, const int64_t* positions,
              const float* cos_sin, size_t tokens, size_t heads, size_t rotary, bool neox) {
  typedef Element<kType> E;
  typedef typename E::Stored S;
  const size_t half = rotary / 2;
  for (size_t token = 0; token < tokens; ++token) {
    const float* cosine = cos_sin + positions[token] * (int64_t)rotary;
    const float* sine = cosine + half;
    for (size_t head = 0; head < heads; ++head) {
      S* x =
          static_cast<S*>(data) + (ptrdiff_t)token * token_stride + (ptrdiff_t)head * head_stride;
      if (neox) {
        for (size_t i = 0; i < half; i += kW) {
          const size_t left = half - i;
          const F c = LoadSome<Type::kF32>(cosine + i, left);
          const F s = LoadSome<Type::kF32>(sine + i, left);
          const F a = LoadSome<kType>(x + i, left), b = LoadSome<kType>(x + half + i, left);
          StoreSome<kType>(x + i, left, a * c - b * s);
          StoreSome<kType>(x + half + i, left, b * c + a * s);
        }
        continue;
      }
      for (size_t i = 0; i < half; i += kW) {  // neighbours form a pair
        const size_t count = half - i < kW ? half - i : kW;
        S even[kW] = {}, odd[kW] = {};
        for (size_t lane = 0; lane < count; ++lane) {
          even[lane] = x[2 * (i + lane)];
          odd[lane] = x[2 * (i + lane) + 1];
        }
        const F c = LoadSome<Type::kF32>(cosine + i, count);
        const F s = LoadSome<Type::kF32>(sine + i, count);
        const F a = E::LoadN(even), b = E::LoadN(odd);
        E::StoreN(even, a * c - b * s);
        E::StoreN(odd, b * c + a * s);
        for (size_t lane = 0; lane < count; ++lane) {
          x[2 * (i + lane)] = even[lane];
          x[2 * (i + lane) + 1] = odd[lane];
        }
      }
    }
  }
}

#define LM_BY_TYPE(type, call)  \
  switch (type) {               \
    case Type::kF32:            \
      return call(Type::kF32);  \
    case Type::kBF16:           \
      return call(Type::kBF16); \
    case Type::kF16:            \
      return call(Type::kF16);  \
  }

void RmsNorm(Type type, Rows<const void> x, Rows<void> residual, const void* weight, Rows<void> out,
             size_t rows, size_t n, float epsilon) {
#define LM_CALL(t) RmsNormRows<t>(x, residual, weight, out, rows, n, epsilon)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

void Swiglu(Type type, Rows<const void> x, Rows<void> out, size_t rows, size_t n) {
#define LM_CALL(t) SwigluRows<t>(x, out, rows, n)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

void Rope(Type type, void* x, ptrdiff_t token_stride, ptrdiff_t head_stride,
          const int64_t* positions, const float* cos_sin, size_t tokens, size_t heads,
          size_t rotary, bool neox) {
#define LM_CALL(t) \
  RopeRows<t>(x, token_stride, head_stride, positions, cos_sin, tokens, heads, rotary, neox)
  LM_BY_TYPE(type, LM_CALL)
#undef LM_CALL
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
