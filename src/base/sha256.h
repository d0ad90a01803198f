// SHA-256, whole or as a stream. A Sha256 object belongs to one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace vibe {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(absl::string_view bytes);
  std::string Finish();        // 32 raw bytes; the object may not be used afterwards
  std::string FinishDigest();  // "sha256:" and 64 hex digits, as OCI writes it

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Raw(absl::string_view bytes);     // 32 raw bytes
std::string Sha256Digest(absl::string_view bytes);  // "sha256:<hex>"

}  // namespace vibe
