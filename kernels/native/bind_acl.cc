// Arm Compute Library's float32 GEMM, in builds with -DLIVEMIND_ACL_ROOT alone.

#include <arm_compute/core/Types.h>
#include <arm_compute/runtime/NEON/functions/NEGEMM.h>
#include <arm_compute/runtime/Scheduler.h>
#include <arm_compute/runtime/Tensor.h>

#include <string>

#include "tensor.h"

namespace livemind {
namespace {

namespace acl = arm_compute;

// A tensor of the library over memory of ours; rows may lie apart.
void Describe(acl::Tensor& tensor, const Tensor& of) {
  const auto row = static_cast<std::size_t>(of.stride()) * sizeof(float);
  const acl::TensorShape shape(static_cast<std::size_t>(of.columns()),
                               static_cast<std::size_t>(of.rows()));
  acl::TensorInfo info;
  info.init(shape, 1, acl::DataType::F32, acl::Strides(sizeof(float), row), 0,
            row * static_cast<std::size_t>(of.rows()));
  tensor.allocator()->init(info);
}

void Require(const acl::Status& status) {
  if (!status) throw py::value_error("Arm Compute Library: " + status.error_description());
}

py::object AclMatMul(const py::object& a_like, const py::object& b_like,
                     const py::object& out_like) {
  const Tensor a = Input("a", a_like, {Kind::kF32}, 2, 2);
  const Tensor b = Input("b", b_like, {Kind::kF32}, 2, 2);
  if (a.shape[1] != b.shape[0] || a.shape[1] == 0) {
    throw py::value_error("a has " + std::to_string(a.shape[1]) + " columns, b has " +
                          std::to_string(b.shape[0]) + " rows");
  }
  py::object result;
  const Tensor out = OutputLike("out", out_like, Kind::kF32, {a.shape[0], b.shape[1]}, &result);
  RequireApart(out, a, false);
  RequireApart(out, b, false);
  if (a.shape[0] == 0 || b.shape[1] == 0) return result;
  acl::Tensor left, right, product;
  Describe(left, a);
  Describe(right, b);
  Describe(product, out);
  Require(acl::NEGEMM::validate(left.info(), right.info(), nullptr, product.info(), 1.0F, 0.0F));
  acl::NEGEMM gemm;
  gemm.configure(&left, &right, nullptr, &product, 1.0F, 0.0F);
  Require(left.allocator()->import_memory(a.data));
  Require(right.allocator()->import_memory(b.data));
  Require(product.allocator()->import_memory(out.data));
  {
    const py::gil_scoped_release release;
    gemm.run();
  }
  return result;
}

}  // namespace

void BindAcl(py::module_& module) {
  acl::Scheduler::get().set_num_threads(1);  // as everything here: no threads of its own
  module.def("acl_matmul", &AclMatMul, py::arg("a"), py::arg("b"), py::arg("out") = py::none());
}

}  // namespace livemind
