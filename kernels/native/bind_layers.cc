// Python face of the kernels inside a transformer; kernels/reference says what each means.

#include <algorithm>
#include <cmath>
#include <limits>

#include "isa.h"
#include "parallel.h"
#include "tensor.h"

namespace livemind {
namespace {

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

std::int64_t g_flash_threshold = std::numeric_limits<std::int64_t>::max();
std::int64_t FlashThreshold() { return g_flash_threshold; }

constexpr std::initializer_list<Kind> kFloats = {Kind::kF32, Kind::kBF16, Kind::kF16};

float Epsilon(double value) {
  if (value >= 0.0 && value < 1e30) return static_cast<float>(value);
  throw py::value_error("epsilon must be 0 or more and finite, got " +
                        std::string(py::str(py::float_(value))));
}

py::object RmsNorm(const py::object& x_like, const py::object& weight_like, double epsilon,
                   const py::object& out_like) {
  const Tensor x = Input("x", x_like, kFloats, 2, 2);
  const Tensor weight = Input("weight", weight_like, {x.kind}, 1, 1);
  RequireShape(weight, {x.columns()});
  py::object result;
  const Tensor out = OutputLike("out", out_like, x.kind, {x.shape[0], x.shape[1]}, &result);
  RequireApart(out, x, true);
  RequireApart(out, weight, false);
  const float least = Epsilon(epsilon);
  if (x.columns() > 0) {
    Run(static_cast<double>(x.rows() * x.columns()) * 0.15, [&] {
      Active().rms_norm(x.type(), {x.data, x.stride()}, {nullptr, 0}, weight.data,
                        {out.data, out.stride()}, Size(x.rows()), Size(x.columns()), least);
    });
  }
  return result;
}

void FusedAddRmsNorm(const py::object& x_like, const py::object& residual_like,
                     const py::object& weight_like, double epsilon) {
  const Tensor x = Output("x", x_like, kFloats, 2, 2);
  const Tensor residual = Output("residual", residual_like, {x.kind}, 2, 2);
  RequireShape(residual, {x.shape[0], x.shape[1]});
  const Tensor weight = Input("weight", weight_like, {x.kind}, 1, 1);
  RequireShape(weight, {x.columns()});
  RequireApart(residual, x, false);
  RequireApart(x, weight, false);
  RequireApart(residual, weight, false);
  const float least = Epsilon(epsilon);
  if (x.columns() == 0) return;
  Run(static_cast<double>(x.rows() * x.columns()) * 0.2, [&] {
    Active().rms_norm(x.type(), {x.data, x.stride()}, {residual.data, residual.stride()},
                      weight.data, {x.data, x.stride()}, Size(x.rows()), Size(x.columns()), least);
  });
}

py::object Swiglu(const py::object& x_like, const py::object& out_like) {
  const Tensor x = Input("x", x_like, kFloats, 2, 2);
  if (x.columns() % 2 != 0) {
    throw py::value_error("x must have an even number of columns, got " +
                          std::to_string(x.columns()));
  }
  const std::int64_t n = x.columns() / 2;
  py::object result;
  const Tensor out = OutputLike("out", out_like, x.kind, {x.shape[0], n}, &result);
  RequireApart(out, x, false);
  Run(static_cast<double>(x.rows() * n) * 0.5, [&] {
    Active().swiglu(x.type(), {x.data, x.stride()}, {out.data, out.stride()}, Size(x.rows()),
                    Size(n));
  });
  return result;
}

void Rope(const py::object& x_like, const py::object& positions_like,
          const py::object& cos_sin_like, bool interleaved) {
  const Tensor x = Output("x", x_like, kFloats, 3, 3);
  const Tensor positions = Input("positions", positions_like, {Kind::kI64}, 1, 1);
  const Tensor cos_sin = Input("cos_sin", cos_sin_like, {Kind::kF32}, 2, 2);
  RequireShape(positions, {x.shape[0]});
  const std::int64_t rotary = cos_sin.columns();
  if (rotary % 2 != 0 || rotary > x.shape[2]) {
    throw py::value_error("cos_sin must have an even number of columns, at most the " +
                          std::to_string(x.shape[2]) + " of x, got " + std::to_string(rotary));
  }
  if (cos_sin.shape[0] > 1 && cos_sin.strides[0] != rotary) {
    throw py::value_error("cos_sin must be contiguous");
  }
  RequireApart(x, cos_sin, false);
  RequireApart(x, positions, false);
  for (std::int64_t token = 0; token < x.shape[0]; ++token) {
    const std::int64_t position = positions.As<std::int64_t>()[token];
    if (position < 0 || position >= cos_sin.shape[0]) {
      throw py::value_error("positions must be below the " + std::to_string(cos_sin.shape[0]) +
                            " rows of cos_sin and not negative, got " + std::to_string(position));
    }
  }
  Run(static_cast<double>(x.shape[0] * x.shape[1] * rotary) * 0.3, [&] {
    Active().rope(x.type(), x.data, x.strides[0], x.strides[1], positions.As<std::int64_t>(),
                  cos_sin.As<float>(), Size(x.shape[0]), Size(x.shape[1]), Size(rotary),
                  !interleaved);
  });
}

// Nanoseconds: the layers of a model follow each other so closely that OpenMP's threads still wait.
constexpr double kWorthSplitting = 15e3;

// `weight` is one of kernels/quantized.py: codes, scales, offsets, outputs, group.
template <int kBits>
py::object PackedLinear(const py::object& x_like, const py::object& weight,
                        const py::object& bias_like, const py::object& out_like) {
  const Tensor x = Input("x", x_like, kFloats, 2, 2);
  if (!py::hasattr(weight, "codes") || !py::hasattr(weight, "bits") ||
      Integer("weight.bits", weight.attr("bits")) != kBits) {
    throw py::type_error("weight must be a Q" + std::to_string(kBits) + "Weight, got " +
                         TypeName(weight));
  }
  const py::object codes_like = weight.attr("codes"), scales_like = weight.attr("scales"),
                   offsets_like = weight.attr("offsets");
  const Tensor codes = Input("weight.codes", codes_like, {Kind::kU8}, 3, 3);
  const Tensor scales = Input("weight.scales", scales_like, {Kind::kF32}, 3, 3);
  const Tensor offsets = Input("weight.offsets", offsets_like, {Kind::kF32}, 3, 3);
  const std::int64_t n = Integer("weight.outputs", weight.attr("outputs"));
  const std::int64_t group = Integer("weight.group", weight.attr("group"));
  const std::int64_t k = x.columns();
  if (n < 1 || group < 8 || group % 8 != 0 || group > 65536 || k % group != 0 || k == 0) {
    throw py::value_error("x has " + std::to_string(k) + " columns, weight has groups of " +
                          std::to_string(group) +
                          ": a whole number of groups of 8 or more is needed");
  }
  const std::int64_t blocks = (n + 15) / 16;
  RequireShape(codes, {blocks, k * kBits / 32, 64});
  RequireShape(scales, {blocks, k / group, 16});
  RequireShape(offsets, {blocks, k / group, 16});
  for (const Tensor* part : {&codes, &scales, &offsets}) {
    if ((part->shape[0] > 1 && part->strides[0] != part->shape[1] * part->shape[2]) ||
        (part->shape[1] > 1 && part->strides[1] != part->shape[2])) {
      throw py::value_error(std::string(part->name) + " must be contiguous");
    }
  }
  Tensor bias;
  if (!bias_like.is_none()) {
    bias = Input("bias", bias_like, {Kind::kF32}, 1, 1);
    RequireShape(bias, {n});
  }
  py::object result;
  const Tensor out = OutputLike("out", out_like, x.kind, {x.shape[0], n}, &result);
  RequireApart(out, x, false);
  RequireApart(out, codes, false);
  const std::size_t m = Size(x.rows()), groups = Size(k / group);
  // Products, and the reading of weights that no cache holds, at 10 bytes a nanosecond.
  const double read = static_cast<double>(n * k) * (kBits + 2) / 80;
  const double work = std::max(read, static_cast<double>(m) * static_cast<double>(n * k) * 0.02);
  Run(work, [&] {
    float* x_scales = static_cast<float*>(Scratch(m * Size(k) + 2 * m * groups * sizeof(float)));
    float* x_sums = x_scales + m * groups;
    auto* x_codes = reinterpret_cast<std::int8_t*>(x_sums + m * groups);
    const std::size_t parts = Parts(work, Size(blocks), kWorthSplitting);
    Split(m < parts ? 1 : parts, m, [&](std::size_t, std::size_t row, std::size_t last) {
      for (; row < last; ++row) {
        const char* at = static_cast<const char*>(x.data) +
                         static_cast<std::ptrdiff_t>(row) * x.stride() * x.ItemSize();
        Active().packed_quantize(x.type(), at, Size(k), Size(group), x_codes + row * Size(k),
                                 x_scales + row * groups, x_sums + row * groups);
      }
    });
    const Packed packed{codes.As<std::uint8_t>(),
                        scales.As<float>(),
                        offsets.As<float>(),
                        Size(n),
                        Size(k),
                        Size(group),
                        kBits,
                        m >= kTileHeight && TilesAllowed()};
    Split(parts, Size(blocks), [&](std::size_t, std::size_t first, std::size_t last) {
      Active().packed_multiply(packed, x_codes, x_scales, x_sums, m, bias.As<float>(), x.type(),
                               {out.data, out.stride()}, first, last);
    });
  });
  return result;
}

Float8 FormatOf(const std::string& name) {
  if (name == "e4m3") return Float8::kE4M3;
  if (name == "e5m2") return Float8::kE5M2;
  throw py::value_error("format must be e4m3 or e5m2, got " + name);
}

double Scale(double value) {
  if (value > 1e-30 && value < 1e30) return value;
  throw py::value_error("scale must be above 1e-30 and below 1e30, got " +
                        std::string(py::str(py::float_(value))));
}

py::object Fp8Encode(const py::object& x_like, const std::string& format, double scale,
                     const py::object& out_like) {
  const Tensor x = Input("x", x_like, kFloats, 2, 2);
  const Float8 target = FormatOf(format);
  const auto inverse = static_cast<float>(1.0 / Scale(scale));
  py::object result = out_like;
  Tensor out;
  if (out_like.is_none()) {
    out = OutputLike("out", out_like, Kind::kU8, {x.shape[0], x.shape[1]}, &result);
  } else {
    const Kind own = target == Float8::kE4M3 ? Kind::kF8E4M3 : Kind::kF8E5M2;
    out = Output("out", out_like, {Kind::kU8, own}, 2, 2);
    RequireShape(out, {x.shape[0], x.shape[1]});
  }
  RequireApart(out, x, false);
  Run(static_cast<double>(x.rows() * x.columns()) * 0.3, [&] {
    for (std::int64_t row = 0; row < x.rows(); ++row) {
      Active().fp8_encode(x.type(), target,
                          static_cast<const char*>(x.data) + row * x.stride() * x.ItemSize(),
                          out.As<std::uint8_t>() + row * out.stride(), Size(x.columns()), inverse);
    }
  });
  return result;
}

py::object Fp8Decode(const py::object& x_like, const std::string& format, double scale,
                     const py::object& out_like) {
  const Float8 source = FormatOf(format);
  const Kind own = source == Float8::kE4M3 ? Kind::kF8E4M3 : Kind::kF8E5M2;
  const Tensor x = Input("x", x_like, {Kind::kU8, own}, 2, 2);
  const auto factor = static_cast<float>(Scale(scale));
  py::object result = out_like;
  Tensor out;
  if (out_like.is_none()) {
    out = OutputLike("out", out_like, Kind::kF32, {x.shape[0], x.shape[1]}, &result);
  } else {
    out = Output("out", out_like, kFloats, 2, 2);
    RequireShape(out, {x.shape[0], x.shape[1]});
  }
  RequireApart(out, x, false);
  Run(static_cast<double>(x.rows() * x.columns()) * 0.3, [&] {
    for (std::int64_t row = 0; row < x.rows(); ++row) {
      Active().fp8_decode(out.type(), source, x.As<std::uint8_t>() + row * x.stride(),
                          static_cast<char*>(out.data) + row * out.stride() * out.ItemSize(),
                          Size(x.columns()), factor);
    }
  });
  return result;
}

py::object MatMul(const py::object& a_like, const py::object& b_like, const py::object& out_like) {
  const Tensor a = Input("a", a_like, {Kind::kF32}, 2, 2);
  const Tensor b = Input("b", b_like, {Kind::kF32}, 2, 2);
  if (a.shape[1] != b.shape[0]) {
    throw py::value_error("a has " + std::to_string(a.shape[1]) + " columns, b has " +
                          std::to_string(b.shape[0]) + " rows");
  }
  if (a.shape[1] == 0) throw py::value_error("a must have at least 1 column, got 0");
  py::object result;
  const Tensor out = OutputLike("out", out_like, Kind::kF32, {a.shape[0], b.shape[1]}, &result);
  RequireApart(out, a, false);
  RequireApart(out, b, false);
  Run(static_cast<double>(a.shape[0] * a.shape[1]) * static_cast<double>(b.shape[1]) * 0.01, [&] {
    Active().gemm({a.As<float>(), a.stride()}, {b.As<float>(), b.stride()},
                  {out.As<float>(), out.stride()}, Size(a.shape[0]), Size(b.shape[1]),
                  Size(a.shape[1]), static_cast<float*>(Scratch(kGemmScratch * sizeof(float))));
  });
  return result;
}

py::object AttentionTo(const py::object& q_like, const py::object& k_like, const py::object& v_like,
                       const py::object& scale, bool causal, const py::object& flash,
                       const py::object& out_like) {
  const Tensor q = Input("q", q_like, kFloats, 3, 3);
  const Tensor k = Input("k", k_like, {q.kind}, 3, 3);
  const Tensor v = Input("v", v_like, {q.kind}, 3, 3);
  RequireShape(v, {k.shape[0], k.shape[1], k.shape[2]});
  if (k.shape[2] != q.shape[2] || q.shape[2] == 0) {
    throw py::value_error("k has heads of " + std::to_string(k.shape[2]) + " elements, q of " +
                          std::to_string(q.shape[2]));
  }
  if (k.shape[0] == 0 || q.shape[0] % k.shape[0] != 0) {
    throw py::value_error("q has " + std::to_string(q.shape[0]) + " heads, no multiple of the " +
                          std::to_string(k.shape[0]) + " of k");
  }
  if (k.shape[1] == 0 || (causal && k.shape[1] < q.shape[1])) {
    throw py::value_error("k has " + std::to_string(k.shape[1]) + " keys for " +
                          std::to_string(q.shape[1]) + " queries");
  }
  py::object result;
  const Tensor out =
      OutputLike("out", out_like, q.kind, {q.shape[0], q.shape[1], q.shape[2]}, &result);
  RequireApart(out, q, false);
  RequireApart(out, k, false);
  RequireApart(out, v, false);
  const double factor = scale.is_none() ? 1.0 / std::sqrt(static_cast<double>(q.shape[2]))
                                        : Scale(scale.cast<double>());
  const Attention shape{Size(q.shape[0]),
                        Size(k.shape[0]),
                        Size(q.shape[1]),
                        Size(k.shape[1]),
                        Size(q.shape[2]),
                        q.strides[0],
                        q.strides[1],
                        k.strides[0],
                        k.strides[1],
                        v.strides[0],
                        v.strides[1],
                        out.strides[0],
                        out.strides[1],
                        static_cast<float>(factor),
                        causal};
  const bool online = flash.is_none() ? k.shape[1] >= FlashThreshold() : py::cast<bool>(flash);
  Run(static_cast<double>(q.shape[0] * q.shape[1]) * static_cast<double>(k.shape[1] * q.shape[2]) *
          0.05,
      [&] {
        Active().attention(q.type(), shape, q.data, k.data, v.data, out.data, online,
                           static_cast<float*>(Scratch(AttentionScratch(shape) * sizeof(float))));
      });
  return result;
}

}  // namespace

void BindLayers(py::module_& module) {
  using py::arg;
  const py::none none;
  module.def("rms_norm", &RmsNorm, arg("x"), arg("weight"), arg("epsilon") = 1e-6,
             arg("out") = none);
  module.def("fused_add_rms_norm", &FusedAddRmsNorm, arg("x"), arg("residual"), arg("weight"),
             arg("epsilon") = 1e-6);
  module.def("swiglu", &Swiglu, arg("x"), arg("out") = none);
  module.def("rope", &Rope, arg("x"), arg("positions"), arg("cos_sin"), arg("interleaved") = false);
  module.def("q4_linear", &PackedLinear<4>, arg("x"), arg("weight"), arg("bias") = none,
             arg("out") = none);
  module.def("q8_linear", &PackedLinear<8>, arg("x"), arg("weight"), arg("bias") = none,
             arg("out") = none);
  module.def("fp8_encode", &Fp8Encode, arg("x"), arg("format") = "e4m3", arg("scale") = 1.0,
             arg("out") = none);
  module.def("fp8_decode", &Fp8Decode, arg("x"), arg("format") = "e4m3", arg("scale") = 1.0,
             arg("out") = none);
  module.def("matmul", &MatMul, arg("a"), arg("b"), arg("out") = none);
  module.def("attention", &AttentionTo, arg("q"), arg("k"), arg("v"), arg("scale") = none,
             arg("causal") = true, arg("flash") = none, arg("out") = none);
  module.def(
      "set_flash_threshold", [](std::int64_t keys) { g_flash_threshold = keys; }, arg("keys"));
  module.def("flash_threshold", &FlashThreshold);
}

}  // namespace livemind
