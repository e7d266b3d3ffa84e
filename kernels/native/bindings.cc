// Python face of the native kernels: every check of an argument, then pointers and lengths.
//
// Messages are those of kernels/reference.py, word for word.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "similarity.h"

namespace py = pybind11;

namespace {

using Matrix = py::array_t<float, py::array::c_style>;

// Below this many multiplications handing the GIL over costs more than the work.
constexpr py::ssize_t kReleaseGilAbove = 1 << 15;

std::string TypeName(const py::handle& value) {
  return py::str(py::type::handle_of(value).attr("__name__"));
}

// A C-contiguous, aligned float32 matrix: `value` itself or a copy of it.
Matrix CheckedMatrix(const std::string& name, const py::object& value) {
  if (!py::isinstance<py::array>(value)) {
    throw py::type_error(name + " must be a float32 array, got " + TypeName(value));
  }
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (!py::isinstance<py::array_t<float>>(value)) {
    throw py::type_error(name + " must be float32, got " + std::string(py::str(array.dtype())));
  }
  if (array.ndim() != 2) {
    throw py::value_error(name + " must have 2 dimensions, got " + std::to_string(array.ndim()));
  }
  if (array.shape(1) == 0) {
    throw py::value_error(name + " must have rows of at least 1 element, got 0");
  }
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(float) == 0;
  if (aligned && py::isinstance<Matrix>(value)) return py::reinterpret_borrow<Matrix>(value);
  return Matrix(array.attr("copy")("C"));
}

py::ssize_t CheckedK(const py::object& value, py::ssize_t n) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) {
    throw py::type_error("k must be an integer, got " + TypeName(value));
  }
  const py::ssize_t k = PyNumber_AsSsize_t(value.ptr(), nullptr);  // clips what does not fit
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (k < 1 || k > n) {
    throw py::value_error("k must be between 1 and the " + std::to_string(n) +
                          " rows of matrix, got " + std::string(py::str(value)));
  }
  return k;
}

template <typename Work>
livemind::NonFinite Run(py::ssize_t multiplications, Work work) {
  if (multiplications <= kReleaseGilAbove) return work();
  const py::gil_scoped_release release;
  return work();
}

py::tuple CosineTopK(const py::object& queries_like, const py::object& matrix_like,
                     const py::object& k_like) {
  const Matrix queries = CheckedMatrix("queries", queries_like);
  const Matrix matrix = CheckedMatrix("matrix", matrix_like);
  const py::ssize_t q = queries.shape(0);
  const py::ssize_t n = matrix.shape(0);
  const py::ssize_t dim = matrix.shape(1);
  if (queries.shape(1) != dim) {
    throw py::value_error("queries have " + std::to_string(queries.shape(1)) +
                          " dimensions, matrix has " + std::to_string(dim));
  }
  const py::ssize_t k = CheckedK(k_like, n);
  py::array_t<std::int64_t> indices({q, k});
  py::array_t<float> values({q, k});
  const auto bad =
      Run(q * n * dim, [&, query = queries.data(), row = matrix.data(),
                        index = indices.mutable_data(), value = values.mutable_data()] {
        return livemind::CosineTopK(query, static_cast<std::size_t>(q), row,
                                    static_cast<std::size_t>(n), static_cast<std::size_t>(dim),
                                    static_cast<std::size_t>(k), index, value);
      });
  if (bad.found) {
    throw py::value_error("similarity of query " + std::to_string(bad.query) + " and matrix row " +
                          std::to_string(bad.row) + " is not finite");
  }
  return py::make_tuple(std::move(indices), std::move(values));
}

py::array_t<float> PairwiseCosine(const py::object& rows_like) {
  const Matrix rows = CheckedMatrix("rows", rows_like);
  const py::ssize_t n = rows.shape(0);
  const py::ssize_t dim = rows.shape(1);
  py::array_t<float> cosines({n, n});
  const auto bad = Run(n * n * dim, [n, dim, row = rows.data(), cosine = cosines.mutable_data()] {
    return livemind::PairwiseCosine(row, static_cast<std::size_t>(n), static_cast<std::size_t>(dim),
                                    cosine);
  });
  if (bad.found) throw py::value_error("rows row " + std::to_string(bad.row) + " is not finite");
  return cosines;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Native kernels; kernels/reference.py says what each means.";
  module.def("cosine_top_k", &CosineTopK, py::arg("queries"), py::arg("matrix"), py::arg("k"),
             "Return the k most similar rows for each query; see reference.cosine_top_k.");
  module.def("pairwise_cosine", &PairwiseCosine, py::arg("rows"),
             "Return the cosine of every row with every row; see reference.pairwise_cosine.");
}
