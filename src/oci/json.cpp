#include "oci/json.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::oci {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxValues = 200000;

// Bounds what the parser will build: a value takes far more memory than its text, "[]" for example.
bool IsWithinLimits(absl::string_view text) {
  int depth = 0;
  size_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++values;
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
    if (depth > kMaxDepth || values > kMaxValues) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::string> CheckedString(const nlohmann::json& value, const char* name,
                                          size_t max_bytes) {
  if (!value.is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a string"));
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > max_bytes || text.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is too long or holds a zero byte"));
  }
  return text;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseObject(absl::string_view text, absl::string_view what) {
  if (text.size() > kMaxDocument) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is larger than ", kMaxDocument, " bytes"));
  }
  if (!IsWithinLimits(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " holds too many values or nests too deeply"));
  }
  nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is not a JSON object"));
  }
  return json;
}

const nlohmann::json& Member(const nlohmann::json& object, const char* name) {
  static const nlohmann::json kNull;
  if (!object.is_object()) {
    return kNull;
  }
  const auto member = object.find(name);
  return member == object.end() ? kNull : *member;
}

absl::StatusOr<std::string> StringMember(const nlohmann::json& object, const char* name,
                                         size_t max_bytes) {
  const nlohmann::json& value = Member(object, name);
  if (value.is_null()) {
    return std::string();
  }
  return CheckedString(value, name, max_bytes);
}

absl::StatusOr<std::vector<std::string>> StringsMember(const nlohmann::json& object,
                                                       const char* name, size_t max_count,
                                                       size_t max_bytes) {
  std::vector<std::string> strings;
  const nlohmann::json& value = Member(object, name);
  if (value.is_null()) {
    return strings;
  }
  if (value.is_string()) {
    VIBE_ASSIGN_OR_RETURN(std::string text, CheckedString(value, name, max_bytes));
    strings.push_back(std::move(text));
    return strings;
  }
  if (!value.is_array() || value.size() > max_count) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a list, or is too long"));
  }
  for (const nlohmann::json& entry : value) {
    VIBE_ASSIGN_OR_RETURN(std::string text, CheckedString(entry, name, max_bytes));
    strings.push_back(std::move(text));
  }
  return strings;
}

}  // namespace vibe::oci
