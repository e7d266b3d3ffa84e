// Every kernel on every tier that this processor runs, against float64, without Python: what is
// run under emulation for Arm and under sanitizers. `kernels_test --tiers` names the tiers,
// `kernels_test --best` the one that dispatch picks.

#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "isa.h"
#include "neighbours.h"
#include "penalties.h"
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace livemind;  // NOLINT: a test

namespace {

int g_failures = 0;
const char* g_tier = "";

void Check(bool right, const char* what, std::size_t n, double found, double wanted) {
  if (right) return;
  if (++g_failures <= 40) {
    std::printf("FAIL %s %s n=%zu: %.9g, wanted %.9g\n", g_tier, what, n, found, wanted);
  }
}

void Near(const char* what, std::size_t n, double found, double wanted, double tolerance) {
  const bool same = std::isnan(wanted) ? std::isnan(found)
                                       : found == wanted || std::fabs(found - wanted) <= tolerance;
  Check(same, what, n, found, wanted);
}

// Deterministic numbers, roughly normal.
struct Random {
  std::uint64_t state = 88172645463325252ull;
  std::uint32_t Next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<std::uint32_t>(state >> 32);
  }
  float Normal() {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += Next() / 4294967296.0;
    return static_cast<float>(sum);
  }
};

// Exactly `n` elements on the heap, not aligned beyond their own size: overruns are seen by ASan.
template <typename T>
struct Buffer {
  explicit Buffer(std::size_t n) : memory(new T[n + 1]), data(memory.get() + 1) {}
  std::unique_ptr<T[]> memory;
  T* data;
  T& operator[](std::size_t i) { return data[i]; }
};

std::uint16_t ToBf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float FromBf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

const std::size_t kLengths[] = {1,  2,  3,  4,  5,  7,  8,   9,    15,
                                16, 17, 31, 33, 63, 65, 130, 1000, 3001};
const double kEps = 1.1920929e-7;

void TestSoftmax(const Kernels& k, Random& random) {
  for (const std::size_t n : kLengths) {
    Buffer<float> x(n), out(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = random.Normal() * 8;
    if (n > 4) x[2] = -std::numeric_limits<float>::infinity();
    double top = -1e300, sum = 0;
    for (std::size_t i = 0; i < n; ++i) top = std::max(top, static_cast<double>(x[i]));
    for (std::size_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
    k.softmax({x.data, 0}, {out.data, 0}, 1, n, false);
    double entropy = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double p = std::exp(x[i] - top) / sum;
      Near("softmax", n, out[i], p, (8 + std::min(top - x[i], 90.0)) * kEps * p + 1e-37);
      if (p > 0) entropy -= p * std::log(p);
    }
    double found;
    k.entropy({x.data, 0}, &found, 1, n);
    Near("entropy", n, found, entropy, 1e-5);
    k.softmax({x.data, 0}, {out.data, 0}, 1, n, true);
    for (std::size_t i = 0; i < n; ++i) {
      Near("log_softmax", n, out[i], x[i] - top - std::log(sum), 1e-5);
    }
    x[n / 2] = std::numeric_limits<float>::quiet_NaN();
    k.softmax({x.data, 0}, {out.data, 0}, 1, n, false);
    Check(std::isnan(out[0]), "softmax of NaN", n, out[0], NAN);
  }
}

void TestDivergence(const Kernels& k, Random& random) {
  for (const std::size_t n : kLengths) {
    Buffer<float> a(n), b(n);
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = random.Normal() * 3;
      b[i] = random.Normal() * 3;
    }
    double sum_a = 0, sum_b = 0, kl = 0, js = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sum_a += std::exp(static_cast<double>(a[i]));
      sum_b += std::exp(static_cast<double>(b[i]));
    }
    for (std::size_t i = 0; i < n; ++i) {
      const double p = std::exp(static_cast<double>(a[i])) / sum_a;
      const double q = std::exp(static_cast<double>(b[i])) / sum_b, m = (p + q) / 2;
      kl += p * std::log(p / q);
      js += (p * std::log(p / m) + q * std::log(q / m)) / 2;
    }
    double found;
    k.kl({a.data, 0}, {b.data, 0}, &found, 1, n);
    Near("kl", n, found, kl, 1e-5 * (1 + kl));
    k.js({a.data, 0}, {b.data, 0}, &found, 1, n);
    Near("js", n, found, js, 1e-5);
  }
}

