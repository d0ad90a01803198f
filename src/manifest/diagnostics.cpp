#include "manifest/diagnostics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "manifest/source_text.h"
#include "manifest/utf8.h"

namespace vibe::manifest {
namespace {

constexpr size_t kMaxQuoted = 60;  // code points

// Walks forward over the text only, so that placing all diagnostics takes one pass.
class Cursor {
 public:
  explicit Cursor(absl::string_view text)
      : text_(text), at_(absl::StartsWith(text, kByteOrderMark) ? kByteOrderMark.size() : 0) {}

  void MoveTo(size_t offset) {
    for (offset = std::min(offset, text_.size()); at_ < offset; ++at_) {
      if (text_[at_] == '\n') {
        ++line_;
        column_ = 1;
      } else if (!IsContinuationByte(text_[at_])) {
        ++column_;
      }
    }
  }

  int line() const { return line_; }
  int column() const { return column_; }

 private:
  absl::string_view text_;
  size_t at_;
  int line_ = 1;
  int column_ = 1;
};

bool IsPlainWord(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxQuoted &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '_' || c == '-';
         });
}

}  // namespace

void Diagnostics::Error(const Place& place, std::string message) {
  has_errors_ = true;
  Add(Diagnostic::Severity::kError, place, std::move(message));
}

void Diagnostics::Warning(const Place& place, std::string message) {
  Add(Diagnostic::Severity::kWarning, place, std::move(message));
}

void Diagnostics::Add(Diagnostic::Severity severity, const Place& place, std::string message) {
  if (is_full()) {
    ++left_out_;
    return;
  }
  entries_.push_back({place.offset, {severity, 0, 0, place.path, std::move(message)}});
}

std::vector<Diagnostic> Diagnostics::Finish(absl::string_view text) && {
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
  std::vector<Diagnostic> diagnostics;
  Cursor cursor(text);
  for (Entry& entry : entries_) {
    cursor.MoveTo(entry.offset);
    entry.diagnostic.line = cursor.line();
    entry.diagnostic.column = cursor.column();
    diagnostics.push_back(std::move(entry.diagnostic));
  }
  if (left_out_ > 0) {
    diagnostics.push_back(
        {has_errors_ ? Diagnostic::Severity::kError : Diagnostic::Severity::kWarning, cursor.line(),
         cursor.column(), "",
         absl::StrCat("too much is wrong to show it all: ", left_out_, " more problems follow")});
  }
  return diagnostics;
}

std::string Quoted(absl::string_view text) {
  std::string quoted = "\"";
  size_t count = 0;
  while (!text.empty()) {
    if (count++ == kMaxQuoted) {
      absl::StrAppend(&quoted, "…");
      break;
    }
    const CodePoint next = DecodeUtf8(text);
    if (next.length == 0) {
      absl::StrAppend(&quoted, "\\x",
                      absl::Hex(static_cast<unsigned char>(text[0]), absl::kZeroPad2));
      text.remove_prefix(1);
      continue;
    }
    if (next.value == '\n') {
      absl::StrAppend(&quoted, "\\n");
    } else if (IsUnprintable(next.value)) {
      absl::StrAppend(&quoted, "\\u", absl::Hex(next.value, absl::kZeroPad4));
    } else {
      if (next.value == '"' || next.value == '\\') {
        quoted.push_back('\\');
      }
      quoted.append(text.data(), next.length);
    }
    text.remove_prefix(next.length);
  }
  quoted.push_back('"');
  return quoted;
}

std::string ChildPath(absl::string_view parent, absl::string_view key) {
  const std::string name = IsPlainWord(key) ? std::string(key) : Quoted(key);
  return parent.empty() ? name : absl::StrCat(parent, ".", name);
}

std::string ItemPath(absl::string_view parent, size_t index) {
  return absl::StrCat(parent, "[", index, "]");
}

std::string Format(const Diagnostic& diagnostic, absl::string_view file) {
  return absl::StrCat(
      file, ":", diagnostic.line, ":", diagnostic.column,
      diagnostic.severity == Diagnostic::Severity::kError ? ": error: " : ": warning: ",
      diagnostic.path, diagnostic.path.empty() ? "" : ": ", diagnostic.message);
}

absl::Status ToStatus(const ParseResult& result, absl::string_view file) {
  std::vector<std::string> lines;
  for (const Diagnostic& diagnostic : result.diagnostics) {
    if (diagnostic.severity == Diagnostic::Severity::kError) {
      lines.push_back(Format(diagnostic, file));
    }
  }
  if (lines.empty()) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kInvalidArgument, Reason::kInvalidManifest,
               absl::StrJoin(lines, "\n"));
}

}  // namespace vibe::manifest
