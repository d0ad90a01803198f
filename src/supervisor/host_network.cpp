#include "supervisor/host_network.h"

#include <arpa/inet.h>

#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kMaxAddressText = INET6_ADDRSTRLEN;
constexpr uint64_t kMaxFileBytes = uint64_t{kMaxHostAddresses} * kMaxAddressText;

std::string InOneForm(const std::string& address) {
  in6_addr bytes{};
  std::array<char, INET6_ADDRSTRLEN> text{};
  for (const int family : {AF_INET, AF_INET6}) {
    if (address.size() <= kMaxAddressText && address.find('\0') == std::string::npos &&
        ::inet_pton(family, address.c_str(), &bytes) == 1) {
      return ::inet_ntop(family, &bytes, text.data(), text.size());
    }
  }
  return "";
}

bool IsRange(const std::string& range) {
  const size_t slash = range.find('/');
  int prefix = 0;
  if (slash == std::string::npos || !absl::SimpleAtoi(range.substr(slash + 1), &prefix)) {
    return false;
  }
  const std::string address = InOneForm(range.substr(0, slash));
  return !address.empty() &&
         range == absl::StrCat(address, "/", prefix) &&  // and so has no bytes but these
         prefix >= 0 && prefix <= (address.find(':') == std::string::npos ? 32 : 128);
}

absl::Status Refuse(absl::string_view what, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("the host's network has ", what, ": \"",
                                                 absl::CHexEscape(text.substr(0, 80)), "\""));
}

}  // namespace

absl::StatusOr<HostFacts> CheckHostNetwork(const v1::HostNetwork& network) {
  if (network.addresses_size() > kMaxHostAddresses || network.ranges_size() > kMaxHostRanges) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the host has ", network.addresses_size(), " addresses and ", network.ranges_size(),
        " ranges; ", kMaxHostAddresses, " and ", kMaxHostRanges, " can be kept from services"));
  }
  HostFacts facts;
  for (const std::string& text : network.addresses()) {
    std::string address = InOneForm(text);
    if (address.empty()) {
      return Refuse("an address that is none", text);
    }
    facts.addresses.insert(std::move(address));
  }
  for (const std::string& range : network.ranges()) {
    if (!IsRange(range)) {
      return Refuse("a range that is none", range);
    }
    facts.ranges.push_back(range);
  }
  return facts;
}

HostNetwork::HostNetwork(std::filesystem::path directory, std::vector<std::string> taken)
    : directory_(std::move(directory)), taken_(std::move(taken)) {
  absl::MutexLock lock(&mutex_);
  if (const auto text = ReadFile(RangesFile(), kMaxFileBytes); text.ok()) {
    UsePool(absl::StrSplit(*text, '\n', absl::SkipEmpty()));
  }
  if (const auto text = ReadFile(AddressesFile(), kMaxFileBytes); text.ok()) {
    v1::HostNetwork network;
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      network.add_addresses(std::string(line));
    }
    if (auto facts = CheckHostNetwork(network); facts.ok()) {
      addresses_ = std::move(facts->addresses);
    }
  }
}

void HostNetwork::UsePool(std::vector<std::string> ranges) {
  ranges.insert(ranges.end(), taken_.begin(), taken_.end());
  pool_ = network::AddressPool::Avoiding(ranges);
  settled_ = true;
}

absl::Status HostNetwork::Settle(const std::vector<std::string>& ranges) {
  if (settled_) {
    return absl::OkStatus();
  }
  VIBE_RETURN_IF_ERROR(ReplaceFile(RangesFile(), absl::StrJoin(ranges, "\n")));
  UsePool(ranges);
  spdlog::info("projects get their addresses of {}", pool_.ipv4());
  return absl::OkStatus();
}

absl::Status HostNetwork::Set(const HostFacts& network) {
  absl::MutexLock lock(&mutex_);
  absl::Status status = Settle(network.ranges);
  if (addresses_ == network.addresses) {
    return status;
  }
  spdlog::info("the host has {} addresses of its own", network.addresses.size());
  addresses_ = network.addresses;
  if (absl::Status kept = ReplaceFile(AddressesFile(), absl::StrJoin(network.addresses, "\n"));
      !kept.ok()) {
    RemoveAll(AddressesFile()).IgnoreError();
    status.Update(kept);
  }
  return status;
}

void HostNetwork::Forget() {
  absl::MutexLock lock(&mutex_);
  addresses_.reset();
  if (const absl::Status removed = RemoveAll(AddressesFile()); !removed.ok()) {
    spdlog::error("cannot forget the host's addresses: {}", removed.ToString());
  }
}

std::optional<std::set<std::string>> HostNetwork::addresses() const {
  absl::MutexLock lock(&mutex_);
  return addresses_;
}

network::AddressPool HostNetwork::pool() const {
  absl::MutexLock lock(&mutex_);
  return pool_;
}

absl::Status HostNetwork::SettlePool() {
  absl::MutexLock lock(&mutex_);
  return Settle({});
}

bool HostNetwork::AwaitPool(absl::Duration limit) const {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&settled_), limit);
}

}  // namespace vibe::supervisor
