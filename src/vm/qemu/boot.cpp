#include "vm/qemu/boot.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace vibe::vm::qemu {
namespace {

using nlohmann::json;

constexpr Transport kTransports[] = {Transport::kVhost, Transport::kDevice, Transport::kSerial};

template <typename Number>
bool Read(const json& document, const char* key, Number& number) {
  const auto found = document.find(key);
  if (found == document.end() || !found->is_number_unsigned() ||
      found->get<uint64_t>() > std::numeric_limits<Number>::max()) {
    return false;
  }
  number = found->get<Number>();
  return true;
}

}  // namespace

absl::string_view TransportName(Transport transport) {
  switch (transport) {
    case Transport::kVhost:
      return "vhost-vsock";
    case Transport::kDevice:
      return "vhost-device-vsock";
    case Transport::kSerial:
      return "virtio-serial";
  }
  return "";
}

std::string FormatBoot(const Boot& boot) {
  return json{{"transport", TransportName(boot.transport)},
              {"kvm", boot.kvm},
              {"cid", boot.cid},
              {"forwardPort", boot.forward_port},
              {"secret", boot.secret},
              {"resumed", boot.resumed},
              {"madeOf", boot.made_of}}
             .dump(2) +
         "\n";
}

absl::StatusOr<Boot> ParseBoot(absl::string_view text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const absl::Status wrong = absl::InvalidArgumentError("not the description of a boot");
  if (!document.is_object() || !document.contains("transport") || !document.contains("kvm") ||
      !document["kvm"].is_boolean() || !document.contains("secret") ||
      !document["secret"].is_string() || !document.contains("resumed") ||
      !document["resumed"].is_boolean() || !document.contains("madeOf") ||
      !document["madeOf"].is_string()) {
    return wrong;
  }
  Boot boot;
  boot.kvm = document["kvm"].get<bool>();
  boot.secret = document["secret"].get<std::string>();
  boot.resumed = document["resumed"].get<bool>();
  boot.made_of = document["madeOf"].get<std::string>();
  if (!Read(document, "cid", boot.cid) || !Read(document, "forwardPort", boot.forward_port)) {
    return wrong;
  }
  for (const Transport transport : kTransports) {
    if (document["transport"] == std::string(TransportName(transport))) {
      boot.transport = transport;
      return boot;
    }
  }
  return wrong;
}

}  // namespace vibe::vm::qemu
