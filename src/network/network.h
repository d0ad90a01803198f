// A project's network in the machine: one bridge with its own subnet, one network namespace per
// service with addresses that the plan fixed, and our nftables tables that say who may talk to
// whom. docs/network.md has the whole.
//
// AddressPool and the texts for nft are pure. The functions that touch the kernel may be called
// from any thread; calls for one project must not overlap. All are idempotent: what is there
// already, or gone already, is a success.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::network {

inline constexpr int kMaxProjects = 4096;
inline constexpr int kMaxServices = 1000;  // of the 1021 addresses that a /22 has left
inline constexpr char kPool6[] = "fd76:6962:65::/48";

struct Subnet {
  std::string bridge;        // interface name, at most 15 characters: "vibe-<index>"
  std::string ipv4_subnet;   // "10.64.4.0/22"
  std::string ipv4_gateway;  // "10.64.4.1"
  std::string ipv6_subnet;   // "fd76:6962:65:1::/64"
  std::string ipv6_gateway;
  int prefix4 = 22;
  int prefix6 = 64;

  bool operator==(const Subnet&) const = default;
};

// Where the projects' addresses come from: a /10 of IPv4, in which project number `index`
// (0..4095) has the /22 of that number (gateway .1, services from .2), and fd76:6962:65::/48, in
// which it has a /64.
class AddressPool {
 public:
  AddressPool() = default;  // 10.64.0.0/10

  // The first of 10.64.0.0/10, 10.128.0.0/10, 10.192.0.0/10 and 100.64.0.0/10 that overlaps with
  // none of `taken` ("10.8.0.0/24"; what is no IPv4 range is passed over, and so is 0.0.0.0/0);
  // the first of all when each does.
  static AddressPool Avoiding(const std::vector<std::string>& taken);

  std::string ipv4() const;  // "10.64.0.0/10"
  Subnet SubnetOf(int index) const;
  std::string Ipv4Of(int index, int service) const;  // service from 0
  static std::string Ipv6Of(int index, int service);
  // Of the service's interface: made of its IPv4 address. What IPv6 makes of that by itself is
  // the other address.
  std::string HardwareAddressOf(int index, int service) const;  // "02:76:0a:40:04:02"
  std::string LinkLocalOf(int index, int service) const;        // "fe80::76:aff:fe40:402"

  bool operator==(const AddressPool&) const = default;

 private:
  explicit AddressPool(uint32_t base4) : base4_(base4) {}
  uint32_t base4_ = (10U << 24) | (64U << 16);
};

// ---- the firewall

struct FirewallProject {
  int index = 0;
  int services = 0;  // their numbers are 0..services-1
  bool internet = false;

  bool operator==(const FirewallProject&) const = default;
};

// What changes while the tables are there.
struct FirewallState {
  std::vector<FirewallProject> projects = {};
  // The addresses of the host, in inet_ntop's form; nullopt while they are not known: until then
  // nobody has the internet, which the host is behind.
  std::optional<std::set<std::string>> host = std::nullopt;
};

struct FirewallOptions {
  AddressPool pool = {};
  std::vector<std::string> blocked4 = {};  // CIDRs of the NAT: {"10.0.2.0/24"}
  std::vector<std::string> blocked6 = {};
  std::string uplink = {};  // masquerade when leaving here: "tap0"; empty: no way out
  std::vector<std::string> nameservers = {};  // may be asked although a blocked range has them
};

// The tables `inet vibe` and `bridge vibe` as input of `nft -f`, which deletes and makes them in
// one transaction. Same project yes; other projects, the machine's own addresses and services, the
// NAT's network (blocked4/blocked6), the host's own addresses, link-local and metadata addresses
// no; the internet when granted, for connections that are open already too; no frame of a service
// with an address that is not its own. What is refused is rejected, not dropped. What is in no list
// gets nothing. The host's addresses are listed while somebody has the internet.
std::string FirewallText(const FirewallState& state, const FirewallOptions& options);
// What makes the tables of `before` those of `after`, in one transaction that touches no other
// project; empty when they are the same. Its length is that of the difference.
std::string FirewallChange(const FirewallState& before, const FirewallState& after,
                           const FirewallOptions& options);
absl::Status ApplyFirewall(const std::string& text);

// ---- what the kernel has

struct Endpoint {
  std::string name;  // of the network namespace: unique, [a-z0-9-]
  int project_index = 0;
  int service_index = 0;
  AddressPool pool = {};
};
struct NetworkPaths {
  std::filesystem::path cni_plugins = "/usr/lib/cni";
  std::filesystem::path namespaces = "/run/netns";
};
// Makes the network namespace and attaches it to the project's bridge through CNI (plugins loopback
// and bridge, IPAM static). Returns the path of the namespace.
// `on_namespace` (may be empty) is called once, as soon as the namespace is there and can be
// joined, which is long before it is attached; not at all on an early error.
absl::StatusOr<std::string> AddEndpoint(const NetworkPaths& paths, const Endpoint& endpoint,
                                        const std::function<void()>& on_namespace = {});
absl::Status RemoveEndpoint(const NetworkPaths& paths, const Endpoint& endpoint);
absl::Status RemoveBridge(int project_index);

}  // namespace vibe::network
