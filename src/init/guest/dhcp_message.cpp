#include "init/guest/dhcp_message.h"

#include <cstring>

namespace vibe::init::guest {
namespace {

constexpr size_t kHeader = 236;
constexpr char kCookie[] = "\x63\x82\x53\x63";
constexpr size_t kSmallest = 300;  // some servers drop what is shorter

enum Option : uint8_t {
  kPad = 0,
  kNetmask = 1,
  kRouter = 3,
  kNameservers = 6,
  kHostname = 12,
  kRequestedAddress = 50,
  kLeaseTime = 51,
  kMessageType = 53,
  kServer = 54,
  kParameters = 55,
  kEnd = 255,
};

void Append(std::string& out, Option option, absl::string_view value) {
  out.push_back(static_cast<char>(option));
  out.push_back(static_cast<char>(value.size()));
  out.append(value.data(), value.size());
}

void AppendAddress(std::string& out, Option option, uint32_t address) {
  if (address != 0) {
    Append(out, option, absl::string_view(reinterpret_cast<const char*>(&address), 4));
  }
}

uint32_t Word(absl::string_view bytes) {
  uint32_t word = 0;
  if (bytes.size() >= sizeof word) {
    std::memcpy(&word, bytes.data(), sizeof word);
  }
  return word;
}

void Take(uint8_t option, absl::string_view value, DhcpReply& reply) {
  switch (option) {
    case kMessageType:
      reply.type = value.size() == 1 ? static_cast<DhcpType>(value[0]) : DhcpType::kNak;
      break;
    case kNetmask:
      reply.lease.netmask = Word(value);
      break;
    case kRouter:
      reply.lease.router = Word(value);
      break;
    case kServer:
      reply.lease.server = Word(value);
      break;
    case kLeaseTime:
      if (value.size() == 4) {
        reply.lease.seconds = __builtin_bswap32(Word(value));
      }
      break;
    case kNameservers:
      for (; value.size() >= 4; value.remove_prefix(4)) {
        reply.lease.nameservers.push_back(Word(value));
      }
      break;
    default:
      break;
  }
}

}  // namespace

std::string EncodeDhcp(const DhcpRequest& request) {
  std::string out(kHeader, '\0');
  out[0] = 1;  // a request
  out[1] = 1;  // Ethernet
  out[2] = 6;
  std::memcpy(&out[4], &request.transaction, 4);
  if (request.current == 0) {
    out[10] = static_cast<char>(0x80);  // broadcast the answer: we have no address to send it to
  }
  std::memcpy(&out[12], &request.current, 4);
  std::memcpy(&out[28], request.hardware.data(), request.hardware.size());
  out.append(kCookie, 4);
  const char type = static_cast<char>(request.type);
  Append(out, kMessageType, absl::string_view(&type, 1));
  AppendAddress(out, kRequestedAddress, request.requested);
  AppendAddress(out, kServer, request.server);
  if (!request.hostname.empty() && request.hostname.size() < 64) {
    Append(out, kHostname, request.hostname);
  }
  const char parameters[] = {kNetmask, kRouter, kNameservers, kLeaseTime, kServer};
  Append(out, kParameters, absl::string_view(parameters, sizeof parameters));
  out.push_back(static_cast<char>(kEnd));
  if (out.size() < kSmallest) {
    out.resize(kSmallest, '\0');
  }
  return out;
}

std::optional<DhcpReply> DecodeDhcp(absl::string_view packet, uint32_t transaction,
                                    const std::array<uint8_t, 6>& hardware) {
  if (packet.size() < kHeader + 4 || packet[0] != 2 || Word(packet.substr(4)) != transaction ||
      std::memcmp(packet.data() + 28, hardware.data(), hardware.size()) != 0 ||
      packet.substr(kHeader, 4) != absl::string_view(kCookie, 4)) {
    return std::nullopt;
  }
  DhcpReply reply;
  reply.type = DhcpType::kNak;
  reply.lease.address = Word(packet.substr(16));
  absl::string_view rest = packet.substr(kHeader + 4);
  while (!rest.empty() && static_cast<uint8_t>(rest[0]) != kEnd) {
    const uint8_t option = static_cast<uint8_t>(rest[0]);
    if (option == kPad) {
      rest.remove_prefix(1);
      continue;
    }
    if (rest.size() < 2 || rest.size() < 2u + static_cast<uint8_t>(rest[1])) {
      return std::nullopt;
    }
    const size_t length = static_cast<uint8_t>(rest[1]);
    Take(option, rest.substr(2, length), reply);
    rest.remove_prefix(2 + length);
  }
  if (reply.type != DhcpType::kNak && (reply.lease.address == 0 || reply.lease.netmask == 0)) {
    return std::nullopt;
  }
  return reply;
}

}  // namespace vibe::init::guest
