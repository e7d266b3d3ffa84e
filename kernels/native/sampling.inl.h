// Softmax, log-softmax and the filter of next-token logits; included by tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

LM_INLINE bool IsFinite(double value) { return value - value == 0.0; }

// Largest element; NaN are skipped.
float RowMax(const float* x, size_t n) {
  F a = Set(-kInf), b = a, c = a, d = a;
  size_t i = 0;
  for (; i + 4 * kW <= n; i += 4 * kW) {
    a = Max(Load(x + i), a);
    b = Max(Load(x + i + kW), b);
    c = Max(Load(x + i + 2 * kW), c);
    d = Max(Load(x + i + 3 * kW), d);
  }
  for (; i + kW <= n; i += kW) a = Max(Load(x + i), a);
  if (i < n) a = Max(LoadFirst(x + i, n - i, Set(-kInf)), a);
  return Largest(Max(Max(a, b), Max(c, d)));
}

float RowMin(const float* x, size_t n) {
  F a = Set(kInf), b = a;
  size_t i = 0;
  for (; i + 2 * kW <= n; i += 2 * kW) {
    a = Min(Load(x + i), a);
    b = Min(Load(x + i + kW), b);
  }
  for (; i < n; i += kW) {
    a = Min(n - i < kW ? LoadFirst(x + i, n - i, Set(kInf)) : Load(x + i), a);
  }
  return Smallest(Min(a, b));
}

// Sum of e^(x - top); writes the terms to `out` unless it is null.
template <bool kWrite>
double SumExp(const float* x, size_t n, float top, float* out) {
  double sum = 0.0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = n - start < kChunk ? n : start + kChunk;
    F a{}, b{};
    size_t i = start;
    for (; i + 2 * kW <= end; i += 2 * kW) {
      const F ea = Exp(Load(x + i) - top), eb = Exp(Load(x + i + kW) - top);
      if (kWrite) {
        Store(out + i, ea);
        Store(out + i + kW, eb);
      }
      a += ea;
      b += eb;
    }
    for (; i < end; i += kW) {
      const size_t count = end - i < kW ? end - i : kW;
      const F e = Exp((count == kW ? Load(x + i) : LoadFirst(x + i, count, Set(-kInf))) - top);
      if (kWrite) {
        if (count == kW)
          Store(out + i, e);
        else
          StoreFirst(out + i, count, e);
      }
      a += e;
    }
    sum += Sum(a + b);
  }
  return sum;
}

void Softmax(Rows<const float> x, Rows<float> out, size_t rows, size_t n, bool log) {
  for (size_t row = 0; row < rows; ++row) {
    const float* in = x.data + (ptrdiff_t)row * x.stride;
    float* to = out.data + (ptrdiff_t)row * out.stride;
    const float top = RowMax(in, n);
    size_t i = 0;
    if (log) {
      const double sum = SumExp<false>(in, n, top, nullptr);
      const float shift = (float)__builtin_log(sum);
      for (; i + kW <= n; i += kW) Store(to + i, Load(in + i) - top - shift);
      for (; i < n; ++i) to[i] = in[i] - top - shift;
    } else {
      const float inverse = (float)(1.0 / SumExp<true>(in, n, top, to));
      for (; i + kW <= n; i += kW) Store(to + i, Load(to + i) * inverse);
      for (; i < n; ++i) to[i] *= inverse;
    }
  }
}

// -------------------------------------------------------------------------------------- filter
// Splits values[0, n) at `pivot`: those at or above stay in front, the others go to `below`.
// Both hold kW more floats than they need. With kMass the mass e^(x - top) of the upper part
// is added up.
struct Split {
  size_t upper, lower;
  double mass;
  float upper_low, upper_high, lower_low, lower_high;
};

template <bool kMass>
Split Partition(float* values, size_t n, float* below, float pivot, float top) {
  Split split{0, 0, 0.0, kInf, -kInf, kInf, -kInf};
  const F edge = Set(pivot);
  F upper_low = Set(kInf), upper_high = Set(-kInf), lower_low = upper_low, lower_high = upper_high;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = n - start < kChunk ? n : start + kChunk;
    F mass{};
    for (size_t i = start; i < end; i += kW) {
      const uint32_t lanes = end - i < kW ? (1u << (end - i)) - 1 : (uint32_t)((1ull << kW) - 1);
      const F v = lanes + 1 == 1u << kW ? Load(values + i) : LoadFirst(values + i, end - i, edge);
      const I is_upper = v >= edge;
      const uint32_t upper = ToBits(is_upper) & lanes, lower = lanes & ~upper;
      upper_low = Min(is_upper ? v : Set(kInf), upper_low);
      upper_high = Max(v, upper_high);
      lower_low = Min(v, lower_low);
      lower_high = Max(is_upper ? Set(-kInf) : v, lower_high);
      if (kMass && upper != 0) {
        F e = is_upper ? Exp(v - top) : F{};
        if (lanes + 1 != 1u << kW) {  // the fill is no element
          for (size_t lane = 0; lane < kW; ++lane) {
            if (!(lanes >> lane & 1)) e[lane] = 0.0f;
          }
        }
        mass += e;
      }
      Compress(values + split.upper, v, upper);
      split.upper += (size_t)__builtin_popcount(upper);
      Compress(below + split.lower, v, lower);
      split.lower += (size_t)__builtin_popcount(lower);
    }
    if (kMass) split.mass += Sum(mass);
  }
  split.upper_low = Smallest(upper_low);
  split.upper_high = Largest(upper_high);
  split.lower_low = Smallest(lower_low);
  split.lower_high = Largest(lower_high);
  return split;
}

