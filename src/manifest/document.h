// A YAML document as a tree that remembers where each part stands in the file. Unlike the parser's
// own tree it has no aliases, no duplicate keys and a bounded depth and size. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "manifest/diagnostics.h"
#include "manifest/source_text.h"

namespace vibe::manifest {

struct Entry;

struct TreeNode {
  enum class Kind {
    kNull,
    kScalar,
    kSequence,
    kMapping,
    kRefused,  // an error was reported here; what it would have been is unknown
  };
  Kind kind = Kind::kNull;
  size_t offset = 0;            // in the file
  std::string text;             // of a scalar
  bool plain = false;           // a scalar without quotes: may be a number or a boolean
  std::vector<TreeNode> items;  // of a sequence
  std::vector<Entry> entries;   // of a mapping, in the order of the file
};

struct Entry {
  std::string key;
  size_t key_offset = 0;
  TreeNode value;
};

// Nothing when the text is not YAML, or too deep or too large to read on. Otherwise the tree,
// perhaps with refused parts.
std::optional<TreeNode> ReadDocument(const SourceText& source, Diagnostics& diagnostics);

}  // namespace vibe::manifest
