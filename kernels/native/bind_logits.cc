// Python face of the kernels over logits and embeddings; kernels/reference says what each means.

#include <vector>

#include "neighbours.h"
#include "parallel.h"
#include "penalties.h"
#include "tensor.h"

namespace livemind {
namespace {

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

void RequireColumns(const Tensor& tensor) {
  if (tensor.columns() == 0) {
    throw py::value_error(std::string(tensor.name) +
                          " must have rows of at least 1 element, got 0");
  }
}

// One number for all rows, or a tensor with one per row; None is `off`.
class PerRow {
 public:
  PerRow(const char* name, const py::object& value, std::int64_t rows, bool whole, double off,
         double least, double most) {
    if (value.is_none()) {
      all_ = off;
      return;
    }
    if (whole ? PyIndex_Check(value.ptr()) && !py::hasattr(value, "shape")
              : PyFloat_Check(value.ptr()) || PyLong_Check(value.ptr())) {
      if (PyBool_Check(value.ptr())) {
        throw py::type_error(std::string(name) + " must be a number, got bool");
      }
      all_ = whole ? static_cast<double>(Integer(name, value)) : PyFloat_AsDouble(value.ptr());
      if (PyErr_Occurred() != nullptr) throw py::error_already_set();
      Require(name, all_, least, most);
      return;
    }
    if (PyFloat_Check(value.ptr())) {
      throw py::type_error(std::string(name) + " must be an integer, got float");
    }
    tensor_ = whole ? Input(name, value, {Kind::kI64, Kind::kI32}, 1, 1)
                    : Input(name, value, {Kind::kF32}, 1, 1);
    RequireShape(tensor_, {rows});
    each_ = true;
    for (std::int64_t row = 0; row < rows; ++row) Require(name, (*this)[row], least, most);
  }

  double operator[](std::int64_t row) const {
    if (!each_) return all_;
    if (tensor_.kind == Kind::kF32) return static_cast<double>(tensor_.As<float>()[row]);
    return tensor_.kind == Kind::kI32 ? tensor_.As<std::int32_t>()[row]
                                      : static_cast<double>(tensor_.As<std::int64_t>()[row]);
  }

 private:
  static void Require(const char* name, double value, double least, double most) {
    if (value >= least && value <= most) return;
    const auto text = [](double number) { return std::string(py::str(py::float_(number))); };
    throw py::value_error(std::string(name) + " must be between " + text(least) + " and " +
                          text(most) + ", got " + text(value));
  }

