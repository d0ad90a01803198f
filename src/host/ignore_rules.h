// Which files of an app's folder do not go into its package: docs/formats/package.md, "left out".
// Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::host {

// Thread-safe once made.
class IgnoreRules {
 public:
  // The built-in rules alone: names that start with ".", node_modules/, target/, *.vibeapp, *.sig.
  IgnoreRules() = default;

  // With the patterns of a .vibeignore besides. `#` starts a comment. A pattern without an inner
  // "/" matches any component of a path; one with it, the path from the root. A "/" at the end
  // matches folders only. `*` and `?` do not match a "/". InvalidArgument names the line of what is
  // over the limits.
  static absl::StatusOr<IgnoreRules> Parse(absl::string_view text);

  // `path` is relative and '/'-separated. What is inside an ignored folder is not asked: it is not
  // entered.
  bool Ignores(absl::string_view path, bool is_directory) const;

 private:
  struct Pattern {
    std::string text;
    bool from_root = false;
    bool directories_only = false;
  };
  std::vector<Pattern> patterns_;
};

// `*` is any run of bytes without "/", `?` one byte that is not "/". Linear in the product of the
// lengths.
bool GlobMatches(absl::string_view pattern, absl::string_view text);

}  // namespace vibe::host
