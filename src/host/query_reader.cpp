#include "host/query_reader.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace vibe::host {

absl::StatusOr<std::string> PercentDecode(absl::string_view text, bool plus) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus) {
      decoded.push_back(' ');
    } else if (text[i] != '%') {
      decoded.push_back(text[i]);
    } else {
      if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
          !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
        return absl::InvalidArgumentError("the request's URL has a % without two hex digits");
      }
      decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    }
  }
  if (decoded.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the request's URL holds a zero byte");
  }
  return decoded;
}

absl::StatusOr<QueryReader> QueryReader::Parse(absl::string_view query) {
  QueryReader reader;
  for (const absl::string_view part : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    VIBE_ASSIGN_OR_RETURN(std::string name, PercentDecode(pair.first, true));
    VIBE_ASSIGN_OR_RETURN(std::string value, PercentDecode(pair.second, true));
    if (!reader.values_.emplace(name, std::move(value)).second) {
      return absl::InvalidArgumentError(absl::StrCat("the query has ", name, " twice"));
    }
  }
  return reader;
}

std::optional<std::string> QueryReader::String(const std::string& name) {
  known_.insert(name);
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional<std::string>(found->second);
}

std::optional<bool> QueryReader::Bool(const std::string& name) {
  const std::optional<std::string> text = String(name);
  if (!text || *text == "true" || *text == "false") {
    return text ? std::optional<bool>(*text == "true") : std::nullopt;
  }
  error_.Update(absl::InvalidArgumentError(absl::StrCat(name, " must be true or false")));
  return std::nullopt;
}

std::optional<uint32_t> QueryReader::Number(const std::string& name, uint32_t max) {
  const std::optional<std::string> text = String(name);
  uint32_t number = 0;
  if (!text) {
    return std::nullopt;
  }
  if (absl::SimpleAtoi(*text, &number) && number <= max) {
    return number;
  }
  error_.Update(
      absl::InvalidArgumentError(absl::StrCat(name, " must be a whole number from 0 to ", max)));
  return std::nullopt;
}

absl::Status QueryReader::Finish() const {
  VIBE_RETURN_IF_ERROR(error_);
  for (const auto& [name, value] : values_) {
    if (known_.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat("the query has an unknown parameter ", name));
    }
  }
  return absl::OkStatus();
}

}  // namespace vibe::host
