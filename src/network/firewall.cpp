#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/substitute.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "network/network.h"

namespace vibe::network {
namespace {

// Wherever the internet is granted, these are not the internet: this host, other projects (whose
// pool is added), neighbours by link, cloud metadata, multicast and what is reserved.
const char* const kRefused4[] = {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
                                 "240.0.0.0/4"};
const char* const kRefused6[] = {"::/127", "fd00:ec2::254/128", kPool6, "fe80::/10", "ff00::/8"};

constexpr char kHead[] = R"(table inet vibe
delete table inet vibe
table bridge vibe
delete table bridge vibe
)";

// $0 internet, $1 same bridge, $2 and $3 refused, $4 and $5 the host's own, $6 and $7 nameservers:
// sets' contents. $8 the rules for the internet.
//
// All base chains drop what no rule takes: while nft puts new chains in the place of old ones there
// may be moments in which a chain has no rules yet, or none any more, and these are to lose packets
// and not to let them through.
//
// `check_route` refuses what has no route before the kernel does: its own answer does not end the
// connecting of a program. Link-local addresses are refused by ICMP since the kernel sends them no
// resets.
//
// Same-bridge packets come by `forward` only where the kernel hands bridged packets to the
// firewall. Nothing of a project is accepted because its connection is known: what the user took
// back ends for connections that are open already.
constexpr char kInet[] = R"(table inet vibe {
  set internet {
    type ifname$0
  }
  set same_bridge {
    type ifname . ifname$1
  }
  set refused4 {
    type ipv4_addr
    flags interval
    auto-merge$2
  }
  set refused6 {
    type ipv6_addr
    flags interval
    auto-merge$3
  }
  set host4 {
    type ipv4_addr$4
  }
  set host6 {
    type ipv6_addr$5
  }
  set nameservers4 {
    type ipv4_addr$6
  }
  set nameservers6 {
    type ipv6_addr$7
  }

  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname "vibe-*" jump check_route
  }
  chain check_route {
    fib daddr type unreachable goto refuse
    fib daddr type unicast fib daddr oif missing goto refuse
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "vibe-*" goto from_project
    oifname "vibe-*" goto to_project
    accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "vibe-*" goto to_machine
    accept
  }
  chain to_machine {
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    goto refuse
  }
  chain refuse {
    ip6 daddr fe80::/10 reject with icmpx type admin-prohibited
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
$8}
)";

constexpr char kNoUplink[] = R"(
  chain from_project {
    iifname . oifname @same_bridge accept
    goto refuse
  }
  chain to_project {
    goto refuse
  }
)";

// $0 uplink, $1 pool of IPv4, $2 of IPv6.
constexpr char kUplink[] = R"(
  chain from_project {
    iifname . oifname @same_bridge accept
    iifname @internet oifname "$0" goto to_internet
    goto refuse
  }
  chain to_project {
    iifname "$0" oifname @internet ct state established,related accept
    goto refuse
  }
  chain to_internet {
    ip daddr @nameservers4 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @nameservers6 meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @refused4 goto refuse
    ip6 daddr @refused6 goto refuse
    ip daddr @host4 goto refuse
    ip6 daddr @host6 goto refuse
    accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $1 oifname "$0" masquerade
    ip6 saddr $2 oifname "$0" masquerade
  }
)";

// $0 and $1 hardware addresses with the addresses that may come from them, $2 with those that they
// may say are theirs (@nh,384,128 is the target of an IPv6 neighbour's advertisement; nft 1.0.6 has
// no word for it): sets' contents. The kernel of a service writes the hardware address; the service
// cannot change it.
constexpr char kBridge[] = R"(table bridge vibe {
  set sources4 {
    type ether_addr . ipv4_addr$0
  }
  set sources6 {
    type ether_addr . ipv6_addr$1
  }
  set targets6 {
    typeof ether saddr . @nh,384,128$2
  }

  chain prerouting {
    type filter hook prerouting priority -300; policy drop;
    ether type ip ether saddr . ip saddr @sources4 accept
    ether type arp ether saddr . arp saddr ip @sources4 arp saddr ether . arp saddr ip @sources4 accept
    icmpv6 type nd-neighbor-advert ether saddr . @nh,384,128 != @targets6 drop
    ether type ip6 ether saddr . ip6 saddr @sources6 accept
  }
}
)";

// The only sets that change while the tables are there.
struct Lists {
  std::set<std::string> internet, same_bridge, host4, host6, sources4, sources6, targets6;
};

// An address as the number that its bytes make.
std::string Number6(const std::string& address) {
  in6_addr bytes{};
  ::inet_pton(AF_INET6, address.c_str(), &bytes);
  return absl::StrCat("0x", absl::BytesToHexString(absl::string_view(
                                reinterpret_cast<const char*>(bytes.s6_addr), sizeof bytes)));
}

bool IsIpv6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// What the tables are to have of it.
FirewallState Effective(FirewallState state) {
  bool internet = false;
  for (FirewallProject& project : state.projects) {
    project.internet = project.internet && state.host.has_value();
    internet = internet || project.internet;
  }
  if (!internet) {
    state.host.reset();
  }
  return state;
}

