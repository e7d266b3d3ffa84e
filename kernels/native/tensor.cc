#include "tensor.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "dlpack.h"

namespace livemind {
namespace {

std::string Named(const Tensor& tensor) { return std::string(tensor.name); }

const char* kNames[] = {"float32", "bfloat16", "float16",     "int8",       "uint8",
                        "int32",   "int64",    "float8_e4m3", "float8_e5m2"};

void SetFromArray(Tensor& tensor, const py::array& array) {
  const py::dtype dtype = array.dtype();
  const char kind = dtype.kind();
  const auto size = dtype.itemsize();
  const bool native = dtype.byteorder() == '=' || dtype.byteorder() == '|';
  tensor.kind = Kind::kOther;
  if (native && kind == 'f' && size == 4) tensor.kind = Kind::kF32;
  if (native && kind == 'f' && size == 2) tensor.kind = Kind::kF16;
  if (native && kind == 'u' && size == 2) tensor.kind = Kind::kBF16;  // NumPy has no bfloat16
  if (kind == 'i' && size == 1) tensor.kind = Kind::kI8;
  if (kind == 'u' && size == 1) tensor.kind = Kind::kU8;
  if (native && kind == 'i' && size == 4) tensor.kind = Kind::kI32;
  if (native && kind == 'i' && size == 8) tensor.kind = Kind::kI64;
  if (tensor.kind == Kind::kOther) {
    tensor.dtype = py::str(py::object(dtype));
    tensor.ndim = static_cast<int>(array.ndim());
    return;
  }
  tensor.data = const_cast<void*>(array.data());
  tensor.writable = array.writeable();
  tensor.ndim = static_cast<int>(array.ndim());
  for (int axis = 0; axis < tensor.ndim && axis < 4; ++axis) {
    tensor.shape[axis] = array.shape(axis);
    const auto stride = array.strides(axis);
    // bytes that are no whole number of elements: marked so that it gets copied
    tensor.strides[axis] = stride % size == 0 ? stride / size : -1;
    if (stride % size != 0) tensor.data = nullptr;
  }
}

void SetFromDLPack(Tensor& tensor, const DLTensor& view) {
  if (view.device.type != kDLCpu) {
    throw py::value_error(Named(tensor) + " must be in the memory of the CPU, got DLPack device " +
                          std::to_string(view.device.type));
  }
  tensor.kind = Kind::kOther;
  const int code = view.dtype.code, bits = view.dtype.bits;
  if (view.dtype.lanes == 1) {
    if (code == kDLFloat && bits == 32) tensor.kind = Kind::kF32;
    if (code == kDLFloat && bits == 16) tensor.kind = Kind::kF16;
    if (code == kDLBfloat && bits == 16) tensor.kind = Kind::kBF16;
    if (code == kDLInt && bits == 8) tensor.kind = Kind::kI8;
    if (code == kDLUInt && bits == 8) tensor.kind = Kind::kU8;
    if (code == kDLInt && bits == 32) tensor.kind = Kind::kI32;
    if (code == kDLInt && bits == 64) tensor.kind = Kind::kI64;
    if (code == kDLFloat8E4M3Fn && bits == 8) tensor.kind = Kind::kF8E4M3;
    if (code == kDLFloat8E5M2 && bits == 8) tensor.kind = Kind::kF8E5M2;
  }
  if (tensor.kind == Kind::kOther) {
    const char* family = code == kDLInt     ? "int"
                         : code == kDLUInt  ? "uint"
                         : code == kDLFloat ? "float"
                                            : "DLPack type ";
    tensor.dtype = family + (code <= kDLFloat ? std::to_string(bits) : std::to_string(code));
    tensor.ndim = view.ndim;
    return;
  }
  tensor.data = static_cast<char*>(view.data) + view.byte_offset;
  tensor.ndim = view.ndim;
  std::int64_t dense = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    if (axis < 4) {
      tensor.shape[axis] = view.shape[axis];
      tensor.strides[axis] = view.strides != nullptr ? view.strides[axis] : dense;
    }
    dense *= view.shape[axis];
  }
}

// The exchange table of a type, null where it has none. Types live as long as the process here:
// a reference is kept, so that an address never comes to mean another type.
const DLExchange* ExchangeOf(PyTypeObject* type) {
  struct Known {
    PyTypeObject* type;
    const DLExchange* exchange;
  };
  static Known known[8];
  static std::size_t count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (known[i].type == type) return known[i].exchange;
  }
  const DLExchange* exchange = nullptr;
  const auto attribute = py::reinterpret_steal<py::object>(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__"));
  if (!attribute) {
    PyErr_Clear();
  } else if (PyCapsule_IsValid(attribute.ptr(), "dlpack_exchange_api")) {
    exchange = static_cast<const DLExchange*>(
        PyCapsule_GetPointer(attribute.ptr(), "dlpack_exchange_api"));
    if (exchange->major != 1) exchange = nullptr;
  }
  if (count < sizeof(known) / sizeof(known[0])) {
    Py_INCREF(type);
    known[count++] = {type, exchange};
  }
  return exchange;
}

[[noreturn]] void Refuse(const Tensor& tensor) {
  py::error_already_set error;
  throw py::value_error(Named(tensor) +
                        " cannot be read through DLPack: " + std::string(py::str(error.value())));
}

void Set(Tensor& tensor, const py::handle& value) {
  if (py::isinstance<py::array>(value)) {
    return SetFromArray(tensor, py::reinterpret_borrow<py::array>(value));
  }
  if (const DLExchange* exchange = ExchangeOf(Py_TYPE(value.ptr()))) {
    DLTensor view{};
    if (exchange->view(value.ptr(), &view) != 0) Refuse(tensor);
    return SetFromDLPack(tensor, view);
  }
  if (PyType_Check(value.ptr()) || !py::hasattr(value, "__dlpack__")) {
    throw py::type_error(Named(tensor) + " must be an array, got " + TypeName(value));
  }
  const auto capsule =
      py::reinterpret_steal<py::object>(PyObject_CallMethod(value.ptr(), "__dlpack__", nullptr));
  if (!capsule) Refuse(tensor);
  if (!PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    throw py::type_error(Named(tensor) + " must be an array, got a " + TypeName(value) +
                         " whose __dlpack__ gives no capsule");
  }
  // The capsule stays unconsumed: its destructor gives the memory back when the call is over.
  tensor.owner = capsule;
  SetFromDLPack(tensor,
                *static_cast<const DLTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor")));
}

void RequireKind(const Tensor& tensor, std::initializer_list<Kind> kinds) {
  for (const Kind kind : kinds) {
    if (kind == tensor.kind) return;
  }
  std::string allowed;
  std::size_t left = kinds.size();
  for (const Kind kind : kinds) {
    allowed += KindName(kind);
    if (--left > 0) allowed += left == 1 ? " or " : ", ";
  }
  throw py::type_error(Named(tensor) + " must be " + allowed + ", got " +
                       (tensor.kind == Kind::kOther ? tensor.dtype : KindName(tensor.kind)));
}

void RequireDimensions(const Tensor& tensor, int least, int most) {
  if (tensor.ndim >= least && tensor.ndim <= most) return;
  std::string wanted = std::to_string(least);
  if (most != least) wanted += " to " + std::to_string(most);
  throw py::value_error(Named(tensor) + " must have " + wanted + " dimensions, got " +
                        std::to_string(tensor.ndim));
}

bool IsDense(const Tensor& tensor) {
  if (tensor.data == nullptr) return false;
  const int last = tensor.ndim - 1;
  if (tensor.shape[last] > 1 && tensor.strides[last] != 1) return false;
  return reinterpret_cast<std::uintptr_t>(tensor.data) %
             static_cast<std::uintptr_t>(tensor.ItemSize()) ==
         0;
}

bool IsEmpty(const Tensor& tensor) {
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] == 0) return true;
  }
  return false;
}

