// Collects what is wrong with a manifest, by byte offset, and turns it into lines and columns at
// the end. Belongs to one thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "manifest/parse.h"

namespace vibe::manifest {

// Where something stands: its byte in the file and its path in the document.
struct Place {
  size_t offset = 0;
  std::string path;
};

class Diagnostics {
 public:
  void Error(const Place& place, std::string message);
  void Warning(const Place& place, std::string message);
  bool has_errors() const { return has_errors_; }
  bool is_full() const { return entries_.size() == kMax; }  // messages are no longer kept

  // In the order of `text`, the file as it was given. A hostile file cannot make the list endless:
  // after kMax the rest is counted in one last entry.
  std::vector<Diagnostic> Finish(absl::string_view text) &&;

  static constexpr size_t kMax = 1000;

 private:
  struct Entry {
    size_t offset;
    Diagnostic diagnostic;
  };

  void Add(Diagnostic::Severity severity, const Place& place, std::string message);

  std::vector<Entry> entries_;
  size_t left_out_ = 0;
  bool has_errors_ = false;
};

// `text` in double quotes, cut when long, with everything escaped that could upset a terminal.
std::string Quoted(absl::string_view text);

// "parent.key", or just "key" at the top. A key that is no plain word is quoted.
std::string ChildPath(absl::string_view parent, absl::string_view key);
std::string ItemPath(absl::string_view parent, size_t index);  // "parent[0]"

}  // namespace vibe::manifest