// Of what is effective.
Lists ListsOf(const FirewallState& state, const AddressPool& pool) {
  Lists lists;
  if (state.host) {
    for (const std::string& address : *state.host) {
      (IsIpv6(address) ? lists.host6 : lists.host4).insert(address);
    }
  }
  for (const FirewallProject& project : state.projects) {
    const std::string bridge = absl::StrCat("\"", pool.SubnetOf(project.index).bridge, "\"");
    if (project.internet) {
      lists.internet.insert(bridge);
    }
    lists.same_bridge.insert(absl::StrCat(bridge, " . ", bridge));
    for (int service = 0; service < project.services; ++service) {
      const std::string hardware = pool.HardwareAddressOf(project.index, service);
      lists.sources4.insert(absl::StrCat(hardware, " . ", pool.Ipv4Of(project.index, service)));
      for (const std::string& address : {AddressPool::Ipv6Of(project.index, service),
                                         pool.LinkLocalOf(project.index, service)}) {
        lists.sources6.insert(absl::StrCat(hardware, " . ", address));
        lists.targets6.insert(absl::StrCat(hardware, " . ", Number6(address)));
      }
    }
  }
  return lists;
}

// nft refuses an empty list of elements.
template <typename List>
std::string Elements(const List& elements) {
  return elements.empty()
             ? ""
             : absl::StrCat("\n    elements = { ", absl::StrJoin(elements, ", "), " }");
}

template <typename Fixed>
std::string Merged(const Fixed& fixed, const std::vector<std::string>& added) {
  std::vector<std::string> all(std::begin(fixed), std::end(fixed));
  for (const std::string& element : added) {
    if (std::find(all.begin(), all.end(), element) == all.end()) {
      all.push_back(element);
    }
  }
  return Elements(all);
}

std::vector<std::string> OfFamily(const std::vector<std::string>& addresses, bool ipv6) {
  std::vector<std::string> chosen;
  for (const std::string& address : addresses) {
    if (IsIpv6(address) == ipv6) {
      chosen.push_back(address);
    }
  }
  return chosen;
}

void AppendChange(absl::string_view verb, absl::string_view set, const std::set<std::string>& from,
                  const std::set<std::string>& without, std::string& text) {
  std::vector<std::string> elements;
  std::set_difference(from.begin(), from.end(), without.begin(), without.end(),
                      std::back_inserter(elements));
  if (!elements.empty()) {
    absl::StrAppend(&text, verb, " element ", set, " { ", absl::StrJoin(elements, ", "), " }\n");
  }
}

// `before` and `after` without what they share.
void RemoveShared(std::vector<FirewallProject>& before, std::vector<FirewallProject>& after) {
  const auto by_index = [](const FirewallProject& a, const FirewallProject& b) {
    return std::tie(a.index, a.services, a.internet) < std::tie(b.index, b.services, b.internet);
  };
  std::sort(before.begin(), before.end(), by_index);
  std::sort(after.begin(), after.end(), by_index);
  std::vector<FirewallProject> gone, come;
  std::set_difference(before.begin(), before.end(), after.begin(), after.end(),
                      std::back_inserter(gone), by_index);
  std::set_difference(after.begin(), after.end(), before.begin(), before.end(),
                      std::back_inserter(come), by_index);
  before = std::move(gone);
  after = std::move(come);
}

std::string FindNft() {
  // A daemon that a user's session started often has no sbin in its PATH.
  for (const char* path : {"/usr/sbin/nft", "/sbin/nft"}) {
    if (::access(path, X_OK) == 0) {
      return path;
    }
  }
  return "nft";
}

}  // namespace

std::string FirewallText(const FirewallState& state, const FirewallOptions& options) {
  const Lists lists = ListsOf(Effective(state), options.pool);
  std::vector<std::string> blocked4 = {options.pool.ipv4()};
  blocked4.insert(blocked4.end(), options.blocked4.begin(), options.blocked4.end());
  const std::string uplink = options.uplink.empty() ? kNoUplink
                                                    : absl::Substitute(kUplink, options.uplink,
                                                                       options.pool.ipv4(), kPool6);
  return absl::StrCat(
      kHead,
      absl::Substitute(kInet, Elements(lists.internet), Elements(lists.same_bridge),
                       Merged(kRefused4, blocked4), Merged(kRefused6, options.blocked6),
                       Elements(lists.host4), Elements(lists.host6),
                       Elements(OfFamily(options.nameservers, false)),
                       Elements(OfFamily(options.nameservers, true)), uplink),
      absl::Substitute(kBridge, Elements(lists.sources4), Elements(lists.sources6),
                       Elements(lists.targets6)));
}

std::string FirewallChange(const FirewallState& before, const FirewallState& after,
                           const FirewallOptions& options) {
  FirewallState gone = Effective(before), come = Effective(after);
  RemoveShared(gone.projects, come.projects);
  const Lists old_lists = ListsOf(gone, options.pool);
  const Lists new_lists = ListsOf(come, options.pool);
  std::string text;
  const auto change = [&](absl::string_view set, const std::set<std::string> Lists::*list) {
    AppendChange("delete", set, old_lists.*list, new_lists.*list, text);
    AppendChange("add", set, new_lists.*list, old_lists.*list, text);
  };
  change("inet vibe host4", &Lists::host4);
  change("inet vibe host6", &Lists::host6);
  change("inet vibe internet", &Lists::internet);
  change("inet vibe same_bridge", &Lists::same_bridge);
  change("bridge vibe sources4", &Lists::sources4);
  change("bridge vibe sources6", &Lists::sources6);
  change("bridge vibe targets6", &Lists::targets6);
  return text;
}

absl::Status ApplyFirewall(const std::string& text) {
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult result,
                        RunSubprocess({.args = {FindNft(), "-f", "-"}, .input = text, .env = {}}));
  if (result.exit_code == 0) {
    return absl::OkStatus();
  }
  const std::vector<absl::string_view> lines =
      absl::StrSplit(absl::StripAsciiWhitespace(result.err), '\n');
  return absl::InternalError(absl::StrCat("nft refused the firewall: ", lines.front()));
}

}  // namespace vibe::network
