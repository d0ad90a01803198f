// Fields of a JSON document from outside. A field that is missing or of another type reads as
// empty, so that an older or a newer vibed breaks nothing that it need not. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace vibe::cli {

using Json = nlohmann::json;

std::string StringAt(const Json& object, const char* key);
bool BoolAt(const Json& object, const char* key);
std::optional<int64_t> NumberAt(const Json& object, const char* key);
uint64_t UnsignedAt(const Json& object, const char* key);   // 0 when missing or negative
const Json& ObjectAt(const Json& object, const char* key);  // an empty object when missing
const Json& ArrayAt(const Json& object, const char* key);   // an empty array when missing

// One line; text that is not UTF-8 is replaced.
std::string Dump(const Json& value);

}  // namespace vibe::cli
