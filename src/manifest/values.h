// Typed values out of the tree. Each function reports what is wrong with a value where it stands
// and returns nothing then, so that reading goes on and every error of a file is found.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "manifest/diagnostics.h"
#include "manifest/document.h"

namespace vibe::manifest {

struct Value {
  const TreeNode* node;  // of the document, which outlives this
  Place place;
};

// The value of a key; an empty one stands where its key does.
Value ValueOf(const Entry& entry, std::string path);

struct TextLimits {
  size_t min = 1;  // code points
  size_t max = 0;
  bool controls = false;  // whether tabs, line ends and the like may stand in it; a zero byte never
};

std::optional<std::string> ReadText(const Value& value, const TextLimits& limits, Diagnostics&);

// true or false, without quotes.
std::optional<bool> ReadBool(const Value& value, Diagnostics&);

// Decimal, without quotes.
std::optional<int64_t> ReadWhole(const Value& value, int64_t min, int64_t max, Diagnostics&);

// A duration with a unit, in whole milliseconds; `max` as users write it is in the message.
std::optional<int64_t> ReadDurationMs(const Value& value, int64_t min, int64_t max,
                                      absl::string_view max_text, Diagnostics&);

// The place of the word in `choices`.
std::optional<size_t> ReadChoice(const Value& value, absl::Span<const absl::string_view> choices,
                                 Diagnostics&);

// The items of a list, the first `max` of them when it is too long. Empty when it is no list.
// `example` shows how to write one.
std::vector<Value> ReadList(const Value& value, size_t max, absl::string_view example,
                            Diagnostics&);

// A list of texts, as ReadList and ReadText.
std::vector<std::string> ReadTexts(const Value& value, size_t max, const TextLimits& limits,
                                   absl::string_view example, Diagnostics&);

// Whether it is a mapping; `example` shows how to write one.
bool IsMapping(const Value& value, absl::string_view example, Diagnostics&);

}  // namespace vibe::manifest
