#include "supervisor/listeners.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace vibe::supervisor {
namespace {

constexpr absl::string_view kListening = "0A";
constexpr size_t kWordDigits = 8;

// An address as the tables have it: words of four bytes in network order, each printed as a number
// of this machine's byte order.
template <size_t kBytes>
std::optional<std::array<uint8_t, kBytes>> ReadAddress(absl::string_view hex) {
  std::array<uint8_t, kBytes> address{};
  if (hex.size() != kBytes * 2) {
    return std::nullopt;
  }
  for (size_t i = 0; i < kBytes / sizeof(uint32_t); ++i) {
    uint32_t word = 0;
    if (!absl::SimpleHexAtoi(hex.substr(i * kWordDigits, kWordDigits), &word)) {
      return std::nullopt;
    }
    std::memcpy(address.data() + i * sizeof word, &word, sizeof word);
  }
  return address;
}

// What is listened on at `port`: the addresses of the lines that say so.
std::vector<absl::string_view> ListenersOf(absl::string_view table, uint16_t port) {
  std::vector<absl::string_view> found;
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    // "sl local_address rem_address st …"
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 4 || words[3] != kListening) {
      continue;
    }
    const std::vector<absl::string_view> local = absl::StrSplit(words[1], ':');
    uint32_t number = 0;
    if (local.size() == 2 && absl::SimpleHexAtoi(local[1], &number) && number == port) {
      found.push_back(local[0]);
    }
  }
  return found;
}

std::string Text(int family, const void* address) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(family, address, text, sizeof text);
  return text;
}

}  // namespace

std::optional<std::string> LoopbackListener(absl::string_view tcp, absl::string_view tcp6,
                                            uint16_t port) {
  std::optional<std::string> loopback;
  for (const absl::string_view hex : ListenersOf(tcp, port)) {
    const auto address = ReadAddress<sizeof(in_addr)>(hex);
    if (!address || (*address)[0] != 127) {
      return std::nullopt;
    }
    loopback = Text(AF_INET, address->data());
  }
  for (const absl::string_view hex : ListenersOf(tcp6, port)) {
    const auto bytes = ReadAddress<sizeof(in6_addr)>(hex);
    if (!bytes) {
      return std::nullopt;
    }
    in6_addr address{};
    std::memcpy(&address, bytes->data(), sizeof address);
    const bool is_mapped = IN6_IS_ADDR_V4MAPPED(&address) && (*bytes)[12] == 127;
    if (!is_mapped && !IN6_IS_ADDR_LOOPBACK(&address)) {
      return std::nullopt;
    }
    if (!loopback) {
      loopback = is_mapped ? Text(AF_INET, bytes->data() + 12) : Text(AF_INET6, bytes->data());
    }
  }
  return loopback;
}

}  // namespace vibe::supervisor
