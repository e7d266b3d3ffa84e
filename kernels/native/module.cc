// The extension module: chooses the tier when it is imported.

#include <cstdlib>
#include <cstring>

#include "isa.h"
#include "tensor.h"

namespace {

namespace py = pybind11;
using livemind::Tier;

std::string SupportedNames() {
  std::size_t count;
  const Tier* tiers = livemind::Tiers(&count);
  std::string names;
  for (std::size_t i = 0; i < count; ++i) {
    if (tiers[i].supported)
      names += (names.empty() ? "" : ", ") + std::string(tiers[i].kernels->name);
  }
  return names;
}

void Select(const std::string& name) {
  std::size_t count;
  const Tier* tiers = livemind::Tiers(&count);
  for (std::size_t i = 0; i < count; ++i) {
    if (name != tiers[i].kernels->name) continue;
    if (!tiers[i].supported) {
      throw py::value_error("LIVEMIND_KERNELS_ISA: this processor has no " + name + "; it runs " +
                            SupportedNames());
    }
    return livemind::Activate(*tiers[i].kernels);
  }
  throw py::value_error("LIVEMIND_KERNELS_ISA: got \"" + name + "\", need numpy or one of " +
                        SupportedNames());
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Native kernels; kernels/reference says what each means.";
  livemind::Activate(livemind::BestTier());
  const char* forced = std::getenv("LIVEMIND_KERNELS_ISA");
  if (forced != nullptr && *forced != '\0' && std::strcmp(forced, "numpy") != 0) Select(forced);
  module.def("isa", [] { return livemind::Active().name; });
  module.def("select", &Select, py::arg("name"));
  module.def("tiers", [] {
    std::size_t count;
    const Tier* tiers = livemind::Tiers(&count);
    py::list names;
    for (std::size_t i = 0; i < count; ++i) {
      if (tiers[i].supported) names.append(tiers[i].kernels->name);
    }
    return names;
  });
  module.def(
      "read_all",
      [](const py::object& x_like) {
        const livemind::Tensor x = livemind::Input("x", x_like, {livemind::Kind::kF32}, 1, 1);
        return livemind::Active().read_all(x.As<float>(), static_cast<std::size_t>(x.columns()));
      },
      py::arg("x"));
  module.def(
      "multiply_adds",
      [](std::size_t rounds) {
        float result = 0.25F;
        const double operations = livemind::Active().multiply_adds(rounds, &result);
        return operations;
      },
      py::arg("rounds"));
  livemind::BindLogits(module);
  livemind::BindLayers(module);
  livemind::BindEncoder(module);
#if LM_ACL
  livemind::BindAcl(module);
#endif
}
