#include "host/api_error.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::host {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 16;

}  // namespace

json ErrorJson(const absl::Status& status) {
  const auto reason = ReasonOf(status);
  return json{{"code", absl::StatusCodeToString(status.code())},
              {"reason", reason ? std::string(ReasonName(*reason)) : ""},
              {"message", std::string(status.message())},
              {"advice", AdviceOf(status)},
              {"service", ServiceOf(status)},
              {"log", LogOf(status)}};
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return ReasonOf(status) == Reason::kDiskLow ? 507 : 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string DumpJson(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

BodyReader::BodyReader(json object, std::string prefix)
    : object_(std::move(object)), prefix_(std::move(prefix)) {}

absl::StatusOr<BodyReader> BodyReader::Parse(absl::string_view body) {
  if (body.empty()) {
    return BodyReader(json::object(), "");
  }
  bool too_deep = false;
  const auto check_depth = [&](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  json object = json::parse(body.begin(), body.end(), check_depth, /*allow_exceptions=*/false);
  if (too_deep || !object.is_object()) {
    return absl::InvalidArgumentError("the request's body is not a JSON object");
  }
  return BodyReader(std::move(object), "");
}

const json* BodyReader::Take(const std::string& name) {
  known_.push_back(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void BodyReader::Fail(const std::string& name, absl::string_view expected) {
  error_.Update(absl::InvalidArgumentError(absl::StrCat(prefix_, name, " must be ", expected)));
}

std::optional<std::string> BodyReader::String(const std::string& name) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string() || value->get_ref<const std::string&>().find('\0') != std::string::npos) {
    Fail(name, "a string without zero bytes");
    return std::nullopt;
  }
  return value->get<std::string>();
}

std::optional<bool> BodyReader::Bool(const std::string& name) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    Fail(name, "true or false");
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<uint32_t> BodyReader::Number(const std::string& name, uint32_t max) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_number_unsigned() || value->get<uint64_t>() > max) {
    Fail(name, absl::StrCat("a whole number from 0 to ", max));
    return std::nullopt;
  }
  return value->get<uint32_t>();
}

std::optional<std::vector<std::string>> BodyReader::Strings(const std::string& name,
                                                            size_t max_count) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_array() || value->size() > max_count ||
      !std::all_of(value->begin(), value->end(), [](const json& item) {
        return item.is_string() &&
               item.get_ref<const std::string&>().find('\0') == std::string::npos;
      })) {
    Fail(name, absl::StrCat("a list of at most ", max_count, " strings"));
    return std::nullopt;
  }
  return value->get<std::vector<std::string>>();
}

std::optional<std::vector<std::pair<std::string, std::string>>> BodyReader::StringMap(
    const std::string& name, size_t max_count) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<std::pair<std::string, std::string>> result;
  if (value->is_object() && value->size() <= max_count) {
    for (const auto& [key, item] : value->items()) {
      if (item.is_string() && item.get_ref<const std::string&>().find('\0') == std::string::npos &&
          !key.empty() && key.find('\0') == std::string::npos &&
          key.find('=') == std::string::npos) {
        result.emplace_back(key, item.get<std::string>());
      }
    }
    if (result.size() == value->size()) {
      return result;
    }
  }
  Fail(name, absl::StrCat("an object of at most ", max_count, " strings"));
  return std::nullopt;
}

std::optional<BodyReader> BodyReader::Object(const std::string& name) {
  const json* value = Take(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_object()) {
    Fail(name, "an object");
    return std::nullopt;
  }
  return BodyReader(*value, absl::StrCat(prefix_, name, "."));
}

absl::Status BodyReader::Finish() const {
  VIBE_RETURN_IF_ERROR(error_);
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the request has an unknown member ", prefix_, name));
    }
  }
  return absl::OkStatus();
}

}  // namespace vibe::host