// Where the selected values end: all above `value`, and `ties` of those equal to it.
struct End {
  float value;
  size_t above, ties;
};

LM_INLINE void SortDescending(float* values, size_t n) {
  for (size_t i = 1; i < n; ++i) {
    const float v = values[i];
    size_t at = i;
    for (; at > 0 && values[at - 1] < v; --at) values[at] = values[at - 1];
    values[at] = v;
  }
}

// The end of the largest values whose count (kMass false) or mass reaches `target`.
// Bisects between the smallest and the largest value still in question, so at most the bits of
// a float32 many times, each time over what is left. Clobbers both buffers. n > 0.
template <bool kMass>
End Select(float* values, size_t n, float* other, float top, double target) {
  double reached = 0.0;
  size_t above = 0;
  float high = RowMax(values, n), low = RowMin(values, n);
  while (n > 32 && low < high) {
    float pivot = low + (high - low) * 0.5f;
    if (!(pivot > low)) pivot = high;
    const Split split = Partition<kMass>(values, n, other, pivot, top);
    const double mass = kMass ? split.mass : (double)split.upper;
    if (split.lower == 0 || reached + mass >= target) {
      n = split.upper;
      low = split.upper_low;
      high = split.upper_high;
    } else {
      reached += mass;
      above += split.upper;
      n = split.lower;
      low = split.lower_low;
      high = split.lower_high;
      float* swap = values;
      values = other;
      other = swap;
    }
  }
  if (low < high) SortDescending(values, n);
  for (size_t i = 0; i < n;) {
    size_t ties = 1;
    while (i + ties < n && values[i + ties] == values[i]) ++ties;
    const double each = kMass ? (double)Exp1(values[i] - top) : 1.0;
    if (reached + each * (double)ties >= target || i + ties == n) {
      size_t needed = 1;
      while (needed < ties && reached + each * (double)needed < target) ++needed;
      return {values[i], above, needed};
    }
    reached += each * (double)ties;
    above += ties;
    i += ties;
  }
  return {low, above, n};
}

// Sets what is below the end to -inf; of the values equal to it the first `ties` stay.
void Mask(float* x, size_t n, const End& end, const float* maxima, bool all_ties) {
  const F edge = Set(end.value), gone = Set(-kInf);
  size_t left = end.ties;
  for (size_t start = 0, block = 0; start < n; start += kFilterBlock, ++block) {
    const size_t stop = n - start < kFilterBlock ? n : start + kFilterBlock;
    if (maxima[block] < end.value) {
      size_t i = start;
      for (; i + kW <= stop; i += kW) Store(x + i, gone);
      for (; i < stop; ++i) x[i] = -kInf;
      continue;
    }
    size_t i = start;
    for (; i + kW <= stop; i += kW) {
      const F v = Load(x + i);
      F kept = v >= edge ? v : gone;
      const uint32_t equal = all_ties ? 0 : ToBits(v == edge);
      if (equal != 0) {
        for (size_t lane = 0; lane < kW; ++lane) {
          if (!(equal >> lane & 1)) continue;
          if (left == 0)
            kept[lane] = -kInf;
          else
            --left;
        }
      }
      Store(x + i, kept);
    }
    for (; i < stop; ++i) {
      if (x[i] > end.value) continue;
      if (x[i] == end.value && (all_ties || left > 0)) {
        left -= all_ties ? 0 : 1;
      } else {
        x[i] = -kInf;
      }
    }
  }
}