void TestFilter(const Kernels& k, Random& random) {
  for (const std::size_t n : kLengths) {
    for (int kind = 0; kind < 4; ++kind) {
      Buffer<float> x(n), before(n);
      for (std::size_t i = 0; i < n; ++i) before[i] = x[i] = random.Normal() * (kind == 3 ? 6 : 2);
      std::vector<float> scratch(FilterScratch(n));
      const std::int64_t top_k = kind == 1 ? 7 : static_cast<std::int64_t>(n);
      const float p = kind == 1 ? 1.0f : 0.8f;
      const std::int64_t kept =
          k.filter(x.data, n, {top_k, p, kind == 2 ? 0.1f : 0.0f}, scratch.data());
      std::vector<float> sorted(before.data, before.data + n);
      std::sort(sorted.begin(), sorted.end(), [](float u, float v) { return u > v; });
      std::size_t expected = 0;
      double sum = 0, reached = 0;
      const float least = kind == 2 ? sorted[0] + std::log(0.1f) : -1e30f;
      std::vector<float> rest;
      for (const float v : sorted) {
        if (v >= least && static_cast<std::int64_t>(rest.size()) < top_k) rest.push_back(v);
      }
      for (const float v : rest) sum += std::exp(v - sorted[0]);
      for (const float v : rest) {
        if (kind != 1 && reached >= static_cast<double>(p) * sum) break;
        reached += std::exp(v - sorted[0]);
        ++expected;
      }
      std::size_t finite = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (std::isinf(x[i])) continue;
        ++finite;
        Near("filter keeps a logit", n, x[i], before[i], 0);
      }
      Near("filter", n, static_cast<double>(kept), static_cast<double>(expected), 0);
      Near("filter count", n, static_cast<double>(finite), static_cast<double>(kept), 0);
    }
  }
  std::vector<float> flat(1000, 1.5f), scratch(FilterScratch(1000));
  Near("filter of ties", 1000,
       static_cast<double>(k.filter(flat.data(), 1000, {1000, 0.5f, 0}, scratch.data())), 500, 0);
  flat[3] = NAN;
  Near("filter of NaN", 1000,
       static_cast<double>(k.filter(flat.data(), 1000, {5, 0.5f, 0}, scratch.data())), -1, 0);
}

