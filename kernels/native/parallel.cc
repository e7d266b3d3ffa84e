#include "parallel.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>

namespace livemind {
namespace {

struct OpenMp {
  // libgomp's entry for a parallel region, which other runtimes offer as well
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*most)();
  int (*number)();
  int (*team)();
};

template <typename Function>
bool Find(const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return *function != nullptr;
}

// Null as long as there is none: torch may be imported later.
const OpenMp* Runtime() {
  static OpenMp found;
  static std::atomic<bool> ready{false};
  if (!ready.load(std::memory_order_acquire)) {
    OpenMp now;
    if (!Find("GOMP_parallel", &now.parallel) || !Find("omp_get_max_threads", &now.most) ||
        !Find("omp_get_thread_num", &now.number) || !Find("omp_get_num_threads", &now.team)) {
      return nullptr;
    }
    static std::atomic_flag written = ATOMIC_FLAG_INIT;
    if (written.test_and_set()) return nullptr;  // another thread is about to be ready
    found = now;
    ready.store(true, std::memory_order_release);
  }
  return &found;
}

struct Region {
  std::size_t parts;
  void (*body)(void*, std::size_t);
  void* data;
  const OpenMp* runtime;
};

void RunRegion(void* at) {
  const Region& region = *static_cast<Region*>(at);
  const auto first = static_cast<std::size_t>(region.runtime->number());
  const auto team = static_cast<std::size_t>(region.runtime->team());
  for (std::size_t part = first; part < region.parts; part += team) region.body(region.data, part);
}

}  // namespace

std::size_t Parts(double nanoseconds, std::size_t n, double worth) {
  if (nanoseconds < worth || n < 2) return 1;
  const OpenMp* runtime = Runtime();
  const int threads = runtime == nullptr ? 1 : runtime->most();
  return std::min(n, static_cast<std::size_t>(std::max(threads, 1)));
}

void RunParts(std::size_t parts, void (*body)(void*, std::size_t), void* data) {
  const OpenMp* runtime = Runtime();
  if (runtime == nullptr) {
    for (std::size_t part = 0; part < parts; ++part) body(data, part);
    return;
  }
  Region region{parts, body, data, runtime};
  runtime->parallel(&RunRegion, &region, static_cast<unsigned>(parts), 0);
}

}  // namespace livemind
