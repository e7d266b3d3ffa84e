// The C structures of DLPack 1.x, as the specification lays them out (dmlc.github.io/dlpack).

#ifndef LIVEMIND_KERNELS_NATIVE_DLPACK_H_
#define LIVEMIND_KERNELS_NATIVE_DLPACK_H_

#include <cstdint>

namespace livemind {

struct DLTensor {
  void* data;
  struct {
    std::int32_t type, id;
  } device;
  std::int32_t ndim;
  struct {
    std::uint8_t code, bits;
    std::uint16_t lanes;
  } dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // may be null: C-contiguous
  std::uint64_t byte_offset;
};

constexpr std::int32_t kDLCpu = 1;
enum DLCode : std::uint8_t {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLBfloat = 4,
  kDLFloat8E4M3Fn = 10,
  kDLFloat8E5M2 = 12,
};

// Behind the attribute `__dlpack_c_exchange_api__` of a tensor's type: a view without a capsule.
struct DLExchange {
  std::uint32_t major, minor;
  void* previous;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*view)(void* object, DLTensor* out);
  void* stream;
};

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_DLPACK_H_