void TestSimilarity(const Kernels& k, Random& random) {
  for (const std::size_t dim : kLengths) {
    const std::size_t rows = 9;
    Buffer<float> query(dim), matrix(rows * dim);
    Buffer<std::uint16_t> half(rows * dim);
    for (std::size_t i = 0; i < dim; ++i) query[i] = random.Normal();
    for (std::size_t i = 0; i < rows * dim; ++i) {
      half[i] = ToBf16(random.Normal());
      matrix[i] = FromBf16(half[i]);
    }
    for (const bool narrow : {false, true}) {
      std::int64_t indices[9];
      float values[9];
      const Matrix m{narrow ? static_cast<const void*>(half.data) : matrix.data,
                     static_cast<std::ptrdiff_t>(dim),
                     rows,
                     dim,
                     false,
                     narrow ? Type::kBF16 : Type::kF32,
                     nullptr};
      TopK(k, query.data, 0, 1, m, rows, indices, values);
      for (std::size_t r = 0; r < rows; ++r) {
        double exact = 0, scale = 0;
        for (std::size_t i = 0; i < dim; ++i) {
          const double term = static_cast<double>(query[i]) *
                              matrix[static_cast<std::size_t>(indices[r]) * dim + i];
          exact += term;
          scale += std::fabs(term);
        }
        Near(narrow ? "dots bf16" : "dots f32", dim, values[r], exact,
             kEps * scale * (2 + static_cast<double>(dim) / 8));
        Check(r == 0 || values[r - 1] >= values[r], "order", dim, values[r], 0);
      }
    }
    Buffer<std::int8_t> a(dim), b(dim * 2);
    for (std::size_t i = 0; i < dim; ++i) {
      a[i] = static_cast<std::int8_t>(static_cast<int>(random.Next() % 255) - 127);
      b[i] = b[dim + i] = static_cast<std::int8_t>(static_cast<int>(random.Next() % 256) - 128);
    }
    std::int32_t found[2], wanted = 0;
    for (std::size_t i = 0; i < dim; ++i) wanted += a[i] * b[i];
    k.dots_i8(a.data, b.data, static_cast<std::ptrdiff_t>(dim), 2, dim, found);
    Near("dots i8", dim, found[0], wanted, 0);
    Near("dots i8", dim, found[1], wanted, 0);
    Buffer<double> wide(dim), five(5 * dim);
    for (std::size_t i = 0; i < dim; ++i) wide[i] = query[i];
    for (std::size_t i = 0; i < 5 * dim; ++i) five[i] = matrix[i];
    double products[5];
    k.dots_f64(wide.data, five.data, 5, dim, products);
    for (std::size_t r = 0; r < 5; ++r) {
      double exact = 0;
      for (std::size_t i = 0; i < dim; ++i) exact += wide[i] * five[r * dim + i];
      Near("dots f64", dim, products[r], exact, 1e-12 * static_cast<double>(dim + 1));
    }
  }
}

void TestRows(const Kernels& k, Random& random) {
  for (const std::size_t n : kLengths) {
    for (const Type type : {Type::kF32, Type::kBF16}) {
      const double unit = type == Type::kF32 ? kEps : 1.0 / 128;
      Buffer<float> wide(5 * n);
      Buffer<std::uint16_t> half(5 * n);
      for (std::size_t i = 0; i < 5 * n; ++i) {
        half[i] = ToBf16(random.Normal());
        wide[i] = FromBf16(half[i]);
      }
      const auto at = [&](std::size_t row) -> void* {
        return type == Type::kF32 ? static_cast<void*>(wide.data + row * n) : half.data + row * n;
      };
      const auto value = [&](std::size_t row, std::size_t i) {
        return static_cast<double>(type == Type::kF32 ? wide[row * n + i]
                                                      : FromBf16(half[row * n + i]));
      };
      std::vector<double> x(n), r(n), w(n), gate(n), up(n);
      for (std::size_t i = 0; i < n; ++i) {
        x[i] = value(0, i), r[i] = value(1, i), w[i] = value(2, i);
        gate[i] = value(3, i), up[i] = value(4, i);
      }
      k.rms_norm(type, {at(0), 0}, {at(1), 0}, at(2), {at(0), 0}, 1, n, 1e-6f);
      double squares = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double total = x[i] + r[i];
        Near("residual", n, value(1, i), total, unit * std::fabs(total) + 1e-30);
        squares += total * total;
      }
      const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
      for (std::size_t i = 0; i < n; ++i) {
        const double exact = (x[i] + r[i]) * scale * w[i];
        Near("rms_norm", n, value(0, i), exact,
             (unit + kEps * (2 + static_cast<double>(n) / 8)) * std::fabs(exact) + 1e-30);
      }
      k.swiglu(type, {at(3), 0}, {at(0), 0}, 1, n);
      for (std::size_t i = 0; i < n; ++i) {
        const double exact = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        Near("swiglu", n, value(0, i), exact, 4 * unit * std::fabs(exact) + 1e-12);
      }
    }
    if (n % 2 != 0) continue;
    Buffer<float> x(n + 3), table(n);
    std::vector<double> before(n + 3);
    for (std::size_t i = 0; i < n + 3; ++i) before[i] = x[i] = random.Normal();
    for (std::size_t i = 0; i < n / 2; ++i) {
      const float angle = random.Normal();
      table[i] = std::cos(angle);
      table[n / 2 + i] = std::sin(angle);
    }
    for (const bool neox : {true, false}) {
      for (std::size_t i = 0; i < n + 3; ++i) x[i] = static_cast<float>(before[i]);
      const std::int64_t position = 0;
      k.rope(Type::kF32, x.data, 0, 0, &position, table.data, 1, 1, n, neox);
      for (std::size_t i = 0; i < n / 2; ++i) {
        const std::size_t a = neox ? i : 2 * i, b = neox ? n / 2 + i : 2 * i + 1;
        const double c = table[i], s = table[n / 2 + i];
        Near("rope", n, x[a], before[a] * c - before[b] * s, 1e-5);
        Near("rope", n, x[b], before[b] * c + before[a] * s, 1e-5);
      }
    }
  }
}

