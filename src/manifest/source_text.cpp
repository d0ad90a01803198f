#include "manifest/source_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "manifest/utf8.h"

namespace vibe::manifest {
namespace {

// The value of the escape \uXXXX that `text` starts with.
std::optional<uint32_t> UnicodeEscape(absl::string_view text) {
  uint32_t value = 0;
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u' ||
      !absl::SimpleHexAtoi(text.substr(2, 4), &value)) {
    return std::nullopt;
  }
  return value;
}

std::optional<uint32_t> SurrogatePair(absl::string_view text) {
  const std::optional<uint32_t> high = UnicodeEscape(text);
  if (!high || *high < 0xd800 || *high > 0xdbff) {
    return std::nullopt;
  }
  const std::optional<uint32_t> low = UnicodeEscape(text.substr(6));
  if (!low || *low < 0xdc00 || *low > 0xdfff) {
    return std::nullopt;
  }
  return 0x10000 + ((*high - 0xd800) << 10U) + (*low - 0xdc00);
}

// The YAML parser takes some control characters for the end of the file, so a part would go unread.
bool CheckBytes(absl::string_view file, Diagnostics& diagnostics) {
  for (size_t at = 0; at < file.size();) {
    const CodePoint next = DecodeUtf8(file.substr(at));
    if (next.length == 0) {
      diagnostics.Error({at, ""}, "the file is not UTF-8 text: save it as UTF-8");
      return false;
    }
    if (next.value < 0x20 && next.value != '\n' && next.value != '\r' && next.value != '\t') {
      diagnostics.Error(
          {at, ""}, absl::StrCat("the control character U+", absl::Hex(next.value, absl::kZeroPad4),
                                 " cannot stand in a manifest: remove it"));
      return false;
    }
    at += next.length;
  }
  return true;
}

}  // namespace

std::optional<SourceText> SourceText::Check(absl::string_view file, Diagnostics& diagnostics) {
  if (file.size() > kMaxManifestBytes) {
    diagnostics.Error({}, absl::StrCat("the file has ", file.size(),
                                       " bytes; a manifest has at most ", kMaxManifestBytes));
    return std::nullopt;
  }
  if (!CheckBytes(file, diagnostics)) {
    return std::nullopt;
  }
  SourceText source;
  absl::string_view text = file;
  if (absl::StartsWith(text, kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
    source.shifts_.push_back({0, kByteOrderMark.size()});
  }
  // Only JSON writes characters beyond U+FFFF as two escapes. In JSON a backslash stands in strings
  // only, so the text can be rewritten without parsing it.
  const bool has_surrogates = absl::StrContains(text, "\\ud") || absl::StrContains(text, "\\uD");
  if (has_surrogates && absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{") &&
      nlohmann::json::accept(text)) {
    source.ReadSurrogatePairs(text);
  } else {
    source.yaml_ = std::string(text);
  }
  return source;
}

// Writes each pair as the one escape that YAML has for it.
void SourceText::ReadSurrogatePairs(absl::string_view text) {
  constexpr size_t kPair = 12;
  constexpr size_t kEscape = 10;
  size_t difference = shifts_.empty() ? 0 : shifts_.back().difference;
  yaml_.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (const auto pair = SurrogatePair(text.substr(at))) {
      absl::StrAppend(&yaml_, "\\U", absl::Hex(*pair, absl::kZeroPad8));
      at += kPair;
      difference += kPair - kEscape;
      shifts_.push_back({yaml_.size(), difference});
    } else {
      const size_t length = text[at] == '\\' ? 2 : 1;  // an escaped backslash starts no escape
      absl::StrAppend(&yaml_, text.substr(at, length));
      at += length;
    }
  }
}

size_t SourceText::FileOffset(size_t yaml_offset) const {
  const auto after =
      std::upper_bound(shifts_.begin(), shifts_.end(), yaml_offset,
                       [](size_t offset, const Shift& shift) { return offset < shift.from; });
  return yaml_offset + (after == shifts_.begin() ? 0 : std::prev(after)->difference);
}

}  // namespace vibe::manifest
