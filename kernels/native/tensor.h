// An argument of a kernel, seen without copying: NumPy array, torch tensor or anything with DLPack.
//
// Everything that can be wrong with an argument is found here and in the functions below, and
// raised as TypeError or ValueError beginning with the argument's name.

#ifndef LIVEMIND_KERNELS_NATIVE_TENSOR_H_
#define LIVEMIND_KERNELS_NATIVE_TENSOR_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels.h"

namespace livemind {

namespace py = pybind11;

enum class Kind : std::uint8_t {
  kF32,
  kBF16,
  kF16,
  kI8,
  kU8,
  kI32,
  kI64,
  kF8E4M3,
  kF8E5M2,
  kOther
};

const char* KindName(Kind kind);

// Valid while the caller holds the object it was taken from.
struct Tensor {
  const char* name = "";
  void* data = nullptr;
  Kind kind = Kind::kOther;
  std::string dtype;  // as the owner calls it; only for kOther
  int ndim = 0;
  std::int64_t shape[4] = {};
  std::int64_t strides[4] = {};  // in elements
  bool writable = true;
  py::object owner;  // of a copy, or of a DLPack capsule

  std::int64_t ItemSize() const;
  Type type() const { return static_cast<Type>(kind); }  // of kF32, kBF16, kF16
  template <typename T>
  T* As() const {
    return static_cast<T*>(data);
  }
  // As rows of the last axis: of a 1-D tensor one row.
  std::int64_t rows() const { return ndim == 1 ? 1 : shape[0]; }
  std::int64_t columns() const { return shape[ndim - 1]; }
  std::ptrdiff_t stride() const { return ndim == 1 || shape[0] < 2 ? columns() : strides[0]; }
};

// A tensor to read: the last axis contiguous and aligned, by a copy where it is not.
Tensor Input(const char* name, const py::handle& value, std::initializer_list<Kind> kinds,
             int least_ndim, int most_ndim);

// A tensor to write: refused unless writable, aligned and contiguous along the last axis.
Tensor Output(const char* name, const py::handle& value, std::initializer_list<Kind> kinds,
              int least_ndim, int most_ndim);

// A fresh NumPy array to return, and its view. bfloat16 is uint16 to NumPy.
py::array NewArray(Kind kind, std::initializer_list<std::int64_t> shape);

// `out` as given, checked to have this kind and shape; or a new array where it is None.
Tensor OutputLike(const char* name, const py::object& value, Kind kind,
                  std::initializer_list<std::int64_t> shape, py::object* result);

void RequireShape(const Tensor& tensor, std::initializer_list<std::int64_t> shape);

// Refuses memory in common; with `same_allowed` the very same rows are fine.
void RequireApart(const Tensor& written, const Tensor& other, bool same_allowed);

std::string TypeName(const py::handle& value);

// The integer behind a Python object; refuses booleans and what is no integer.
std::int64_t Integer(const char* name, const py::handle& value);

// Runs `work` without the GIL when it takes longer than handing the GIL over: above about 20 us.
template <typename Work>
void Run(double nanoseconds, Work work) {
  if (nanoseconds <= 20000.0) return work();
  const py::gil_scoped_release release;
  work();
}

// At least `bytes` of this thread's memory, 64-byte aligned, until its next call.
void* Scratch(std::size_t bytes);

// The table that every call uses.
const Kernels& Active();
void Activate(const Kernels& kernels);

void BindLogits(py::module_& module);
void BindLayers(py::module_& module);
void BindEncoder(py::module_& module);
void BindAcl(py::module_& module);  // defined in builds with Arm Compute Library

}  // namespace livemind

#endif  // LIVEMIND_KERNELS_NATIVE_TENSOR_H_
