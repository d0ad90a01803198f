// The bytes of a manifest file on their way to the YAML parser: checked, and rewritten where YAML
// cannot read what JSON allows. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "manifest/diagnostics.h"

namespace vibe::manifest {

inline constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";

class SourceText {
 public:
  // Nothing when the file cannot be read at all; the reason is in `diagnostics` then.
  static std::optional<SourceText> Check(absl::string_view file, Diagnostics& diagnostics);

  const std::string& yaml() const { return yaml_; }

  // From an offset in yaml() to the one in the file.
  size_t FileOffset(size_t yaml_offset) const;

 private:
  struct Shift {
    size_t from;        // an offset in yaml(), and all after it,
    size_t difference;  // are so many bytes further on in the file
  };

  SourceText() = default;
  void ReadSurrogatePairs(absl::string_view text);

  std::string yaml_;
  std::vector<Shift> shifts_;
};

}  // namespace vibe::manifest
