// Python face of the encoder layer; kernels/reference/encoder.py says what it means.

#include <algorithm>
#include <vector>

#include "tensor.h"

namespace livemind {
namespace {

void RequireContiguous(const Tensor& tensor) {
  std::int64_t stride = 1;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] == 0) return;
  }
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] != stride) {
      throw py::value_error(std::string(tensor.name) + " must be contiguous");
    }
    stride *= tensor.shape[axis];
  }
}

// One attribute of the layer.
Tensor Part(const char* name, const py::object& layer, const char* attribute, Kind kind,
            std::initializer_list<std::int64_t> shape) {
  const int ndim = static_cast<int>(shape.size());
  const py::object value = layer.attr(attribute);
  Tensor part = Input(name, value, {kind}, ndim, ndim);
  part.owner = py::make_tuple(value, part.owner ? part.owner : py::none());
  RequireShape(part, shape);
  RequireContiguous(part);
  return part;
}

// `layer` is a kernels.encoder.EncoderLayer.
void EncodeLayer(const py::object& x_like, const py::object& layer,
                 const py::object& lengths_like) {
  const Tensor x = Output("x", x_like, {Kind::kF32}, 2, 2);
  RequireContiguous(x);
  if (!py::isinstance(layer,
                      py::module_::import("livemind.kernels.encoder").attr("EncoderLayer"))) {
    throw py::type_error("layer must be an EncoderLayer, got " + TypeName(layer));
  }
  const std::int64_t dim = x.shape[1], panel = kEncoderPanel;
  const std::int64_t inner = panel * static_cast<std::int64_t>(py::len(layer.attr("up")));
  const std::int64_t heads = Integer("layer.heads", layer.attr("heads"));
  if (dim < 1 || dim % panel != 0 || heads < 1 || dim % heads != 0 || inner < 1) {
    throw py::value_error("x has " + std::to_string(dim) + " columns for " + std::to_string(heads) +
                          " heads: a multiple of both 32 and these is " + "needed");
  }
  const Kind narrow = Kind::kBF16, wide = Kind::kF32;
  const Tensor qkv = Part("layer.qkv", layer, "qkv", narrow, {3 * dim / panel, dim / 2, 64});
  const Tensor attention_out =
      Part("layer.attention_out", layer, "attention_out", narrow, {dim / panel, dim / 2, 64});
  const Tensor up = Part("layer.up", layer, "up", narrow, {inner / panel, dim / 2, 64});
  const Tensor down = Part("layer.down", layer, "down", narrow, {dim / panel, inner / 2, 64});
  const Tensor qkv_bias = Part("layer.qkv_bias", layer, "qkv_bias", wide, {3 * dim});
  const Tensor attention_bias = Part("layer.attention_bias", layer, "attention_bias", wide, {dim});
  const Tensor up_bias = Part("layer.up_bias", layer, "up_bias", wide, {inner});
  const Tensor down_bias = Part("layer.down_bias", layer, "down_bias", wide, {dim});
  const Tensor attention_norm =
      Part("layer.attention_norm", layer, "attention_norm", wide, {2, dim});
  const Tensor output_norm = Part("layer.output_norm", layer, "output_norm", wide, {2, dim});
  for (const Tensor* part : {&qkv, &attention_out, &up, &down, &qkv_bias, &attention_bias, &up_bias,
                             &down_bias, &attention_norm, &output_norm}) {
    RequireApart(x, *part, false);
  }
  const double epsilon = py::cast<double>(layer.attr("epsilon"));
  if (!(epsilon >= 0.0 && epsilon < 1e30)) {
    throw py::value_error("layer.epsilon must be 0 or more and finite");
  }
  const Tensor lengths = Input("lengths", lengths_like, {Kind::kI64}, 1, 1);
  RequireApart(x, lengths, false);
  const std::vector<std::int64_t> counts(lengths.As<std::int64_t>(),
                                         lengths.As<std::int64_t>() + lengths.shape[0]);
  std::int64_t total = 0, longest = 0;
  for (const std::int64_t length : counts) {
    if (length < 1 || length > x.shape[0] - total) {
      throw py::value_error("lengths must be 1 or more and add up to the " +
                            std::to_string(x.shape[0]) + " rows of x, got " +
                            std::to_string(length));
    }
    total += length;
    longest = std::max(longest, length);
  }
  if (total != x.shape[0]) {
    throw py::value_error("lengths must be 1 or more and add up to the " +
                          std::to_string(x.shape[0]) + " rows of x, got " + std::to_string(total) +
                          " in all");
  }
  if (total == 0) return;
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  const EncoderLayer packed{size(dim),
                            size(inner),
                            size(heads),
                            qkv.As<std::uint16_t>(),
                            attention_out.As<std::uint16_t>(),
                            up.As<std::uint16_t>(),
                            down.As<std::uint16_t>(),
                            qkv_bias.As<float>(),
                            attention_bias.As<float>(),
                            up_bias.As<float>(),
                            down_bias.As<float>(),
                            attention_norm.As<float>(),
                            output_norm.As<float>(),
                            static_cast<float>(epsilon)};
  const std::size_t floats = EncoderScratch(packed, size(total), size(longest));
  const py::gil_scoped_release release;
  Active().encoder_layer(packed, x.As<float>(), counts.data(), counts.size(), size(total),
                         static_cast<float*>(Scratch(floats * sizeof(float))));
}

}  // namespace

void BindEncoder(py::module_& module) {
  using py::arg;
  module.def("encoder_layer", &EncodeLayer, arg("x"), arg("layer"), arg("lengths"));
}

}  // namespace livemind
