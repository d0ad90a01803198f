#include "cli/json_fields.h"

#include <limits>

namespace vibe::cli {
namespace {

const Json* Find(const Json& object, const char* key) {
  if (!object.is_object()) {
    return nullptr;
  }
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

}  // namespace

std::string StringAt(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

bool BoolAt(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

std::optional<int64_t> NumberAt(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number_integer()) {
    return std::nullopt;
  }
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return value->get<int64_t>();
}

uint64_t UnsignedAt(const Json& object, const char* key) {
  const std::optional<int64_t> number = NumberAt(object, key);
  return number && *number > 0 ? static_cast<uint64_t>(*number) : 0;
}

const Json& ObjectAt(const Json& object, const char* key) {
  static const Json* const kEmpty = new Json(Json::object());
  const Json* value = Find(object, key);
  return value != nullptr && value->is_object() ? *value : *kEmpty;
}

const Json& ArrayAt(const Json& object, const char* key) {
  static const Json* const kEmpty = new Json(Json::array());
  const Json* value = Find(object, key);
  return value != nullptr && value->is_array() ? *value : *kEmpty;
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace vibe::cli
