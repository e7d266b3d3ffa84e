// Work on several threads: those of the OpenMP runtime that torch has brought into the process.
//
// Nothing is linked and no thread is started here. Without such a runtime, and for work that is
// soon done, everything runs on the calling thread. How many threads there are is torch's setting.

#ifndef LIVEMIND_KERNELS_NATIVE_PARALLEL_H_
#define LIVEMIND_KERNELS_NATIVE_PARALLEL_H_

#include <cstddef>

namespace livemind {

// Into how many parts to split n pieces of work that take one thread this long altogether, if it
// takes longer than `worth`: what waking threads takes, less where they are likely to be awake.
std::size_t Parts(double nanoseconds, std::size_t n, double worth = 100e3);

// Calls body(data, part) once for every part, on up to as many threads; returns when all are done.
void RunParts(std::size_t parts, void (*body)(void*, std::size_t), void* data);

// Calls body(part, first, last) so that the ranges cover [0, n) once. The body must not throw, nor
// touch Python.
template <typename Body>
void Split(std::size_t parts, std::size_t n, Body body) {
  if (parts <= 1) return body(std::size_t{0}, std::size_t{0}, n);
  auto one = [&](std::size_t part) { body(part, n * part / parts, n * (part + 1) / parts); };
  RunParts(
      parts, [](void* data, std::size_t part) { (*static_cast<decltype(one)*>(data))(part); },
      &one);
}

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_PARALLEL_H_