// Asks Linux for AMX tiles, as an engine's process does.
void AskForTiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int kRequest = 0x1023, kTileData = 18;  // arch/x86/include/uapi/asm/prctl.h
  syscall(SYS_arch_prctl, kRequest, kTileData);
#endif
}

void TestPacked(const Kernels& k, Random& random, int bits, std::size_t m, bool tiles) {
  const std::size_t bytes = static_cast<std::size_t>(bits) * 2;  // of 16 outputs for one input
  const std::size_t shapes[][3] = {{1, 8, 8},    {16, 32, 16}, {17, 48, 24},
                                   {33, 64, 64}, {40, 96, 32}, {40, 256, 128}};
  for (const auto& shape : shapes) {
    const std::size_t n = shape[0], inputs = shape[1], group = shape[2];
    const std::size_t blocks = (n + 15) / 16, groups = inputs / group;
    Buffer<std::uint8_t> codes(blocks * inputs * bytes);
    Buffer<float> scales(blocks * groups * 16), offsets(blocks * groups * 16);
    for (std::size_t i = 0; i < blocks * inputs * bytes; ++i) {
      codes[i] = static_cast<std::uint8_t>(random.Next());
      if (n > 16 && i < inputs * bytes) codes[i] = 255;  // sums as large as they get
    }
    for (std::size_t i = 0; i < blocks * groups * 16; ++i) {
      scales[i] = 0.5f + static_cast<float>(random.Next() % 100) / 100;
      offsets[i] = scales[i] * static_cast<float>(random.Next() % 16);
    }
    Buffer<float> x(m * inputs), out(m * n), bias(n);
    for (std::size_t i = 0; i < m * inputs; ++i) {
      x[i] = static_cast<float>(static_cast<int>(random.Next() % 255) - 127);
      if (i % group == 0) x[i] = 127;  // the largest: 8 bits lose nothing
      if (i < inputs) x[i] = -127;
    }
    for (std::size_t i = 0; i < n; ++i) bias[i] = random.Normal();
    Buffer<std::int8_t> x_codes(m * inputs);
    Buffer<float> x_scales(m * groups), x_sums(m * groups);
    for (std::size_t row = 0; row < m; ++row) {
      k.packed_quantize(Type::kF32, x.data + row * inputs, inputs, group,
                        x_codes.data + row * inputs, x_scales.data + row * groups,
                        x_sums.data + row * groups);
    }
    k.packed_multiply({codes.data, scales.data, offsets.data, n, inputs, group, bits, tiles},
                      x_codes.data, x_scales.data, x_sums.data, m, bias.data, Type::kF32,
                      {out.data, static_cast<std::ptrdiff_t>(n)}, 0, blocks);
    for (std::size_t row = 0; row < m; ++row) {
      for (std::size_t o = 0; o < n; ++o) {
        double exact = bias[o], size = std::fabs(exact);
        for (std::size_t i = 0; i < inputs; ++i) {
          const std::size_t load = i / (32 / static_cast<std::size_t>(bits)) * 64;
          const std::uint8_t byte = codes[o / 16 * inputs * bytes + load + o % 16 * 4 + i % 4];
          const std::size_t at = (o / 16 * groups + i / group) * 16 + o % 16;
          const double code = bits == 8 ? byte : i % 8 < 4 ? byte & 15 : byte >> 4;
          exact += (code * scales[at] - offsets[at]) * x[row * inputs + i];
          size += (code * scales[at] + offsets[at]) * std::fabs(x[row * inputs + i]);
        }
        Near("packed", n, out[row * n + o], exact, 4e-7 * size);
      }
    }
  }
}

