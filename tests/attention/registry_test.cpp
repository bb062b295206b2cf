#include "attention/registry.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

class Plain : public Attention {
 public:
  struct Options {
    int64_t window = 4;
    static Fields fields() { return {field(&Options::window, "window", "keys seen").between(1, 64)}; }
  };
  Plain(const Options& options, const Geometry& geometry) : Attention(geometry), window(options.window) {}
  Tensor forward(const Inputs& in) override { return in.value; }
  Tensor oracle(const Inputs& in) const override { return in.value; }
  static Cost cost(const Options& options, const Geometry&, const Sizes& sizes) {
    return {.executed_flops = static_cast<double>(options.window * sizes.queries)};
  }
  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    if (options.window <= geometry.context) return {};
    return {"window is longer than the context"};
  }
  int64_t window;
};

/// Registered while it lives.
struct ScratchVariant {
  std::string name;
  ScratchVariant(std::string called, std::string family, std::set<Trait> traits = {Trait::causal}) : name(called) {
    const Register<Plain> registered{{.name = called, .family = std::move(family), .traits = std::move(traits)}};
  }
  ~ScratchVariant() { unregister_variant(name); }
};

}  // namespace

TEST_CASE("registry: one registration line makes a variant known, with its typed options") {
  const ScratchVariant scratch("plain", "sparse");
  const auto& variant = variant_named("plain");
  CHECK(variant.resolve(Json::object()) == Json{{"window", 4}});
  const auto built = variant.make({{"window", 7}}, {});
  CHECK(dynamic_cast<Plain&>(*built).window == 7);
  CHECK(variant.cost({{"window", 7}}, {}, {.queries = 3}).executed_flops == 21);
  CHECK(variant.fields.size() == 1);
}

TEST_CASE("registry: what a variant does not declare has its default") {
  const ScratchVariant scratch("plain", "sparse");
  const auto& variant = variant_named("plain");
  CHECK(variant.parameter_count(Json::object(), {}) == 0);
  CHECK(variant.gates(Json::object(), {}).empty());
}

TEST_CASE("registry: variants stand by family, then by name, whatever order they came in") {
  const ScratchVariant c("zz_full", "full"), a("b_linear", "linear"), b("a_linear", "linear");
  std::vector<std::string> names;
  for (const auto& variant : all_variants()) names.push_back(variant.name);
  const auto place = [&](const char* name) { return std::find(names.begin(), names.end(), name) - names.begin(); };
  CHECK(place("softmax") < place("zz_full"));
  CHECK(place("zz_full") < place("a_linear"));
  CHECK(place("a_linear") < place("b_linear"));
}

TEST_CASE("registry: an unknown name is answered with the nearest known one") {
  CHECK_THROWS_WITH(variant_named("sofmax"),
                    ContainsSubstring("unknown variant \"sofmax\"") && ContainsSubstring("did you mean \"softmax\"?"));
  CHECK_THROWS_AS(variant_named(""), ConfigError);
}

TEST_CASE("registry: an option out of its bounds is refused by name") {
  const ScratchVariant scratch("plain", "sparse");
  CHECK_THROWS_WITH(variant_named("plain").make({{"window", 0}}, {}), ContainsSubstring("attention.window"));
  CHECK_THROWS_WITH(variant_named("plain").resolve({{"windw", 1}}), ContainsSubstring("did you mean \"window\"?"));
}

TEST_CASE("registry: two variants of one name are refused") {
  const ScratchVariant scratch("plain", "sparse");
  CHECK_THROWS_WITH(ScratchVariant("plain", "full"), ContainsSubstring("\"plain\" is registered twice"));
}

TEST_CASE("registry: an unknown family is refused") {
  CHECK_THROWS_WITH(ScratchVariant("plain", "sparce"), ContainsSubstring("did you mean \"sparse\"?"));
}

TEST_CASE("registry: refusals name what does not fit, all together") {
  const ScratchVariant scratch("plain", "sparse");
  const auto& variant = variant_named("plain");
  const Json options = {{"window", 8}};
  CHECK(refusals(variant, options, {.num_heads = 4, .num_kv_heads = 4, .context = 8}).empty());

  const auto none = refusals(variant, options, {.num_heads = 4, .num_kv_heads = 2, .context = 4, .causal = false});
  REQUIRE(none.size() == 3);
  CHECK_THAT(none[0], ContainsSubstring("plain is causal only"));
  CHECK_THAT(none[1], ContainsSubstring("set model.num_kv_heads to 4"));
  CHECK_THAT(none[2], ContainsSubstring("longer than the context"));

  const auto heads = refusals(variant, options, {.num_heads = 4, .num_kv_heads = 3, .context = 8});
  CHECK_THAT(heads.front(), ContainsSubstring("num_kv_heads 3 does not divide num_heads 4"));

  const ScratchVariant both("both_ways", "sparse", {Trait::bidirectional, Trait::grouped_heads});
  const auto causal = refusals(variant_named("both_ways"), options, {.num_heads = 4, .num_kv_heads = 2, .context = 8});
  REQUIRE(causal.size() == 1);
  CHECK_THAT(causal[0], ContainsSubstring("no causal form"));
}

TEST_CASE("registry: holds one variant for each file in lib/attention/variants, and no other") {
  std::set<std::string> files, names;
  const std::filesystem::path folder = std::filesystem::path(ATTNSCALE_SOURCE_DIR) / "lib/attention/variants";
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".cpp") files.insert(entry.path().stem().string());
  for (const auto& variant : all_variants()) {
    names.insert(variant.name);
    INFO(variant.name);
    CHECK_FALSE(variant.source.empty());
    CHECK_FALSE(variant.equation.empty());
    CHECK_FALSE(variant.traits.empty());
  }
  CHECK(names == files);
}

TEST_CASE("registry: every trait has its own name") {
  std::set<std::string> names;
  for (const auto trait : {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
                           Trait::grouped_heads, Trait::owns_projections, Trait::content_dependent})
    names.insert(name_of(trait));
  CHECK(names.size() == 8);
  CHECK_FALSE(names.contains(""));
}

TEST_CASE("registry: a state's bytes are those of its tensors") {
  State state;
  CHECK(state.bytes() == 0);
  state.tensors["key"] = torch::zeros({2, 3}, torch::kFloat32);
  state.tensors["count"] = torch::zeros({5}, torch::kInt64);
  CHECK(state.bytes() == 2 * 3 * 4 + 5 * 8);
}
