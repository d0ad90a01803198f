#include "state/json_fields.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "state/metadata.h"

namespace vibe::state {

absl::StatusOr<nlohmann::json> ParseDocument(absl::string_view text, absl::string_view what) {
  nlohmann::json document =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  const auto damaged = [&](absl::string_view why) {
    return Error(absl::StatusCode::kDataLoss, Reason::kSnapshotMismatch,
                 absl::StrCat(what, " is damaged: ", why));
  };
  if (document.is_discarded() || !document.is_object()) {
    return damaged("it is no JSON object");
  }
  const auto version = document.find("schemaVersion");
  if (version == document.end() || !version->is_number_unsigned() ||
      version->get<uint64_t>() == 0) {
    return damaged("it has no schemaVersion");
  }
  if (version->get<uint64_t>() > kSchemaVersion) {
    return WithAdvice(Error(absl::StatusCode::kFailedPrecondition, Reason::kSnapshotMismatch,
                            absl::StrCat(what, " was written by a newer version of vibe (schema ",
                                         version->get<uint64_t>(), ", this one reads up to ",
                                         kSchemaVersion, ")")),
                      "update vibe to use it");
  }
  return document;
}

const nlohmann::json* FieldReader::Find(const char* key, bool required) {
  const auto found = object_.find(key);
  if (found == object_.end()) {
    if (required) {
      Fail(key, "present");
    }
    return nullptr;
  }
  return &*found;
}

void FieldReader::Fail(absl::string_view key, absl::string_view expected) {
  if (error_.empty()) {
    error_ = absl::StrCat("\"", key, "\" is not ", expected);
  }
}

std::string FieldReader::Text(const char* key) {
  const nlohmann::json* value = Find(key, true);
  if (value == nullptr || value->is_null()) {
    return "";
  }
  if (!value->is_string()) {
    Fail(key, "a string");
    return "";
  }
  return value->get<std::string>();
}

std::string FieldReader::OptionalText(const char* key) {
  return Find(key, false) == nullptr ? "" : Text(key);
}

uint64_t FieldReader::Number(const char* key) {
  const nlohmann::json* value = Find(key, true);
  if (value == nullptr || !value->is_number_unsigned()) {
    Fail(key, "a number");
    return 0;
  }
  return value->get<uint64_t>();
}

bool FieldReader::Flag(const char* key) {
  const nlohmann::json* value = Find(key, true);
  if (value == nullptr || !value->is_boolean()) {
    Fail(key, "true or false");
    return false;
  }
  return value->get<bool>();
}

const nlohmann::json& FieldReader::Object(const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::object();
  const nlohmann::json* value = Find(key, true);
  if (value == nullptr || !value->is_object()) {
    Fail(key, "an object");
    return kEmpty;
  }
  return *value;
}

const nlohmann::json& FieldReader::Array(const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::array();
  const nlohmann::json* value = Find(key, true);
  if (value == nullptr || !value->is_array()) {
    Fail(key, "a list");
    return kEmpty;
  }
  return *value;
}

}  // namespace vibe::state