void TestDense(const Kernels& k, Random& random) {
  for (const std::size_t m : {1, 5, 8, 14, 29}) {
    for (const std::size_t n : {1, 8, 17, 33}) {
      for (const std::size_t depth : {1, 31, 257}) {
        Buffer<float> a(m * depth), b(depth * n), out(m * n);
        for (std::size_t i = 0; i < m * depth; ++i) a[i] = random.Normal();
        for (std::size_t i = 0; i < depth * n; ++i) b[i] = random.Normal();
        std::vector<float> packed(kGemmScratch);
        k.gemm({a.data, static_cast<std::ptrdiff_t>(depth)},
               {b.data, static_cast<std::ptrdiff_t>(n)}, {out.data, static_cast<std::ptrdiff_t>(n)},
               m, n, depth, packed.data());
        for (std::size_t i = 0; i < m * n; ++i) {
          double exact = 0;
          for (std::size_t d = 0; d < depth; ++d) {
            exact += static_cast<double>(a[i / n * depth + d]) * b[d * n + i % n];
          }
          Near("gemm", m, out[i], exact, 1e-6 * static_cast<double>(depth));
        }
      }
    }
  }
  for (const std::size_t keys : {1, 5, 300}) {
    for (const std::size_t dim : {3, 16, 80}) {
      Buffer<float> q(dim), key(keys * dim), v(keys * dim), out(dim);
      for (std::size_t i = 0; i < dim; ++i) q[i] = random.Normal();
      for (std::size_t i = 0; i < keys * dim; ++i) {
        key[i] = random.Normal();
        v[i] = random.Normal();
      }
      const auto row = static_cast<std::ptrdiff_t>(dim);
      const Attention shape{1, 1, 1, keys, dim, 0, row, 0, row, 0, row, 0, row, 0.25f, true};
      std::vector<float> scratch(AttentionScratch(shape));
      for (const bool flash : {false, true}) {
        k.attention(Type::kF32, shape, q.data, key.data, v.data, out.data, flash, scratch.data());
        std::vector<double> exact(dim, 0.0);
        double total = 0;
        for (std::size_t i = 0; i < keys; ++i) {
          double score = 0;
          for (std::size_t d = 0; d < dim; ++d) score += 0.25 * q[d] * key[i * dim + d];
          total += std::exp(score);
          for (std::size_t d = 0; d < dim; ++d) exact[d] += std::exp(score) * v[i * dim + d];
        }
        for (std::size_t d = 0; d < dim; ++d)
          Near("attention", keys, out[d], exact[d] / total, 1e-5);
      }
    }
  }
}