  Tensor tensor_;
  bool each_ = false;
  double all_ = 0.0;
};

constexpr double kHuge = 9e15;

py::array FilterLogits(const py::object& logits_like, const py::object& top_k,
                       const py::object& top_p, const py::object& min_p) {
  const Tensor logits = Output("logits", logits_like, {Kind::kF32}, 2, 2);
  RequireColumns(logits);
  const std::int64_t rows = logits.rows();
  const PerRow k("top_k", top_k, rows, true, kHuge, 1.0, kHuge);
  const PerRow p("top_p", top_p, rows, false, 1.0, 0.0, 1.0);
  const PerRow least("min_p", min_p, rows, false, 0.0, 0.0, 1.0);
  py::array_t<std::int64_t> kept(rows);
  const std::size_t n = Size(logits.columns());
  const double work = static_cast<double>(rows) * static_cast<double>(n) * 0.3;
  Run(work, [&, counts = kept.mutable_data()] {
    const std::size_t parts = Parts(work, Size(rows));
    const std::size_t each = (FilterScratch(n) + 15) / 16 * 16;
    float* scratch = static_cast<float*>(Scratch(parts * each * sizeof(float)));
    Split(parts, Size(rows), [&](std::size_t part, std::size_t first, std::size_t last) {
      for (auto row = static_cast<std::int64_t>(first); row < static_cast<std::int64_t>(last);
           ++row) {
        const Cut cut{static_cast<std::int64_t>(k[row]), static_cast<float>(p[row]),
                      static_cast<float>(least[row])};
        counts[row] = Active().filter(logits.As<float>() + row * logits.stride(), n, cut,
                                      scratch + part * each);
      }
    });
  });
  return kept;
}

py::object SoftmaxOf(const py::object& x_like, const py::object& out_like, bool log) {
  const Tensor x = Input("x", x_like, {Kind::kF32}, 1, 2);
  RequireColumns(x);
  py::object result;
  const Tensor out =
      x.ndim == 1 ? OutputLike("out", out_like, Kind::kF32, {x.shape[0]}, &result)
                  : OutputLike("out", out_like, Kind::kF32, {x.shape[0], x.shape[1]}, &result);
  RequireApart(out, x, true);
  Run(static_cast<double>(x.rows() * x.columns()) * 0.4, [&] {
    Active().softmax({x.As<float>(), x.stride()}, {out.As<float>(), out.stride()}, Size(x.rows()),
                     Size(x.columns()), log);
  });
  return result;
}

void ApplyPenaltiesTo(const py::object& logits_like, const py::object& prompt_like,
                      const py::object& output_like, const py::object& repetition,
                      const py::object& presence, const py::object& frequency) {
  const Tensor logits = Output("logits", logits_like, {Kind::kF32}, 2, 2);
  const Tensor prompt = Input("prompt_ids", prompt_like, {Kind::kI64}, 2, 2);
  const Tensor output = Input("output_ids", output_like, {Kind::kI64}, 2, 2);
  const std::int64_t rows = logits.rows();
  RequireShape(prompt, {rows, prompt.columns()});
  RequireShape(output, {rows, output.columns()});
  const PerRow repeated("repetition", repetition, rows, false, 1.0, 1e-6, 1e6);
  const PerRow present("presence", presence, rows, false, 0.0, -1e6, 1e6);
  const PerRow frequent("frequency", frequency, rows, false, 0.0, -1e6, 1e6);
  const std::size_t n = Size(logits.columns());
  const std::int64_t seen = prompt.columns() + output.columns();
  Run(static_cast<double>(rows * seen) * 8.0, [&] {
    static thread_local std::vector<std::uint32_t> counts;
    if (counts.size() < n) counts.resize(n, 0);
    for (std::int64_t row = 0; row < rows; ++row) {
      ApplyPenalties(logits.As<float>() + row * logits.stride(), n,
                     prompt.As<std::int64_t>() + row * prompt.stride(), Size(prompt.columns()),
                     output.As<std::int64_t>() + row * output.stride(), Size(output.columns()),
                     {static_cast<float>(repeated[row]), static_cast<float>(present[row]),
                      static_cast<float>(frequent[row])},
                     counts.data());
    }
  });
}

py::array EntropyOf(const py::object& logits_like) {
  const Tensor logits = Input("logits", logits_like, {Kind::kF32}, 2, 2);
  RequireColumns(logits);
  py::array_t<double> result(logits.rows());
  Run(static_cast<double>(logits.rows() * logits.columns()) * 0.4, [&, to = result.mutable_data()] {
    Active().entropy({logits.As<float>(), logits.stride()}, to, Size(logits.rows()),
                     Size(logits.columns()));
  });
  return result;
}

py::array Divergence(const py::object& p_like, const py::object& q_like, bool symmetric) {
  const Tensor p = Input("p_logits", p_like, {Kind::kF32}, 2, 2);
  const Tensor q = Input("q_logits", q_like, {Kind::kF32}, 2, 2);
  RequireColumns(p);
  RequireShape(q, {p.shape[0], p.shape[1]});
  py::array_t<double> result(p.rows());
  Run(static_cast<double>(p.rows() * p.columns()) * 0.6, [&, to = result.mutable_data()] {
    const auto kernel = symmetric ? Active().js : Active().kl;
    kernel({p.As<float>(), p.stride()}, {q.As<float>(), q.stride()}, to, Size(p.rows()),
           Size(p.columns()));
  });
  return result;
}

std::int64_t CheckedK(const py::object& value, std::int64_t n) {
  const std::int64_t k = Integer("k", value);
  if (k < 1 || k > n) {
    throw py::value_error("k must be between 1 and the " + std::to_string(n) +
                          " rows of matrix, got " + std::string(py::str(value)));
  }
  return k;
}

py::tuple CosineTopK(const py::object& queries_like, const py::object& matrix_like,
                     const py::object& k_like, const py::object& scales_like) {
  const Tensor queries = Input("queries", queries_like, {Kind::kF32}, 2, 2);
  const Tensor matrix =
      Input("matrix", matrix_like, {Kind::kF32, Kind::kBF16, Kind::kF16, Kind::kI8}, 2, 2);
  RequireColumns(queries);
  RequireColumns(matrix);
  const std::int64_t q = queries.shape[0], n = matrix.shape[0], dim = matrix.shape[1];
  if (queries.shape[1] != dim) {
    throw py::value_error("queries have " + std::to_string(queries.shape[1]) +
                          " dimensions, matrix has " + std::to_string(dim));
  }
  const std::int64_t k = CheckedK(k_like, n);
  const bool int8 = matrix.kind == Kind::kI8;
  if (int8 == scales_like.is_none()) {
    throw py::value_error(int8 ? "scales must be given for an int8 matrix"
                               : "scales belong to an int8 matrix only");
  }
  if (int8 && dim > 100000) {
    throw py::value_error("matrix of int8 must have at most 100000 dimensions, got " +
                          std::to_string(dim));
  }
  Tensor scales;
  if (int8) {
    scales = Input("scales", scales_like, {Kind::kF32}, 1, 1);
    RequireShape(scales, {n});
  }
  py::array_t<std::int64_t> indices({q, k});
  py::array_t<float> values({q, k});
  const Matrix rows{matrix.data,
                    matrix.stride(),
                    Size(n),
                    Size(dim),
                    int8,
                    int8 ? Type::kF32 : matrix.type(),
                    scales.As<float>()};
  NonFinite bad;
  Run(static_cast<double>(q * n * dim) * 0.05,
      [&, index = indices.mutable_data(), value = values.mutable_data()] {
        bad = TopK(Active(), queries.As<float>(), queries.stride(), Size(q), rows, Size(k), index,
                   value);
      });
  if (bad.found) {
    throw py::value_error("similarity of query " + std::to_string(bad.query) + " and matrix row " +
                          std::to_string(bad.row) + " is not finite");
  }
  return py::make_tuple(std::move(indices), std::move(values));
}

py::array_t<float> PairwiseCosineOf(const py::object& rows_like) {
  const Tensor rows = Input("rows", rows_like, {Kind::kF32}, 2, 2);
  RequireColumns(rows);
  const std::int64_t n = rows.shape[0], dim = rows.shape[1];
  py::array_t<float> cosines({n, n});
  NonFinite bad;
  Run(static_cast<double>(n * n * dim) * 0.1, [&, cosine = cosines.mutable_data()] {
    bad = PairwiseCosine(Active(), rows.As<float>(), rows.stride(), Size(n), Size(dim), cosine);
  });
  if (bad.found) throw py::value_error("rows row " + std::to_string(bad.row) + " is not finite");
  return cosines;
}

py::tuple QuantizeRowsOf(const py::object& rows_like) {
  const Tensor rows = Input("rows", rows_like, {Kind::kF32}, 2, 2);
  RequireColumns(rows);
  py::array_t<std::int8_t> codes({rows.shape[0], rows.shape[1]});
  py::array_t<float> scales(rows.shape[0]);
  NonFinite bad;
  Run(static_cast<double>(rows.rows() * rows.columns()),
      [&, code = codes.mutable_data(), scale = scales.mutable_data()] {
        bad = QuantizeRows(rows.As<float>(), rows.stride(), Size(rows.rows()), Size(rows.columns()),
                           code, scale);
      });
  if (bad.found) throw py::value_error("rows row " + std::to_string(bad.row) + " is not finite");
  return py::make_tuple(std::move(codes), std::move(scales));
}

}  // namespace

void BindLogits(py::module_& module) {
  using py::arg;
  const py::none none;
  module.def("filter_logits", &FilterLogits, arg("logits"), arg("top_k") = none,
             arg("top_p") = none, arg("min_p") = none);
  module.def(
      "softmax",
      [](const py::object& x, const py::object& out) { return SoftmaxOf(x, out, false); }, arg("x"),
      arg("out") = none);
  module.def(
      "log_softmax",
      [](const py::object& x, const py::object& out) { return SoftmaxOf(x, out, true); }, arg("x"),
      arg("out") = none);
  module.def("apply_penalties", &ApplyPenaltiesTo, arg("logits"), arg("prompt_ids"),
             arg("output_ids"), arg("repetition") = none, arg("presence") = none,
             arg("frequency") = none);
  module.def("entropy", &EntropyOf, arg("logits"));
  module.def(
      "kl_divergence",
      [](const py::object& p, const py::object& q) { return Divergence(p, q, false); },
      arg("p_logits"), arg("q_logits"));
  module.def(
      "js_divergence",
      [](const py::object& p, const py::object& q) { return Divergence(p, q, true); },
      arg("p_logits"), arg("q_logits"));
  module.def("cosine_top_k", &CosineTopK, arg("queries"), arg("matrix"), arg("k"),
             arg("scales") = none);
  module.def("pairwise_cosine", &PairwiseCosineOf, arg("rows"));
  module.def("quantize_rows", &QuantizeRowsOf, arg("rows"));
}

}  // namespace livemind
