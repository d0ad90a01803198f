#include "host/ignore_rules.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace vibe::host {
namespace {

constexpr size_t kMaxPatterns = 1000;
constexpr size_t kMaxPatternBytes = 1024;

}  // namespace

bool GlobMatches(absl::string_view pattern, absl::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = absl::string_view::npos;  // the last `*`, to which a mismatch goes back
  size_t star_text = 0;                   // where the text that it covers ends
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() &&
               (pattern[p] == text[t] || (pattern[p] == '?' && text[t] != '/'))) {
      ++p;
      ++t;
    } else if (star != absl::string_view::npos && text[star_text] != '/') {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == absl::string_view::npos;
}

absl::StatusOr<IgnoreRules> IgnoreRules::Parse(absl::string_view text) {
  IgnoreRules rules;
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') {
      continue;
    }
    if (line.size() > kMaxPatternBytes || rules.patterns_.size() == kMaxPatterns) {
      return absl::InvalidArgumentError(
          absl::StrCat(".vibeignore, line ", line_number, ": more than ", kMaxPatterns,
                       " patterns, or one over ", kMaxPatternBytes, " bytes"));
    }
    Pattern pattern;
    pattern.directories_only = absl::ConsumeSuffix(&line, "/");
    pattern.from_root = absl::StrContains(line, '/');
    pattern.text = std::string(absl::StripPrefix(line, "/"));
    if (!pattern.text.empty()) {
      rules.patterns_.push_back(std::move(pattern));
    }
  }
  return rules;
}

bool IgnoreRules::Ignores(absl::string_view path, bool is_directory) const {
  const size_t slash = path.rfind('/');
  const absl::string_view name = slash == absl::string_view::npos ? path : path.substr(slash + 1);
  if (absl::StartsWith(name, ".") ||
      (is_directory ? name == "node_modules" || name == "target"
                    : absl::EndsWith(name, ".vibeapp") || absl::EndsWith(name, ".sig"))) {
    return true;
  }
  return std::any_of(patterns_.begin(), patterns_.end(), [&](const Pattern& pattern) {
    return (is_directory || !pattern.directories_only) &&
           GlobMatches(pattern.text, pattern.from_root ? path : name);
  });
}

}  // namespace vibe::host