// Copies the elements at or above `floor` to `out` (kW slack) and adds up e^(x - top) of all of
// them at or above `counted`.
template <bool kMass>
size_t Gather(const float* x, size_t n, float floor, float counted, float top, float* out,
              double* sum) {
  const F edge = Set(floor);
  size_t found = 0;
  double total = 0.0;
  for (size_t start = 0; start < n; start += kChunk) {
    const size_t end = n - start < kChunk ? n : start + kChunk;
    F mass{}, mass2{};
    size_t i = start;
    for (; i + 2 * kW <= end; i += 2 * kW) {
      const F v = Load(x + i), w = Load(x + i + kW);
      if (kMass) {
        mass += Exp((v >= counted ? v : Set(-kInf)) - top);
        mass2 += Exp((w >= counted ? w : Set(-kInf)) - top);
      }
      const uint32_t bits = ToBits(v >= edge), bits2 = ToBits(w >= edge);
      if ((bits | bits2) == 0) continue;
      Compress(out + found, v, bits);
      found += (size_t)__builtin_popcount(bits);
      Compress(out + found, w, bits2);
      found += (size_t)__builtin_popcount(bits2);
    }
    for (; i < end; i += kW) {
      const F v = end - i < kW ? LoadFirst(x + i, end - i, Set(-kInf)) : Load(x + i);
      if (kMass) mass += Exp((v >= counted ? v : Set(-kInf)) - top);
      const uint32_t bits = ToBits(v >= edge);
      Compress(out + found, v, bits);
      found += (size_t)__builtin_popcount(bits);
    }
    if (kMass) total += Sum(mass + mass2);
  }
  if (kMass) *sum = total;
  return found;
}

int64_t Filter(float* x, size_t n, Cut cut, float* scratch) {
  constexpr float kLowest = -__FLT_MAX__;
  const size_t blocks = (n + kFilterBlock - 1) / kFilterBlock;
  float* maxima = scratch;
  float* spare_maxima = maxima + n / kFilterBlock + 64;
  float* values = spare_maxima + n / kFilterBlock + 64;
  float* other = values + n + 64;
  I unordered{};
  F row_top = Set(-kInf);
  for (size_t block = 0; block < blocks; ++block) {
    const size_t start = block * kFilterBlock;
    const size_t stop = n - start < kFilterBlock ? n : start + kFilterBlock;
    F top = Set(-kInf);
    size_t i = start;
    for (; i + kW <= stop; i += kW) {
      const F v = Load(x + i);
      unordered |= v != v;
      top = Max(v, top);
    }
    if (i < stop) {
      const F v = LoadFirst(x + i, stop - i, Set(-kInf));
      unordered |= v != v;
      top = Max(v, top);
    }
    row_top = Max(top, row_top);
    maxima[block] = Largest(top);
  }
  const float top = Largest(row_top);
  if (ToBits(unordered) != 0 || !IsFinite(top)) return -1;

  float floor = kLowest;  // nothing below it is kept
  if (cut.min_p > 0.0f) {
    const float least = top + (float)__builtin_log((double)cut.min_p);
    floor = least < top ? (least > floor ? least : floor) : top;
  }
  const size_t k = cut.top_k < (int64_t)n ? (size_t)cut.top_k : n;
  const bool by_mass = cut.top_p < 1.0f;
  size_t found = 0;
  double sum = 0.0;
  End end{floor, 0, 0};
  bool all_ties = true;
  if (k < n) {
    float bound = floor;
    if (k <= blocks) {  // k blocks reach the k-th largest maximum: nothing below it is among the k
      for (size_t i = 0; i < blocks; ++i) values[i] = maxima[i];
      const float reached = Select<false>(values, blocks, spare_maxima, 0.0f, (double)k).value;
      bound = reached > bound ? reached : bound;
    }
    found = Gather<false>(x, n, bound, bound, top, values, nullptr);
    if (found > k) {
      for (size_t i = 0; i < found; ++i) other[i] = values[i];
      end.value = Select<false>(other, found, values, 0.0f, (double)k).value;
      floor = end.value > floor ? end.value : floor;
      found = Gather<false>(x, n, floor, floor, top, values, nullptr);
    } else {
      floor = bound < floor ? floor : bound;
    }
    end = {floor, 0, 0};
    if (by_mass) sum = SumExp<false>(values, found, top, nullptr);
  } else if (by_mass) {
    // What lies below (1 - p) S / n holds together less than 1 - p: a lower bound of S is enough.
    const double least = SumExp<false>(maxima, blocks, top, nullptr);
    const double share = 1.0 - (double)cut.top_p;
    const float bound = top + (float)__builtin_log(share * least / (double)n) - 1e-3f;
    found = Gather<true>(x, n, bound > floor ? bound : floor, floor, top, values, &sum);
  } else {
    found = Gather<false>(x, n, floor, floor, top, values, nullptr);
  }
  int64_t kept = (int64_t)found;
  if (by_mass) {
    end = Select<true>(values, found, other, top, (double)cut.top_p * sum);
    all_ties = false;
    kept = (int64_t)(end.above + end.ties);
  }
  Mask(x, n, end, maxima, all_ties);
  return kept;
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
