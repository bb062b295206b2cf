#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// What `attnscale verify` found, with what it was found on: the conformance run's JSON and `schema`
/// (attnscale.certificate/1) and `provenance`.
Json certificate_of(const Json& conformance);

/// The certificate of these variants, made once per program and machine: each variant's part is kept in the user's
/// cache (XDG_CACHE_HOME or ~/.cache, attnscale/certificates), under the SHA-256 of the program and the processor's
/// name, so that a changed program proves anew. Without a writable cache it is made each time.
/// @param on_start  told the name of a variant whose proof has to be made, which takes seconds; may be empty
/// @param stop  asked after every measurement of a proof; may be empty
/// @throws Error (interrupted) once `stop` says so; proofs that were whole by then are kept
Json certificate_for(const std::set<std::string>& variants, const std::function<void(const std::string&)>& on_start,
                     const std::function<bool()>& stop);

/// Variants that rows of results use, hybrids' included; names that this build does not know are left out.
std::set<std::string> variants_of(const std::vector<Json>& rows);

}  // namespace attnscale