// A map with weights that bfloat16 holds exactly, in the kernel's layout and in double.
struct Map {
  Map(std::size_t k, std::size_t n, Random& random)
      : inputs(k), outputs(n), packed(k * n), bias(n), exact(k * n) {
    for (std::size_t o = 0; o < outputs; ++o) {
      bias[o] = random.Normal();
      for (std::size_t i = 0; i < inputs; ++i) {
        const float weight = static_cast<float>(static_cast<int>(random.Next() % 33) - 16) / 64;
        const std::size_t row = o / kEncoderPanel * (inputs / 2) + i / 2;
        packed[row * 2 * kEncoderPanel + o % kEncoderPanel * 2 + i % 2] = ToBf16(weight);
        exact[o * inputs + i] = weight;
      }
    }
  }
  std::vector<double> operator()(const std::vector<double>& x) const {
    std::vector<double> found;
    for (std::size_t row = 0; row < x.size() / inputs; ++row) {
      for (std::size_t o = 0; o < outputs; ++o) {
        double sum = bias.data[o];
        for (std::size_t i = 0; i < inputs; ++i) {
          sum += exact[o * inputs + i] * x[row * inputs + i];
        }
        found.push_back(sum);
      }
    }
    return found;
  }
  std::size_t inputs, outputs;
  Buffer<std::uint16_t> packed;
  Buffer<float> bias;
  std::vector<double> exact;
};

// Adds `more` to x and normalises its rows.
void AddAndNorm(std::vector<double>& x, const std::vector<double>& more, std::size_t dim,
                const float* norm) {
  const auto count = static_cast<double>(dim);
  for (std::size_t row = 0; row < x.size(); row += dim) {
    double mean = 0, squares = 0;
    for (std::size_t i = row; i < row + dim; ++i) {
      x[i] += more[i];
      mean += x[i] / count;
    }
    for (std::size_t i = row; i < row + dim; ++i) {
      x[i] -= mean;
      squares += x[i] * x[i] / count;
    }
    for (std::size_t i = 0; i < dim; ++i) {
      x[row + i] = x[row + i] / std::sqrt(squares) * norm[i] + norm[dim + i];
    }
  }
}

std::vector<double> Attended(const std::vector<double>& qkv,
                             const std::vector<std::int64_t>& lengths, std::size_t dim,
                             std::size_t heads) {
  const std::size_t size = dim / heads;
  std::vector<double> seen(qkv.size() / 3, 0.0);
  std::size_t first = 0;
  for (const std::int64_t length : lengths) {
    const std::size_t last = first + static_cast<std::size_t>(length);
    for (std::size_t head = 0; head < heads; ++head) {
      for (std::size_t row = first; row < last; ++row) {
        const double* query = &qkv[row * 3 * dim + head * size];
        double* to = &seen[row * dim + head * size];
        double total = 0;
        for (std::size_t other = first; other < last; ++other) {
          const double* key = &qkv[other * 3 * dim + dim + head * size];
          double score = 0;
          for (std::size_t i = 0; i < size; ++i) score += query[i] * key[i];
          const double weight = std::exp(score / std::sqrt(static_cast<double>(size)));
          total += weight;
          for (std::size_t i = 0; i < size; ++i) to[i] += weight * key[dim + i];
        }
        for (std::size_t i = 0; i < size; ++i) to[i] /= total;
      }
    }
    first = last;
  }
  return seen;
}

void TestEncoder(const Kernels& k, Random& random) {
  const std::size_t dim = 96, inner = 64, heads = 3, rows = 65;
  const Map qkv(dim, 3 * dim, random), attention_out(dim, dim, random), up(dim, inner, random),
      down(inner, dim, random);
  Buffer<float> norm(2 * dim);
  for (std::size_t i = 0; i < dim; ++i) {
    norm[i] = 1.0f + 0.1f * random.Normal();
    norm[dim + i] = random.Normal();
  }
  const EncoderLayer layer{dim,
                           inner,
                           heads,
                           qkv.packed.data,
                           attention_out.packed.data,
                           up.packed.data,
                           down.packed.data,
                           qkv.bias.data,
                           attention_out.bias.data,
                           up.bias.data,
                           down.bias.data,
                           norm.data,
                           norm.data,
                           1e-12f};
  const std::vector<std::int64_t> lengths{1, 17, 14, 33};
  Buffer<float> x(rows * dim);
  std::vector<double> exact(rows * dim);
  for (std::size_t i = 0; i < rows * dim; ++i) exact[i] = x[i] = random.Normal();
  std::vector<float> scratch(EncoderScratch(layer, rows, 33));
  k.encoder_layer(layer, x.data, lengths.data(), lengths.size(), rows, scratch.data());
  AddAndNorm(exact, attention_out(Attended(qkv(exact), lengths, dim, heads)), dim, norm.data);
  std::vector<double> between = up(exact);
  for (double& value : between) value *= 0.5 * std::erfc(-value / std::sqrt(2.0));
  AddAndNorm(exact, down(between), dim, norm.data);
  for (std::size_t i = 0; i < rows * dim; ++i) Near("encoder", i / dim, x[i], exact[i], 0.05);
}

