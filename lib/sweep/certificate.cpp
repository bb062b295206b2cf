#include "sweep/certificate.h"

#include <cstdlib>
#include <optional>

#include "attention/conformance.h"
#include "attention/registry.h"
#include "core/files.h"
#include "core/hash.h"
#include "train/provenance.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// Where this program's proofs on this machine are kept; nothing if there is no home. A relative XDG_CACHE_HOME is
/// ignored, as the XDG base directory specification asks.
std::optional<fs::path> cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder;
  if (cache && fs::path(cache).is_absolute()) folder = cache;
  else if (home && *home) folder = fs::path(home) / ".cache";
  else return std::nullopt;
  static const std::string key = [] {
    const auto facts = provenance();
    return sha256(read_file("/proc/self/exe") + facts.value("cpu", "") + facts.value("torch", "")).substr(0, 16);
  }();
  return folder / "attnscale" / "certificates" / key;
}

/// A kept proof; nothing if there is none, or what is there is not one.
std::optional<Json> kept(const std::optional<fs::path>& folder, const std::string& variant) {
  if (!folder || !fs::exists(*folder / (variant + ".json"))) return std::nullopt;
  auto proof = Json::parse(read_file(*folder / (variant + ".json")), nullptr, false);
  if (!proof.is_object() || proof.value("name", "") != variant || !proof.contains("passed")) return std::nullopt;
  return proof;
}

void keep(const std::optional<fs::path>& folder, const std::string& variant, const Json& proof) {
  if (!folder) return;
  try {
    fs::create_directories(*folder);
    write_file_atomically(*folder / (variant + ".json"), proof.dump(1) + "\n");
  } catch (const std::exception&) {
    // Nothing is lost: the proof is made again next time.
  }
}

}  // namespace

Json certificate_of(const Json& conformance) {
  Json certificate = {{"schema", "attnscale.certificate/1"}};
  certificate.update(conformance);
  certificate["provenance"] = provenance();
  return certificate;
}

Json certificate_for(const std::set<std::string>& variants, const std::function<void(const std::string&)>& on_start,
                     const std::function<bool()>& stop) {
  const auto folder = cache_folder();
  bool passed = true;
  Json proofs = Json::array();
  for (const auto& name : variants) {
    auto proof = kept(folder, name);
    if (!proof) {
      if (on_start) on_start(name);
      proof = to_json({verify_variant(variant_named(name), {.stop = stop})}).at("variants").at(0);
      keep(folder, name, *proof);
    }
    passed = passed && proof->at("passed").get<bool>();
    proofs.push_back(std::move(*proof));
  }
  return certificate_of({{"passed", passed}, {"variants", std::move(proofs)}});
}

std::set<std::string> variants_of(const std::vector<Json>& rows) {
  std::set<std::string> names;
  const auto add = [&](const Json& section) {
    if (!section.is_object()) return;
    const auto name = section.value("variant", "");
    for (const auto& variant : all_variants())
      if (variant.name == name) names.insert(name);
  };
  for (const auto& row : rows) {
    const auto config = row.value("config", Json::object());
    if (!config.is_object()) continue;
    const auto model = config.value("model", Json::object());
    if (model.is_object() && model.contains("layers"))
      for (const auto& layer : model["layers"]) add(layer);
    else add(config.value("attention", Json()));
  }
  return names;
}

}  // namespace attnscale
