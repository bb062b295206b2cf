#pragma once

#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace attnscale {

/// While it lives, operators run in the dtype of their inputs even under mixed precision: autocast would
/// cast the factors of a matrix product down again, and with them sums that were made float32 on purpose.
/// Inputs must then agree in dtype; cast parameters to that of the data first.
class FullPrecision {
 private:
  c10::impl::ExcludeDispatchKeyGuard guard_{c10::autocast_dispatch_keyset};
};

/// Whether autocast is on for the CPU and acts here: not under FullPrecision.
inline bool autocast_applies() {
  return !c10::impl::tls_local_dispatch_key_set().excluded_.has(c10::DispatchKey::AutocastCPU);
}

}  // namespace attnscale
