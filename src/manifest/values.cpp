#include "manifest/values.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "manifest/nearest.h"
#include "manifest/quantity.h"
#include "manifest/utf8.h"

namespace vibe::manifest {
namespace {

constexpr absl::string_view KindName(TreeNode::Kind kind) {
  switch (kind) {
    case TreeNode::Kind::kScalar:
      return "a text";
    case TreeNode::Kind::kSequence:
      return "a list";
    case TreeNode::Kind::kMapping:
      return "a mapping";
    case TreeNode::Kind::kNull:
    case TreeNode::Kind::kRefused:
      break;
  }
  return "empty";
}

// Reports another kind than the wanted one; a refused node has its error already.
bool IsKind(const Value& value, TreeNode::Kind wanted, absl::string_view must,
            Diagnostics& diagnostics) {
  const TreeNode::Kind kind = value.node->kind;
  if (kind != wanted && kind != TreeNode::Kind::kRefused) {
    diagnostics.Error(value.place, absl::StrCat(must, "; it is ", KindName(kind)));
  }
  return kind == wanted;
}

bool IsOneOf(absl::string_view text, std::initializer_list<absl::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

}  // namespace

Value ValueOf(const Entry& entry, std::string path) {
  const bool is_empty = entry.value.kind == TreeNode::Kind::kNull;
  return {&entry.value, {is_empty ? entry.key_offset : entry.value.offset, std::move(path)}};
}

std::optional<std::string> ReadText(const Value& value, const TextLimits& limits,
                                    Diagnostics& diagnostics) {
  if (!IsKind(value, TreeNode::Kind::kScalar, "must be a text", diagnostics)) {
    return std::nullopt;
  }
  const std::string& text = value.node->text;
  const size_t length = CountCodePoints(text);
  if (length < limits.min) {
    diagnostics.Error(value.place, "must not be empty");
    return std::nullopt;
  }
  if (length > limits.max) {
    diagnostics.Error(value.place, absl::StrCat("has ", length, " characters; at most ", limits.max,
                                                " are allowed"));
    return std::nullopt;
  }
  if (limits.controls ? absl::StrContains(text, '\0') : HasControl(text)) {
    diagnostics.Error(value.place, limits.controls
                                       ? "must not hold a zero byte"
                                       : "must not hold control characters or line ends");
    return std::nullopt;
  }
  return text;
}

std::optional<bool> ReadBool(const Value& value, Diagnostics& diagnostics) {
  if (!IsKind(value, TreeNode::Kind::kScalar, "must be true or false", diagnostics)) {
    return std::nullopt;
  }
  const std::string& text = value.node->text;
  const bool is_true = IsOneOf(text, {"true", "True", "TRUE"});
  if (value.node->plain && (is_true || IsOneOf(text, {"false", "False", "FALSE"}))) {
    return is_true;
  }
  diagnostics.Error(value.place,
                    absl::StrCat("must be true or false, without quotes, not ", Quoted(text)));
  return std::nullopt;
}

std::optional<int64_t> ReadWhole(const Value& value, int64_t min, int64_t max,
                                 Diagnostics& diagnostics) {
  const std::string must = absl::StrCat("must be a whole number from ", min, " to ", max);
  if (!IsKind(value, TreeNode::Kind::kScalar, must, diagnostics)) {
    return std::nullopt;
  }
  const std::optional<int64_t> number = ParseWhole(value.node->text);
  if (number && !value.node->plain) {
    diagnostics.Error(value.place, absl::StrCat(must, ": write ", *number, " without quotes"));
    return std::nullopt;
  }
  if (!number || *number < min || *number > max) {
    diagnostics.Error(value.place, absl::StrCat(must, ", not ", Quoted(value.node->text)));
    return std::nullopt;
  }
  return number;
}

std::optional<int64_t> ReadDurationMs(const Value& value, int64_t min, int64_t max,
                                      absl::string_view max_text, Diagnostics& diagnostics) {
  const auto text = ReadText(value, {.max = 64}, diagnostics);
  if (!text) {
    return std::nullopt;
  }
  const std::optional<int64_t> duration = ParseDurationMs(*text);
  if (!duration) {
    diagnostics.Error(
        value.place,
        absl::StrCat("must be a duration with a unit, such as 500ms, 30s or 1m30s, not ",
                     Quoted(*text)));
    return std::nullopt;
  }
  if (*duration < min || *duration > max) {
    diagnostics.Error(value.place, absl::StrCat("must be ", min == 0 ? "" : "more than 0 and ",
                                                "at most ", max_text, ", not ", Quoted(*text)));
    return std::nullopt;
  }
  return duration;
}

std::optional<size_t> ReadChoice(const Value& value, absl::Span<const absl::string_view> choices,
                                 Diagnostics& diagnostics) {
  const std::string must = absl::StrCat("must be ", absl::StrJoin(choices, " or "));
  if (!IsKind(value, TreeNode::Kind::kScalar, must, diagnostics)) {
    return std::nullopt;
  }
  const std::string& text = value.node->text;
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found != choices.end()) {
    return static_cast<size_t>(found - choices.begin());
  }
  const absl::string_view nearest = Nearest(text, choices);
  diagnostics.Error(
      value.place,
      absl::StrCat(must, ", not ", Quoted(text),
                   nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?")));
  return std::nullopt;
}

std::vector<Value> ReadList(const Value& value, size_t max, absl::string_view example,
                            Diagnostics& diagnostics) {
  std::vector<Value> items;
  if (!IsKind(value, TreeNode::Kind::kSequence, absl::StrCat("must be a list, such as ", example),
              diagnostics)) {
    return items;
  }
  const std::vector<TreeNode>& nodes = value.node->items;
  if (nodes.size() > max) {
    diagnostics.Error({nodes[max].offset, value.place.path},
                      absl::StrCat("has ", nodes.size(), " items; at most ", max, " are allowed"));
  }
  for (size_t i = 0; i < nodes.size() && i < max; ++i) {
    items.push_back({&nodes[i], {nodes[i].offset, ItemPath(value.place.path, i)}});
  }
  return items;
}

std::vector<std::string> ReadTexts(const Value& value, size_t max, const TextLimits& limits,
                                   absl::string_view example, Diagnostics& diagnostics) {
  std::vector<std::string> texts;
  for (const Value& item : ReadList(value, max, example, diagnostics)) {
    if (auto text = ReadText(item, limits, diagnostics)) {
      texts.push_back(std::move(*text));
    }
  }
  return texts;
}

bool IsMapping(const Value& value, absl::string_view example, Diagnostics& diagnostics) {
  return IsKind(value, TreeNode::Kind::kMapping,
                absl::StrCat("must be a mapping, such as ", example), diagnostics);
}

}  // namespace vibe::manifest
