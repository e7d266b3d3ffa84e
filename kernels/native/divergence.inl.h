// Entropy, KL and Jensen-Shannon divergence of rows of logits, in nats; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

struct Normaliser {
  float top;
  double log_sum;  // log of the sum of e^x, less `top`
};

// -inf - -inf must not become NaN: a token that is impossible contributes nothing.
LM_INLINE F Shifted(F x, F shift) {
  const F y = x - shift;
  return y > -1e30f ? y : Set(-1e30f);
}

Normaliser Normalise(const float* x, size_t n) {
  const float top = RowMax(x, n);
  return {top, __builtin_log(SumExp<false>(x, n, top, nullptr))};
}

template <typename Term>
LM_INLINE double SumOver(size_t n, Term term) {
  double sum = 0.0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = n - start < kChunk ? n : start + kChunk;
    F a{}, b{};
    size_t i = start;
    for (; i + 2 * kW <= end; i += 2 * kW) {
      a += term(i, kW);
      b += term(i + kW, kW);
    }
    for (; i < end; i += kW) a += term(i, end - i < kW ? end - i : kW);
    sum += Sum(a + b);
  }
  return sum;
}

LM_INLINE F LoadOr(const float* x, size_t count) {
  return count == kW ? Load(x) : LoadFirst(x, count, Set(-kInf));
}

// NaN and +inf in a row must end as NaN: the clamp of Shifted would hide them.
LM_INLINE bool Proper(const Normaliser& z) { return IsFinite(z.log_sum) && IsFinite(z.top); }

void Entropy(Rows<const float> p, double* out, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; ++row) {
    const float* x = p.data + (ptrdiff_t)row * p.stride;
    const Normaliser z = Normalise(x, n);
    if (!Proper(z)) {
      out[row] = __builtin_nan("");
      continue;
    }
    const F shift = Set(z.top);
    const double sum = SumOver(n, [&](size_t i, size_t count) {
      const F y = Shifted(LoadOr(x + i, count), shift);
      return Exp(y) * y;
    });
    out[row] = z.log_sum - sum * __builtin_exp(-z.log_sum);
  }
}

void Kl(Rows<const float> p, Rows<const float> q, double* out, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; ++row) {
    const float* a = p.data + (ptrdiff_t)row * p.stride;
    const float* b = q.data + (ptrdiff_t)row * q.stride;
    const Normaliser za = Normalise(a, n), zb = Normalise(b, n);
    if (!Proper(za) || !Proper(zb)) {
      out[row] = __builtin_nan("");
      continue;
    }
    const F top_a = Set(za.top), top_b = Set(zb.top);
    const double sum = SumOver(n, [&](size_t i, size_t count) {
      const F y = Shifted(LoadOr(a + i, count), top_a);
      const F e = Exp(y), w = LoadOr(b + i, count) - top_b;
      return e > 0.0f ? e * (y - w) : F{};  // q impossible where p is not: +inf
    });
    const double value = sum * __builtin_exp(-za.log_sum) - za.log_sum + zb.log_sum;
    out[row] = value < 0.0 ? 0.0 : value;
  }
}

// JS = (sum p log p + sum q log q) / 2 - sum m log m with m = (p + q) / 2.
void Js(Rows<const float> p, Rows<const float> q, double* out, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; ++row) {
    const float* a = p.data + (ptrdiff_t)row * p.stride;
    const float* b = q.data + (ptrdiff_t)row * q.stride;
    const Normaliser za = Normalise(a, n), zb = Normalise(b, n);
    if (!Proper(za) || !Proper(zb)) {
      out[row] = __builtin_nan("");
      continue;
    }
    const F top_a = Set((float)(za.top + za.log_sum)), top_b = Set((float)(zb.top + zb.log_sum));
    const double sum = SumOver(n, [&](size_t i, size_t count) {
      const F y = Shifted(LoadOr(a + i, count), top_a);
      const F w = Shifted(LoadOr(b + i, count), top_b);
      const F ea = Exp(y), eb = Exp(w), both = ea + eb;
      // log m is shared: terms stay small where p and q agree
      const F log_m = Log(both * 0.5f);
      return ea * (y - log_m) + eb * (w - log_m);
    });
    out[row] =
        sum <= 0.0 ? 0.0 : (sum * 0.5 > 0.69314718055994531 ? 0.69314718055994531 : sum * 0.5);
  }
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
