// The bytes of docs/formats/state.md's digests: numbers little-endian, byte strings after their
// length. Inside this room only. One thread at a time.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/sha256.h"

namespace vibe::state {

class DigestEncoder {
 public:
  explicit DigestEncoder(absl::string_view domain) { sha_.Update(domain); }

  void Byte(char byte) { sha_.Update({&byte, 1}); }
  void U32(uint32_t number) { Number(number, 4); }
  void U64(uint64_t number) { Number(number, 8); }
  void Bytes(absl::string_view bytes) {
    U64(bytes.size());
    sha_.Update(bytes);
  }
  void Raw(absl::string_view bytes) { sha_.Update(bytes); }

  std::string Finish() { return sha_.Finish(); }
  std::string FinishDigest() { return sha_.FinishDigest(); }

 private:
  void Number(uint64_t number, size_t size) {
    char bytes[8];
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = static_cast<char>(number >> (8 * i));
    }
    sha_.Update({bytes, size});
  }

  Sha256 sha_;
};

}  // namespace vibe::state