// First and one past the last byte.
void Span(const Tensor& tensor, std::uintptr_t* first, std::uintptr_t* last) {
  std::int64_t low = 0, high = 0;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    const std::int64_t reach = (tensor.shape[axis] - 1) * tensor.strides[axis];
    (reach < 0 ? low : high) += reach;
  }
  const auto at = reinterpret_cast<std::uintptr_t>(tensor.data);
  *first = at + static_cast<std::uintptr_t>(low * tensor.ItemSize());
  *last = at + static_cast<std::uintptr_t>((high + 1) * tensor.ItemSize());
}

const Kernels* g_active = nullptr;

}  // namespace

const char* KindName(Kind kind) {
  return kind == Kind::kOther ? "another type" : kNames[static_cast<int>(kind)];
}

std::string TypeName(const py::handle& value) {
  return py::str(py::type::handle_of(value).attr("__name__"));
}

std::int64_t Tensor::ItemSize() const {
  switch (kind) {
    case Kind::kI64:
      return 8;
    case Kind::kF32:
    case Kind::kI32:
      return 4;
    case Kind::kBF16:
    case Kind::kF16:
      return 2;
    default:
      return 1;
  }
}

Tensor Input(const char* name, const py::handle& value, std::initializer_list<Kind> kinds,
             int least_ndim, int most_ndim) {
  Tensor tensor;
  tensor.name = name;
  Set(tensor, value);
  RequireKind(tensor, kinds);
  RequireDimensions(tensor, least_ndim, most_ndim);
  if (IsEmpty(tensor) || IsDense(tensor)) return tensor;
  py::object copy;
  if (py::isinstance<py::array>(value)) {
    copy = value.attr("copy")("C");
  } else if (py::hasattr(value, "contiguous")) {
    copy = value.attr("clone")().attr("contiguous")();
  } else {
    throw py::value_error(std::string(name) + " must be contiguous along its last axis");
  }
  Tensor dense;
  dense.name = name;
  Set(dense, copy);
  dense.owner = py::make_tuple(copy, dense.owner ? dense.owner : py::none());
  return dense;
}

