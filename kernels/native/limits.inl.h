// What the machine can do at best, for benchmarks to measure kernels against; tier.cc.

namespace livemind {
namespace LM_TIER {
namespace {

// Reads n floats once and returns their sum: memory bandwidth where they are in no cache.
double ReadAll(const float* data, size_t n) {
  F sums[8] = {};
  size_t i = 0;
  for (; i + 8 * kW <= n; i += 8 * kW) {
    for (size_t part = 0; part < 8; ++part) {
      __builtin_prefetch(data + i + part * kW + 2048);
      sums[part] += Load(data + i + part * kW);
    }
  }
  double sum = 0.0;
  for (size_t part = 0; part < 8; ++part) sum += Sum(sums[part]);
  for (; i < n; ++i) sum += data[i];
  return sum;
}

// Runs `rounds` times twelve independent multiply-adds in registers; returns the operations, and
// through `result` what came out, so that nothing is optimised away.
double MultiplyAdds(size_t rounds, float* result) {
  F sums[12];  // no two alike: the compiler would make them one
  for (size_t part = 0; part < 12; ++part) sums[part] = Set((float)part);
  F factor = Set(*result), term = Set(*result * 0.5f);
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t part = 0; part < 12; ++part) sums[part] = sums[part] * factor + term;
  }
  F total{};
  for (size_t part = 0; part < 12; ++part) total += sums[part];
  *result = Sum(total);
  return 2.0 * 12.0 * (double)kW * (double)rounds;
}

}  // namespace
}  // namespace LM_TIER
}  // namespace livemind