void TestFp8(const Kernels& k) {
  for (const Float8 format : {Float8::kE4M3, Float8::kE5M2}) {
    std::vector<std::uint8_t> codes(256), again(256);
    std::vector<float> values(256);
    for (std::size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::uint8_t>(i);
    k.fp8_decode(Type::kF32, format, codes.data(), values.data(), 256, 1.0f);
    k.fp8_encode(Type::kF32, format, values.data(), again.data(), 256, 1.0f);
    const int mantissa = format == Float8::kE4M3 ? 3 : 2, bias = format == Float8::kE4M3 ? 7 : 15;
    const std::size_t finite = format == Float8::kE4M3 ? 127 : 124;
    for (std::size_t i = 0; i < finite; ++i) {
      const int exponent = static_cast<int>(i) >> mantissa;
      const int fraction = static_cast<int>(i) & ((1 << mantissa) - 1);
      const double exact = exponent == 0
                               ? std::ldexp(fraction, 1 - bias - mantissa)
                               : std::ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
      Near("fp8 decode", i, values[i], exact, 0);
      Near("fp8 decode", i, values[i + 128], -exact, 0);
      Near("fp8 encode", i, again[i], codes[i], 0);
    }
    Check(std::isnan(values[127]), "fp8 NaN", 127, values[127], NAN);
  }
}

void TestPenalties() {
  float logits[4] = {2, -2, 1, 4};
  const std::int64_t prompt[] = {0, 1, 9, -1}, output[] = {3, 3, 1};
  std::vector<std::uint32_t> counts(4, 0);
  ApplyPenalties(logits, 4, prompt, 4, output, 3, {2.0f, 0.5f, 0.25f}, counts.data());
  const float wanted[4] = {1, -4.75f, 1, 1};
  for (std::size_t i = 0; i < 4; ++i) {
    Near("penalties", i, logits[i], wanted[i], 0);
    Near("penalties' counts", i, counts[i], 0, 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  AskForTiles();
  std::size_t count;
  const Tier* tiers = Tiers(&count);
  if (argc > 1 && std::strcmp(argv[1], "--best") == 0) {
    std::printf("%s\n", BestTier().name);
    return 0;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (!tiers[i].supported) continue;
    const Kernels& kernels = *tiers[i].kernels;
    g_tier = kernels.name;
    if (argc > 1 && std::strcmp(argv[1], "--tiers") == 0) {
      std::printf("%s\n", g_tier);
      continue;
    }
    Random random;
    TestSoftmax(kernels, random);
    TestDivergence(kernels, random);
    TestFilter(kernels, random);
    TestSimilarity(kernels, random);
    TestRows(kernels, random);
    for (const int bits : {4, 8}) {
      TestPacked(kernels, random, bits, 9, false);
      TestPacked(kernels, random, bits, 35, TilesAllowed());
    }
    TestDense(kernels, random);
    TestEncoder(kernels, random);
    TestFp8(kernels);
    std::printf("%-10s done\n", g_tier);
  }
  TestPenalties();
  if (g_failures > 0) std::printf("%d failures\n", g_failures);
  return g_failures > 0 ? 1 : 0;
}