Tensor Output(const char* name, const py::handle& value, std::initializer_list<Kind> kinds,
              int least_ndim, int most_ndim) {
  Tensor tensor;
  tensor.name = name;
  Set(tensor, value);
  RequireKind(tensor, kinds);
  RequireDimensions(tensor, least_ndim, most_ndim);
  if (!tensor.writable) throw py::value_error(std::string(name) + " is read-only");
  if (!IsEmpty(tensor) && !IsDense(tensor)) {
    throw py::value_error(std::string(name) +
                          " must be aligned and contiguous along its last axis");
  }
  for (int axis = 0; axis < tensor.ndim - 1; ++axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] < tensor.columns()) {
      throw py::value_error(std::string(name) + " has rows that overlap");
    }
  }
  return tensor;
}

py::array NewArray(Kind kind, std::initializer_list<std::int64_t> shape) {
  const std::vector<py::ssize_t> sizes(shape.begin(), shape.end());
  switch (kind) {
    case Kind::kF32:
      return py::array(py::dtype::of<float>(), sizes);
    case Kind::kBF16:
      return py::array(py::dtype::of<std::uint16_t>(), sizes);
    case Kind::kF16:
      return py::array(py::dtype("float16"), sizes);
    case Kind::kI8:
      return py::array(py::dtype::of<std::int8_t>(), sizes);
    case Kind::kI64:
      return py::array(py::dtype::of<std::int64_t>(), sizes);
    default:
      return py::array(py::dtype::of<std::uint8_t>(), sizes);
  }
}

void RequireShape(const Tensor& tensor, std::initializer_list<std::int64_t> shape) {
  bool same = tensor.ndim == static_cast<int>(shape.size());
  std::string wanted, got;
  int axis = 0;
  for (const std::int64_t size : shape) {
    same = same && axis < tensor.ndim && tensor.shape[axis] == size;
    wanted += (axis++ > 0 ? ", " : "") + std::to_string(size);
  }
  if (same) return;
  for (axis = 0; axis < tensor.ndim; ++axis) {
    got += (axis > 0 ? ", " : "") + std::to_string(tensor.shape[axis]);
  }
  throw py::value_error(Named(tensor) + " must have shape (" + wanted + "), got (" + got + ")");
}

Tensor OutputLike(const char* name, const py::object& value, Kind kind,
                  std::initializer_list<std::int64_t> shape, py::object* result) {
  *result = value.is_none() ? py::object(NewArray(kind, shape)) : value;
  Tensor tensor = Output(name, *result, {kind}, 1, 4);
  RequireShape(tensor, shape);
  return tensor;
}

void RequireApart(const Tensor& written, const Tensor& other, bool same_allowed) {
  if (IsEmpty(written) || IsEmpty(other)) return;
  std::uintptr_t a, a_end, b, b_end;
  Span(written, &a, &a_end);
  Span(other, &b, &b_end);
  if (a_end <= b || b_end <= a) return;
  if (same_allowed && written.data == other.data && written.stride() == other.stride() &&
      written.kind == other.kind) {
    return;
  }
  throw py::value_error(Named(written) + " and " + Named(other) + " share memory");
}

std::int64_t Integer(const char* name, const py::handle& value) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) {
    throw py::type_error(std::string(name) + " must be an integer, got " + TypeName(value));
  }
  const py::ssize_t found = PyNumber_AsSsize_t(value.ptr(), nullptr);  // clips what does not fit
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return found;
}

void* Scratch(std::size_t bytes) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static thread_local std::unique_ptr<void, Free> memory;
  static thread_local std::size_t size = 0;
  if (size < bytes) {
    memory.reset();
    size = 0;
    const std::size_t wanted = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    memory.reset(std::aligned_alloc(64, wanted));
    if (!memory) throw std::bad_alloc();
    size = wanted;
  }
  return memory.get();
}

const Kernels& Active() { return *g_active; }
void Activate(const Kernels& kernels) { g_active = &kernels; }

}  // namespace livemind
