// A project's network in the machine: one bridge with its own subnet, one network namespace per
// service with an address that the plan fixed, and our nftables table that says who may talk to
// whom.
//
// AddressPlan and FirewallText are pure. The functions that touch the kernel may be called from any
// thread; calls for one project must not overlap. All are idempotent: what is there already, or
// gone already, is a success.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vibe::network {

// Project number `index` (0..4095) has 10.64.0.0/10's and fd76:6962:65::/48's part of that number:
// a /22 of IPv4 (gateway .1, services from .2) and a /64 of IPv6.
inline constexpr int kMaxProjects = 4096;
struct Subnet {
  std::string bridge;        // interface name, at most 15 characters: "vibe-<index>"
  std::string ipv4_subnet;   // "10.64.4.0/22"
  std::string ipv4_gateway;  // "10.64.4.1"
  std::string ipv6_subnet;   // "fd76:6962:65:1::/64"
  std::string ipv6_gateway;
  int prefix4 = 22;
  int prefix6 = 64;
};
Subnet SubnetOf(int index);
std::string Ipv4Of(int index, int service);  // service from 0
std::string Ipv6Of(int index, int service);

struct FirewallProject {
  int index = 0;
  bool internet = false;
};
// The whole table `inet vibe` as input of `nft -f`: it deletes and makes the table in one
// transaction. Same project yes; other projects, the machine's own addresses and services, the
// NAT's host addresses (blocked4/blocked6), link-local and metadata addresses no; the internet when
// granted. Refused connections are rejected, not dropped.
struct FirewallOptions {
  std::vector<std::string> blocked4 = {};  // CIDRs of the NAT: {"10.0.2.0/24"}
  std::vector<std::string> blocked6 = {};
  std::string uplink = {};  // masquerade when leaving here: "tap0"; empty: no way out
  std::vector<std::string> nameservers = {};  // may be asked although a blocked range has them
};
std::string FirewallText(const std::vector<FirewallProject>& projects,
                         const FirewallOptions& options);
absl::Status ApplyFirewall(const std::string& text);

struct Endpoint {
  std::string name;  // of the network namespace: unique, [a-z0-9-]
  int project_index = 0;
  int service_index = 0;
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
