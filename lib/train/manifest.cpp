#include "train/manifest.h"

#include <limits>

#include <fmt/format.h>

#include "core/hash.h"

namespace attnscale {
namespace {

/// A name in the checkpoint's own folder: what a manifest names is read, and must not lie elsewhere.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

bool is_count(const Json& object, const char* field) {
  return object.contains(field) && object[field].is_number_unsigned() &&
         object[field].get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

bool is_text(const Json& object, const char* field) { return object.contains(field) && object[field].is_string(); }

}  // namespace

Json sealed_manifest(Json manifest) {
  manifest["sha256"] = sha256(canonical(manifest));
  return manifest;
}

Json parse_manifest(std::string_view text, const std::string& file) {
  const auto document = parse_json(text, file);
  const Json& manifest = document.value;
  if (!manifest.is_object() || !manifest.contains("schema") || manifest["schema"] != manifest_schema)
    throw DataError(
        fmt::format("{}: schema is not {}; it was written by another version or is damaged", file, manifest_schema));
  Json unsealed = manifest;
  unsealed.erase("sha256");
  if (sealed_manifest(unsealed) != manifest)
    throw DataError(fmt::format("{}: its SHA-256 does not hold; the file is damaged", file));
  const auto expect = [&](bool good, const std::string& field, const char* expected) {
    if (!good) throw DataError(fmt::format("{}: {}: expected {}", document.place(field), field, expected));
  };
  expect(is_count(manifest, "step"), "step", "a count");
  expect(is_count(manifest, "log_lines"), "log_lines", "a count");
  expect(is_text(manifest, "config"), "config", "a run's id");
  expect(manifest.contains("files") && manifest["files"].is_object(), "files", "an object: name -> bytes and sha256");
  for (const auto& [name, entry] : manifest["files"].items()) {
    const auto where = join_path("files", name);
    expect(is_plain_name(name), where, "the name of a file in this folder");
    expect(entry.is_object() && is_count(entry, "bytes") && is_text(entry, "sha256"), where, "bytes and sha256");
  }
  return manifest;
}

}  // namespace attnscale
